"""The presets, and one loader for all of them."""
