"""Training in several processes: Fabric, the launcher, the process group, synchronized batch norm."""
