"""The supernet: weights that all candidates share, how they are trained, and the accuracies they give."""
