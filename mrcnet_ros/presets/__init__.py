"""The presets side by side: what differs between networks, and one loader for all of them."""
