"""Training-free scores: one network, many candidates, and how far a ranking can be trusted."""
