"""One device, its clock, its keys and an aggregator that it trusts."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

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

OpenHome = Callable[..., Homebody]


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
