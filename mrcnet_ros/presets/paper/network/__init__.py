"""The published network in PyTorch, its labels and its losses."""
