"""OpenGL: the template renderer and the stores that keep what it drew."""
