"""Homebody's kernel engine beside pfl-research and Flower's simulation, on one workload."""
