"""What all file targets share: the request, the proof of a file against torch, folding."""
