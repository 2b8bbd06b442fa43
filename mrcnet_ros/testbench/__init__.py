"""What plays the other side of the node: bags, camera and listener, soak and fuzz runs."""
