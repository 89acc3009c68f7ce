"""Target .pt2: a program of torch.export."""

ENDING = ".pt2"
