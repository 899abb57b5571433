"""A small release and people for it, drawn from a seed."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client_sdk.intelligence import History, ItemCategories, ItemWords

N_ITEMS = 40
NOW_S = 1.0e9


@pytest.fixture
def make_history() -> Callable[..., History]:
    """Make a history of m items with counts and times."""

    def make(seed: int = 0, m: int = 7) -> History:
        rng = np.random.default_rng(seed + 1000)
        return History(
            items=np.sort(rng.permutation(N_ITEMS)[:m]).astype(np.int32),
            counts=rng.integers(1, 5, m).astype(np.float32),
            last_time_s=NOW_S - rng.random(m) * 1e7,
            now_s=NOW_S,
        )

    return make


@pytest.fixture
def categories() -> ItemCategories:
    """Five categories, one of them without a name."""
    names = ["", "cups", "lamps", "tins", "toys"]
    return ItemCategories.from_names([names[i * i % 5] for i in range(N_ITEMS)])


@pytest.fixture
def words() -> ItemWords:
    """Names that share some words; one item has none."""
    colours, things = ["red", "blue", "white"], ["cup", "lamp", "tin", "toy", "bag"]
    names = [f"{colours[i % 3]} {things[i % 5]} {'vintage' * (i % 2)}" for i in range(N_ITEMS)]
    names[11] = ""
    return ItemWords.from_names(names)


@pytest.fixture(scope="session")
def small_graph() -> bytes:
    """The exported ranker of rank 4 and batch 8.

    ``make runtimes`` exports it once and names the file, for environments without TensorFlow.
    """
    exported = os.environ.get("HOMEBODY_TEST_GRAPH")
    if exported:
        return Path(exported).read_bytes()
    return pytest.importorskip("models.export").export_ranker(rank=4, batch=8)
