"""A small release and people for it, drawn from a seed."""

from collections.abc import Callable

import numpy as np
import pytest

from client_sdk.intelligence import History, ItemCategories, ItemWords, RankerSettings, RankerTable

N_ITEMS = 40
RANK = 6
NOW_S = 1.0e9


@pytest.fixture
def make_table() -> Callable[..., RankerTable]:
    """Make a table in the factored EASE form, a quarter of it without factors."""

    def make(seed: int = 0, **settings: object) -> RankerTable:
        rng = np.random.default_rng(seed)
        factors = (rng.standard_normal((N_ITEMS, RANK)) * 0.25).astype(np.float32)
        # Shorter than 1, so that the self weight is the squared norm exactly, as EASE has it.
        factors /= np.maximum(1.0, np.linalg.norm(factors, axis=1, keepdims=True) / 0.9)
        factors[rng.permutation(N_ITEMS)[: N_ITEMS // 4]] = 0.0
        self_weight = (factors**2).sum(axis=1)
        return RankerTable.from_arrays(
            factors=factors,
            self_weight=self_weight,
            scale=1.0 / (1.0 - self_weight),
            bias=rng.standard_normal(N_ITEMS) * 0.01,
            popularity=rng.random(N_ITEMS),
            settings=RankerSettings(**settings),  # type: ignore[arg-type]
        )

    return make


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
    """The exported ranker of rank 4 and batch 8; needs TensorFlow (the models extra)."""
    return pytest.importorskip("models.export").export_ranker(rank=4, batch=8)
