"""Targets: a program as a module or as a file."""
