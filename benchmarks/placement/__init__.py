"""Where backward connections help: every architecture of a space small enough to be trained in full."""
