"""The rows of the paper's Table 4, one a file: complete networks with the settings of their search."""
