"""Torch only: the MRC-Net modules and their losses; no input or output, no renderer."""
