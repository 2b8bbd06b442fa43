"""Synthetic images, targets, the trainer and its checkpoints."""
