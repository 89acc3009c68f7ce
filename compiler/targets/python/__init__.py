"""Target Python: a program as readable PyTorch text."""
