"""Checkpoints of a simulation: kill it at any moment, and it goes on to the same result.

`files` is what lies on the disk, `fingerprint` says whether two simulations are the same one,
`memory` is what simulated people remember, `resuming` makes tasks and runs be done once over all
processes that work on a simulation, and `training` trains a table that way.

What was looked at, and not taken:

| option | why not |
|---|---|
| the ledger in the checkpoint | putting a ledger back counts what was spent as not spent |
| people's memory in the run's store | one transaction, but a simulation's state in real databases |
| every k-th round | the store of runs is a round ahead then, and a round is never asked again |

So a checkpoint is written before each round is closed, the one before it is kept, and the store of
runs says which of the two fits. The cost is one file a round: 23 bytes for each simulated person,
10 more for each person and run, and 8 for each contribution so far.
"""
