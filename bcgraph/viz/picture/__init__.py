"""Pictures of networks: the layout as a pure function, and painters that draw what it says."""
