"""The parts of a network in torch: neurons, surrogates, norms, initialization."""
