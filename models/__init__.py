"""Model definitions, decoders of noisy sums, export with a parity gate, model cards.

Importing this package loads no TensorFlow; `models.ranker_graph`, `models.export` and
`models.parity` load it when they are imported.
"""
