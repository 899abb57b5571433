"""Privacy: what may leave the house, how much noise covers it, and what it cost.

`gaussian` is the exact curve of the Gaussian mechanism; `events` says what was released;
`accounting` interprets events; `noise`, `bounded_sum` and `mechanisms` make a release; `budget`
decides whether one may happen. The folder has no input or output: the ledger's storage is
`aggregator.ledger`.
"""
