"""Passes over the projections of connections: which run as vectors, which run together, and when their norms do."""
