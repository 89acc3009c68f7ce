"""Target torch.fx: a program as a `GraphModule`."""
