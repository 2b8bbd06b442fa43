"""Numpy only: rigid motions, cameras, crops, rotation bins and symmetries."""
