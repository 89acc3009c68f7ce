"""How architectures are chosen: the first population, evolution, and the samplers it is compared with."""
