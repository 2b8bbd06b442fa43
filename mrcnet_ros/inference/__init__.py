"""Runtimes behind one protocol, and the estimator that goes from image to poses."""
