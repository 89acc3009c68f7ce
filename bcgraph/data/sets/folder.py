"""A folder of images, a folder for each class."""

from bcgraph.data.folders import load_folder as load

__all__ = ["load"]
