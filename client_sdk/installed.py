"""A release on the device: read, checked, and proven to compute what it says.

Rules a reader can check line by line:

1. `install` is pure: a release's bytes in, an `InstalledRelease` out, or `ReleaseRejectedError`.
   Who made the bytes has been proven by delivery before.
2. A release for a newer SDK, with a malformed file, or with parts that do not fit together, is
   refused as a whole. So is one with a journey that this app cannot run: all of a release is in
   use, or nothing of it.
3. `self_test` runs the release's graph once, on this device's runtime, against numpy: a graph that
   does not score as the table says is refused.
4. What can be shown (`InstalledRelease.assortment`) is prepared when it is first asked for, and
   shared by the homes of one process. Updates make another one, and change nothing of the release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Final, Protocol

import numpy as np

from client_sdk.assortment import Assortment, bring_up_to_date, prepare
from client_sdk.catalogue_updates import NO_UPDATES, CatalogueUpdates
from client_sdk.errors import ReleaseRejectedError
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.journeys.parts import STANDARD_FEATURES
from client_sdk.experience.journeys.programme import Programme
from client_sdk.experience.released import read_parts
from client_sdk.experience.toml_file import FileMistakeError
from client_sdk.intelligence.history import History, IndexArray
from client_sdk.intelligence.ranker import history_vector, score_items, solve_private_vector
from client_sdk.version import SDK_VERSION, read_version
from client_sdk.wire import (
    BANDITS_FILE,
    CATALOGUE_FILE,
    GRAPH_FILE,
    POLICY_FILE,
    TABLE_FILE,
    Catalogue,
    ConsentPolicy,
    ReleaseManifest,
)
from client_sdk.wire.bandit import ArmEvidence, read_priors
from client_sdk.wire.table import FloatArray, RankerTable

_TOLERANCE: Final = 1e-4


class Release(Protocol):
    """A verified release: its manifest, and the bytes of its files."""

    @property
    def manifest(self) -> ReleaseManifest:
        """What the release is made of."""
        ...

    @property
    def files(self) -> Mapping[str, bytes]:
        """File name to bytes; each has the hash that the manifest names."""
        ...


class ReleaseSource(Protocol):
    """Where releases come from; `client_sdk.delivery.Delivery` is the real one."""

    def fetch(self) -> Release | None:
        """Return a release that is newer than the active one, or None."""
        ...

    def active(self) -> Release | None:
        """Return the last good release, or None before any."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class InstalledRelease:
    """What the rooms of the device use of a release.

    Attributes:
        version: The release's number; 0 for what the app brought along.
        aggregator_key: Whose orders are obeyed; empty without a release.
        catalogue: The items, in the order that gives every vector its meaning.
        policy: The consent text.
        table: The ranker's table; one without a model before anything was learned.
        graph: The ``.tflite`` bytes; None without a model.
        guardrails: What a decision may not do; None where the release says nothing of it.
        programmes: The journeys, with their content.
        bandits: By name of the bandit, from where its arms start; none without priors.
    """

    version: int
    aggregator_key: str
    catalogue: Catalogue
    policy: ConsentPolicy
    table: RankerTable
    graph: bytes | None
    guardrails: GuardrailPolicy | None = None
    programmes: tuple[Programme, ...] = ()
    bandits: Mapping[str, ArmEvidence] = field(default_factory=dict)

    def assortment(self, updates: CatalogueUpdates = NO_UPDATES) -> Assortment:
        """What can be shown now: prepared once, and once more for each new value of updates."""
        if not updates:
            return self._assortment
        known: tuple[CatalogueUpdates, Assortment] | None = self.__dict__.get("_latest")
        if known is None or known[0] is not updates:
            known = updates, bring_up_to_date(self._assortment, updates)
            object.__setattr__(self, "_latest", known)
        return known[1]

    @cached_property
    def _assortment(self) -> Assortment:
        return _prepared(self.catalogue, self.table)


def without_release(catalogue: Catalogue | None, policy: ConsentPolicy) -> InstalledRelease:
    """Give what a device uses before its first release: the app's own catalogue, and no model."""
    known = Catalogue(items=()) if catalogue is None else catalogue
    return InstalledRelease(
        version=0,
        aggregator_key="",
        catalogue=known,
        policy=policy,
        table=RankerTable.without_model(len(known.items)),
        graph=None,
    )


