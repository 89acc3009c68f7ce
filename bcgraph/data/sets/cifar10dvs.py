"""CIFAR10-DVS: 10,000 recordings of an event camera."""

from bcgraph.data.events import load_cifar10dvs as load

__all__ = ["load"]
