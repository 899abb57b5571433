"""Scenarios: one file and a seed say who is there, what goes wrong, and who attacks.

`reading.read_scenario` reads the file, `conditions.Conditions` says how people are at a round,
`simulations.engines.crowd.Crowd` applies it, `attacks.HostilePool` does what hostile devices do;
``python -m simulations.scenarios FILE`` runs all of it on the kernel.
"""
