"""Functions of arrays: rigid motions, cameras, crops, rotation bins and symmetries."""
