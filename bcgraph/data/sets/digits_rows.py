"""scikit-learn's digits as sequences of rows."""

from bcgraph.data.digits import load_rows as load
from bcgraph.schema import SequenceInput

__all__ = ["FORM", "load"]

FORM = (SequenceInput(1, 1, 8), 8)
