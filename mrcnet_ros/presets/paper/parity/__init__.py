"""Comparing this implementation with reference values of the published one."""
