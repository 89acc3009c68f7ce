"""CIFAR-10: 60,000 images of 10 classes."""

from bcgraph.data.cifar import load_cifar10 as load

__all__ = ["load"]
