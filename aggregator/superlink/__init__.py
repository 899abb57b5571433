"""The second binding of the strategy: a real Flower SuperLink, over TLS, with node keys.

`certificates` makes a private certificate authority, `process` runs ``flower-superlink``, `control`
registers nodes and opens a run as a Flower `Grid`, `round` runs one task over it with devices in
threads, for the demo, the tests and the benchmark. Flower's internals are touched here and in
`client_sdk.federation.flower_device` only; tests/aggregator/test_superlink.py pins them.
"""
