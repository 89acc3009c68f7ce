"""The predictors of bcgraph itself, a module each, which has the name that texts use and declares `PREDICTOR`."""
