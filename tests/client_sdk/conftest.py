"""One device, its clock, its keys and an aggregator that it trusts."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk import Homebody
from client_sdk.testing import (
    FakeAggregator,
    FakeReleases,
    FixedClock,
    MemoryKeyStore,
    sample_catalogue,
)
from client_sdk.wire import Catalogue
from client_sdk.wire.table import RankerSettings, RankerTable

OpenHome = Callable[..., Homebody]

N_ITEMS = 40
RANK = 6


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands."""
    return FixedClock()


@pytest.fixture
def keys() -> MemoryKeyStore:
    """An empty key store."""
    return MemoryKeyStore()


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """Eight items."""
    return sample_catalogue()


@pytest.fixture(scope="session")
def aggregator() -> FakeAggregator:
    """Whose orders the device obeys."""
    return FakeAggregator(bytes(range(32)))


@pytest.fixture
def open_home(
    tmp_path: Path,
    clock: FixedClock,
    keys: MemoryKeyStore,
    catalogue: Catalogue,
    aggregator: FakeAggregator,
) -> Iterator[OpenHome]:
    """Open a store with a release active; everything opened is closed after the test."""
    with ExitStack() as stack:

        def open_(name: str = "home", **changes: Any) -> Homebody:
            given: dict[str, Any] = {
                "catalogue": catalogue,
                "clock": clock,
                "key_store": keys,
                "releases": FakeReleases(active=aggregator.release(catalogue)),
                **changes,
            }
            home: AbstractContextManager[Homebody] = Homebody.open(tmp_path / name, **given)
            return stack.enter_context(home)

        yield open_


@pytest.fixture
def home(open_home: OpenHome) -> Homebody:
    """A device whose person agreed to everything and bought three things."""
    opened = open_home()
    opened.consent.grant("personalise", "train", "statistics")
    for item in ("green-tea", "mug", "honey"):
        opened.track("purchase", item=item)
    return opened


@pytest.fixture(scope="session")
def graph() -> bytes:
    """The exported ranker of rank 4 and batch 16; needs TensorFlow (the models extra)."""
    data: bytes = pytest.importorskip("models.export").export_ranker(rank=4, batch=16)
    return data


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
