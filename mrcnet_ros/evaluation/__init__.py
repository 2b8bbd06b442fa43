"""Pose errors, scores, calibration and reports."""
