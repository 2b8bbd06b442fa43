"""The mrcnet command; nothing imports this package."""
