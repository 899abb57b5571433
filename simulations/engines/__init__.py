"""Engines of a simulation: other ways to ask people than through a real device each.

Each is an `aggregator.strategy.TaskStrategy`, so that a campaign does not know which one it has.
"""
