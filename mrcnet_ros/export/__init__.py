"""Traceable graphs and the model directory that the estimator reads."""
