"""CUDA graphs: calls that are captured once and replayed, as exact as plain ones."""
