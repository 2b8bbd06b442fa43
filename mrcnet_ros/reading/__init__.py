"""Strict reading of files: text, numbers, pictures. What cannot be trusted is refused."""
