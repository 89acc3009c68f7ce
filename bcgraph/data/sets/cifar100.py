"""CIFAR-100: 60,000 images of 100 classes."""

from bcgraph.data.cifar import load_cifar100 as load

__all__ = ["load"]
