"""scikit-learn's digits as images."""

from bcgraph.data.digits import load_images as load
from bcgraph.schema import ImageInput

__all__ = ["FORM", "load"]

FORM = (ImageInput(1, 8, 8), 1)
