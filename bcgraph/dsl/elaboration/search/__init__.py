"""The section `search` of a text: the space, the objectives and the bounds, and all other settings."""
