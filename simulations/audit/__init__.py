"""The audit of our own privacy claim: canaries in a run of the real pipeline, then a verdict.

`pipeline` runs real devices, strategy, mechanism and ledger with canaries in them; `verdict` reads
the claim from the ledger and puts it to the test with `privacy.audit`; `membership` attacks a
published model. ``homebody privacy audit`` prints all of it.

What a verdict says: with `verdict.FALSE_ALARM` as the probability that a pipeline that keeps its
promise is accused, no look contradicts the claim, and the canaries could be seen. What it does not
say: that no other leak exists. The looks see wrong noise, clipping and participation in what is
published; they do not see who reads the server's memory, nor the network.
"""
