"""Neurons and surrogates as definitions: what a call gives them, and the equations that follow."""
