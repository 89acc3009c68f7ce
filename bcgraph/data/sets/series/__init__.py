"""Sequences of vectors and of rows."""
