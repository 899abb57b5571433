"""A graph to train with."""

import pytest


@pytest.fixture(scope="session")
def graph() -> bytes:
    """The exported ranker of rank 4 and batch 16; needs TensorFlow, which the models extra brings."""
    data: bytes = pytest.importorskip("models.export").export_ranker(rank=4, batch=16)
    return data
