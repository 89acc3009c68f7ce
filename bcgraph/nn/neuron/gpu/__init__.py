"""Neurons on a GPU: Triton kernels written from a neuron's equations."""