def install(release: Release, *, features: Sequence[str] = STANDARD_FEATURES) -> InstalledRelease:
    """Read a release.

    Args:
        release: Whose bytes are those that were signed.
        features: The names of the features that the app has, for journeys.

    Raises:
        ReleaseRejectedError: it needs a newer SDK, a file is malformed, or parts differ in size.
    """
    manifest = release.manifest
    try:
        newer = read_version(manifest.minimum_sdk_version) > read_version(SDK_VERSION)
        if newer:
            raise ReleaseRejectedError(
                f"release {manifest.version} needs SDK {manifest.minimum_sdk_version}; "
                f"this is {SDK_VERSION}: update the app"
            )
        catalogue = _catalogue(release.files[CATALOGUE_FILE])
        policy = ConsentPolicy.from_bytes(release.files[POLICY_FILE])
        table = RankerTable.without_model(len(catalogue.items))
        graph = None
        if manifest.has_model:
            table = _table(release.files[TABLE_FILE])
            graph = release.files[GRAPH_FILE]
        bandits = read_priors(release.files[BANDITS_FILE]) if BANDITS_FILE in manifest.files else {}
        parts = read_parts(release.files, features=features)
    except FileMistakeError as error:
        raise ReleaseRejectedError(
            f"release {manifest.version} has a part that is not as promised ({error}); "
            "the last good one stays"
        ) from error
    except (ValueError, KeyError) as error:
        raise ReleaseRejectedError(
            f"release {manifest.version} has a missing or malformed file; the last good one stays"
        ) from error
    if table.n_items != len(catalogue.items):
        raise ReleaseRejectedError(
            f"release {manifest.version} has a table of {table.n_items} rows "
            f"for {len(catalogue.items)} items; the last good one stays"
        )
    return InstalledRelease(
        version=manifest.version,
        aggregator_key=manifest.aggregator_key,
        catalogue=catalogue,
        policy=policy,
        table=table,
        graph=graph,
        guardrails=parts.guardrails,
        programmes=parts.programmes,
        bandits=bandits,
    )


def active_release(
    source: ReleaseSource | None, *, features: Sequence[str] = STANDARD_FEATURES
) -> InstalledRelease | None:
    """Read the last good release of a source, or give None before any.

    A release that this SDK cannot read (as after going back to an older app) counts as none.
    """
    release = None if source is None else source.active()
    try:
        return None if release is None else install(release, features=features)
    except ReleaseRejectedError:
        return None


def check(release: Release, *, features: Sequence[str] = STANDARD_FEATURES) -> InstalledRelease:
    """Read and self-test a release before it is put to use.

    Raises:
        ReleaseRejectedError: see `install` and `self_test`.
    """
    installed = install(release, features=features)
    self_test(installed)
    return installed


def self_test(release: InstalledRelease) -> None:
    """Compare the graph's ``score`` signature with the numpy ranker on a few rows of the table.

    Raises:
        ReleaseRejectedError: they differ, or the graph does not run here.
    """
    from client_sdk.intelligence.litert import LiteRtModel, LiteRtUnavailableError, ModelRunError

    if release.graph is None:
        return
    try:
        model = LiteRtModel(release.graph)
        batch = model.input_shapes("score")["own"].shape[0]
        rows = _rows_to_test(release.table, batch)
        expected, inputs = _expected_scores(release.table, rows, batch)
        got = model.run("score", inputs)["scores"][: len(rows)]
    except (ValueError, KeyError, IndexError, ModelRunError, LiteRtUnavailableError) as error:
        raise ReleaseRejectedError(
            f"the graph of release {release.version} does not run on this device; "
            "the last good one stays"
        ) from error
    bound = _TOLERANCE * max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    if got.shape != expected.shape or float(np.max(np.abs(got - expected), initial=0.0)) > bound:
        raise ReleaseRejectedError(
            f"the graph of release {release.version} does not score as its table does; "
            "the last good one stays"
        )


def _rows_to_test(table: RankerTable, batch: int) -> IndexArray:
    learned = np.flatnonzero(table.factors.any(axis=1))
    chosen = learned if learned.size else np.arange(table.n_items)
    picked = np.linspace(0, len(chosen) - 1, num=min(batch, 8, len(chosen)))
    return np.unique(chosen[picked.astype(np.intp)]).astype(np.int32)


def _expected_scores(
    table: RankerTable, rows: IndexArray, batch: int
) -> tuple[FloatArray, dict[str, FloatArray]]:
    # Half of the rows are the history, so that what an item says about itself is tested too.
    had = rows[::2]
    history = History.from_events(items=had, times_s=np.zeros(len(had)), now_s=0.0)
    vector = solve_private_vector(table, history).astype(np.float32)
    items, values = history_vector(table, history)
    together = replace(
        table.settings,
        together_weight=1.0,
        own_weight=0.0,
        category_weight=0.0,
        popularity_weight=0.0,
    )
    expected = score_items(table, together, vector, history, rows)
    own = np.zeros(batch, np.float32)
    own[np.searchsorted(rows, items)] = values

    def padded(column: FloatArray) -> FloatArray:
        full = np.zeros((batch, *column.shape[1:]), np.float32)
        full[: len(rows)] = column[rows]
        return full

    inputs = {
        "vector": vector,
        "rows": padded(table.factors),
        "own": own,
        "self_weight": padded(table.self_weight),
        "scale": padded(table.scale),
        "bias": padded(table.bias),
    }
    return expected, inputs


# Pure functions of immutable values: homes of one process share one copy of a release's parts.
@lru_cache(maxsize=2)
def _catalogue(data: bytes) -> Catalogue:
    return Catalogue.from_bytes(data)


@lru_cache(maxsize=2)
def _table(data: bytes) -> RankerTable:
    return RankerTable.from_bytes(data)


@lru_cache(maxsize=2)
def _prepared(catalogue: Catalogue, table: RankerTable) -> Assortment:
    return prepare(catalogue, table)
