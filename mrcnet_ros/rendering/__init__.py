"""OpenGL: the template renderer and the stores of its pictures."""
