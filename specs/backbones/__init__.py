"""Backbones, one a file: the file `resnet18.bcg` defines the block `resnet18`."""
