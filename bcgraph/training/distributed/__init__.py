"""Training in several processes: Fabric, the launcher, the process group, what batch norms and gradients exchange."""
