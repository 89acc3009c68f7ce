"""Convolutions: folded for inference, with frozen weights, in 16 bits, by Winograd, and the guard of oneDNN's calls."""
