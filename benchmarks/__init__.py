"""Figures measured side by side, by hand or by `make bench`; never a part of the test suite."""
