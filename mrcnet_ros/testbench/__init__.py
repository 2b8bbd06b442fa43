"""The other side of the node in tests: bags, a camera, a listener, soak and fuzz runs."""
