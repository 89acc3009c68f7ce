"""Target Python: a program as readable PyTorch text."""

ENDING = ".py"
