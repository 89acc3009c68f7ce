"""Tiny ImageNet: 110,000 images of 200 classes."""

from bcgraph.data.folders import load_tiny_imagenet as load

__all__ = ["load"]
