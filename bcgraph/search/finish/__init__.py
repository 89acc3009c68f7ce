"""The last stage of a search: the best networks are trained as their file says, beside the one without connections."""
