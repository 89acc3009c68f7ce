"""Predictors: what the measures of many candidates say of each of them."""
