"""Surrogates, one a file: the file `atan.bcg` defines the surrogate `atan`."""
