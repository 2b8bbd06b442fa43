"""A demonstration: synthetic camera, the node in its own process, errors against the truth."""
