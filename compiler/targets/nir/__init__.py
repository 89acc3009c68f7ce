"""Target NIR: a temporal graph as a file of the Neuromorphic Intermediate Representation."""

ENDING = ".nir"
