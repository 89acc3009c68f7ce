"""Equations of neurons and surrogates as frozen values: what they are, how they simplify, and their derivatives."""
