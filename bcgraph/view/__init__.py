"""`bcgraph view`: a local page of a network whose connections are switched on and off, or of a search while it runs."""
