"""Populations of any size, made to look like real events: `fit`, then `generate`.

What is kept of the real events is a `PopulationModel`: shares, never a person. A model and a seed
give the same people on every machine.
"""
