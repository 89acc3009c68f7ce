"""Neurons, one a file: the file `plif.bcg` defines the neuron `plif`."""
