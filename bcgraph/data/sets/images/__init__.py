"""Still images."""
