"""Neurons in torch: their equations as kernels on blocks of the batch, for autograd, and as plain operations."""
