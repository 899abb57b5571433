"""Releases on the device: read as a whole or refused, and self-tested before use."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk import Homebody, ReleaseRejectedError
from client_sdk.installed import check, install, self_test
from client_sdk.intelligence import RankerTable
from client_sdk.testing import FakeAggregator, FakeReleases, MemoryRelease
from client_sdk.version import SDK_VERSION, read_version
from client_sdk.wire import BANDITS_FILE, CATALOGUE_FILE, TABLE_FILE, Catalogue
from client_sdk.wire.bandit import ArmEvidence, write_priors

OpenHome = Callable[..., Homebody]


def a_table(n_items: int = 8, rank: int = 4) -> RankerTable:
    """A table in the form of a factored EASE, with every column in use."""
    rng = np.random.default_rng(3)
    factors = rng.standard_normal((n_items, rank)) * 0.2
    self_weight = (factors**2).sum(axis=1)
    return RankerTable.from_arrays(
        factors=factors,
        self_weight=self_weight,
        scale=1 / (1 - self_weight),
        bias=rng.random(n_items) * 0.1,
        popularity=rng.random(n_items),
    )


def with_file(release: MemoryRelease, name: str, data: bytes) -> MemoryRelease:
    """The same release with another file."""
    return MemoryRelease(manifest=release.manifest, files={**release.files, name: data})


def test_release_with_a_good_model_is_used(
    open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue, graph: bytes
) -> None:
    """The graph scores as numpy does, and the device ranks and explains with the table."""
    table = a_table().to_bytes()
    home = open_home(releases=FakeReleases(aggregator.release(catalogue, table=table, graph=graph)))
    home.consent.grant("personalise")
    assert home.update().updated
    home.track("purchase", item="mug")
    shelf = home.rank(k=8)
    assert {item.kind for item in shelf} >= {"rebuy", "because-of"}
    assert "Because you bought Blue mug." in {item.reason for item in shelf}
    like = home.similar("mug", 3)
    assert like
    assert {item.reason for item in like} == {"Similar to Blue mug."}


@pytest.fixture(scope="session")
def wrong_graph() -> bytes:
    """A graph of the right shape that forgets what an item says about itself."""
    export = pytest.importorskip("models.export")
    ranker_graph = pytest.importorskip("models.ranker_graph")

    class Forgetful(ranker_graph.RankerGraph):  # type: ignore[misc,name-defined]
        def score(  # noqa: PLR0917 - the graph's own signature
            self, vector: Any, rows: Any, own: Any, self_weight: Any, scale: Any, bias: Any
        ) -> dict[str, Any]:
            """Score with the self weight almost left out."""
            return dict(super().score(vector, rows, own * 0.9, self_weight, scale, bias))

    module = Forgetful(rank=4, batch=16)
    data: bytes = export.export_module(module, module.signatures())
    return data


def test_release_whose_graph_differs_is_rejected_and_the_last_good_one_stays(
    open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue, wrong_graph: bytes
) -> None:
    """A graph that computes something else than the table says never ranks for anybody."""
    home = open_home(
        releases=FakeReleases(
            aggregator.release(catalogue, version=2, table=a_table().to_bytes(), graph=wrong_graph),
            active=aggregator.release(catalogue),
        )
    )
    with pytest.raises(ReleaseRejectedError, match="does not score as its table does"):
        home.update()
    assert home.version == 1


@pytest.mark.parametrize("bad", [b"", b"not a model", bytes(4) + b"TFL3" + bytes(64)])
def test_release_whose_graph_does_not_load_is_rejected(
    bad: bytes, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Bytes that are no model are refused, not run."""
    release = aggregator.release(catalogue, table=a_table().to_bytes(), graph=bad)
    with pytest.raises(ReleaseRejectedError, match="does not run on this device"):
        check(release)


def test_release_whose_graph_has_another_rank_is_rejected(
    aggregator: FakeAggregator, catalogue: Catalogue, graph: bytes
) -> None:
    """Table and graph belong together."""
    release = aggregator.release(catalogue, table=a_table(rank=3).to_bytes(), graph=graph)
    with pytest.raises(ReleaseRejectedError):
        check(release)


def test_release_with_a_malformed_or_missing_file_is_rejected(
    aggregator: FakeAggregator, catalogue: Catalogue, graph: bytes
) -> None:
    """A release is good as a whole or not at all."""
    good = aggregator.release(catalogue, table=a_table().to_bytes(), graph=graph)
    missing = {name: data for name, data in good.files.items() if name != CATALOGUE_FILE}
    for release in (
        with_file(good, CATALOGUE_FILE, b"{}"),
        with_file(good, TABLE_FILE, b"HBRT"),
        MemoryRelease(manifest=good.manifest, files=missing),
    ):
        with pytest.raises(ReleaseRejectedError, match="missing or malformed"):
            install(release)


def test_release_whose_table_has_another_size_is_rejected(
    aggregator: FakeAggregator, catalogue: Catalogue, graph: bytes
) -> None:
    """One row an item."""
    release = aggregator.release(catalogue, table=a_table(7).to_bytes(), graph=graph)
    with pytest.raises(ReleaseRejectedError, match="7 rows for 8 items"):
        install(release)


def test_release_without_a_model_needs_no_runtime(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Nothing to test, nothing to load."""
    installed = install(aggregator.release(catalogue))
    self_test(installed)
    assert installed.graph is None
    assert installed.version == 1


def test_sdk_version_is_that_of_the_package() -> None:
    """One version: the one in pyproject.toml."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["project"]["version"] == SDK_VERSION


@pytest.mark.parametrize("text", ["1.2", "1.2.3.4", "1.2.x", "", "1.-2.3", "1.2.9999999"])
def test_version_of_another_form_is_refused(text: str) -> None:
    """A version is three numbers."""
    with pytest.raises(ValueError, match="version"):
        read_version(text)


def test_release_with_priors_of_bandits_is_read_with_and_without_them(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Priors need no model; a release without them has none; bad ones are refused as a whole."""
    start = ArmEvidence(arms=("tea",), precision=np.eye(2)[None], response=np.ones((1, 2)))
    good = aggregator.release(catalogue, bandits=write_priors({"letter": start}))
    assert install(good).bandits["letter"].arms == ("tea",)
    assert install(aggregator.release(catalogue)).bandits == {}
    for data in (b"", good.files[BANDITS_FILE][:-1], b"HBBP" + bytes(60)):
        with pytest.raises(ReleaseRejectedError, match="missing or malformed file"):
            install(with_file(good, BANDITS_FILE, data))
