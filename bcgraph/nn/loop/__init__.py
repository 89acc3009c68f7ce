"""Feedback loops of vectors, as one function for autograd."""
