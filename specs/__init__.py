"""The standard library of the language: backbones and complete networks, as `.bcg` files."""
