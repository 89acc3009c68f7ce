"""Training-free scores: of one network, of many candidates, and the audit of a ranking."""
