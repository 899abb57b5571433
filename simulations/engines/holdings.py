"""What simulated people's devices hold: the release that all have loaded, and what each one knows.

Plain data, read and never changed by an engine, so that threads and other processes may share it.
Arrays may be memory maps: an engine copies the rows of the people whom it asks, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence import ItemCategories
from client_sdk.intelligence.propensity_steps import LabelledBatch
from client_sdk.wire.bandit import ArmEvidence
from client_sdk.wire.outcomes import ExperimentOutcome
from client_sdk.wire.table import RankerSettings
from client_sdk.wire.vectors import packed_length
from simulations.engines.columns import HistoryColumns

NO_GROUP = -1
"""Who was not in an experiment, or whose windows are not over."""


@dataclass(frozen=True, kw_only=True)
class ActiveRelease:
    """What every device has verified and loaded.

    Attributes:
        catalogue_sha256: Which catalogue.
        policy_sha256: The consent text that people said yes to.
        n_items: Length of the catalogue.
        settings: Of the release's table; None before any model.
        rank: Of the release's graph; None before any model.
        batch: Rows a call of that graph.
        categories: The catalogue's, for a ranker that uses them.
    """

    catalogue_sha256: str
    policy_sha256: str
    n_items: int
    settings: RankerSettings | None = None
    rank: int | None = None
    batch: int = 512
    categories: ItemCategories | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureColumns:
    """Everybody's features, as a survey may ask for them.

    Attributes:
        names: What each row means.
        ordinary: Those that a device tells at all; the rest are sensitive or protected.
        values: float64[features, people]; NaN where it is not known.

    Raises:
        ValueError: another shape, a name twice, or an ordinary feature that is not there.
    """

    names: tuple[str, ...]
    ordinary: frozenset[str]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.names):
            raise ValueError(f"values must be [{len(self.names)}, people]; got {self.values.shape}")
        if len(set(self.names)) != len(self.names) or not self.ordinary <= set(self.names):
            raise ValueError("names must be there once each, and hold the ordinary ones")

    @property
    def people(self) -> int:
        """How many there are."""
        return int(self.values.shape[1])

    def of(self, name: str, people: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give one feature of some people: float64[m], NaN where it is not known."""
        return np.asarray(self.values[self.names.index(name)][people])


@dataclass(frozen=True, kw_only=True, eq=False)
class OutcomeColumns:
    """What came of one experiment for everybody.

    Attributes:
        group: int16[people], `NO_GROUP` where nothing stands.
        outcomes: float64[people, metrics], in [0, 1]; unused where nothing stands.

    Raises:
        ValueError: another shape, or an outcome outside [0, 1].
    """

    group: NDArray[np.int16]
    outcomes: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.outcomes.ndim != 2 or self.group.shape != self.outcomes.shape[:1]:
            raise ValueError("outcomes must be [people, metrics] and group [people]")
        if self.outcomes.size and not (self.outcomes.min() >= 0.0 and self.outcomes.max() <= 1.0):
            raise ValueError("outcomes: expected numbers from 0 to 1; got another")

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.group)

    @classmethod
    def from_outcomes(
        cls, found: Sequence[ExperimentOutcome | None], *, metrics: int
    ) -> OutcomeColumns:
        """Lay out what each device holds; None where nothing stands.

        >>> columns = OutcomeColumns.from_outcomes(
        ...     [None, ExperimentOutcome(group=1, outcomes=(0.5,))], metrics=1)
        >>> columns.group.tolist(), columns.outcomes.tolist()
        ([-1, 1], [[0.0], [0.5]])
        """
        outcomes = np.zeros((len(found), metrics))
        for person, each in enumerate(found):
            if each is not None:
                outcomes[person] = each.outcomes
        group = [NO_GROUP if each is None else each.group for each in found]
        return cls(group=np.array(group, np.int16), outcomes=outcomes)


@dataclass(frozen=True, kw_only=True, eq=False)
class BanditColumns:
    """What everybody's bandit of one name saw, arm by arm.

    Attributes:
        arms: Ids of all arms that anyone saw.
        n_features: d, of the vectors below.
        offsets: int64[people + 1]; person p has entries ``[offsets[p], offsets[p + 1])``.
        arm: int32[entries], places in ``arms``, each once for each person.
        evidence: float64[entries, d (d + 1) / 2 + d], the upper triangle of A row by row, then b.
        features: int32[people], the number of features of each device's bandit; None where it is d
            for all. The evidence of another number is not used.

    Raises:
        ValueError: another shape, or an arm that is not there.
    """

    arms: tuple[str, ...]
    n_features: int
    offsets: NDArray[np.int64]
    arm: NDArray[np.int32]
    evidence: NDArray[np.float64]
    features: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        entries = len(self.arm)
        if not len(self.offsets) or self.offsets[0] != 0 or self.offsets[-1] != entries:
            raise ValueError(f"offsets must run from 0 to {entries}")
        if self.evidence.shape != (entries, packed_length(self.n_features) + self.n_features):
            raise ValueError(f"evidence: another shape than {entries} arms of {self.n_features}")
        if entries and not (self.arm.min() >= 0 and self.arm.max() < len(self.arms)):
            raise ValueError(f"arm names one that is not among the {len(self.arms)}")
        if self.features is not None and len(self.features) != self.people:
            raise ValueError(f"features must have an entry for each of {self.people} people")

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    @classmethod
    def from_evidence(
        cls, found: Sequence[ArmEvidence | None], *, n_features: int
    ) -> BanditColumns:
        """Lay out what each device's bandit saw; None where there is none of that name."""
        seen = [each.arms if each is not None else () for each in found]
        arms = tuple(sorted({arm for each in seen for arm in each}))
        place = {arm: at for at, arm in enumerate(arms)}
        rows, columns = np.triu_indices(n_features)
        width = len(rows) + n_features
        evidence = [np.zeros((0, width))]
        for each in found:
            if each is None:
                continue
            if each.n_features != n_features:
                evidence.append(np.zeros((len(each.arms), width)))
                continue
            upper = each.precision[:, rows, columns]
            evidence.append(np.concatenate([upper, each.response], axis=1))
        return cls(
            arms=arms,
            n_features=n_features,
            offsets=np.concatenate([[0], np.cumsum([len(each) for each in seen])]).astype(np.int64),
            arm=np.array([place[arm] for each in seen for arm in each], np.int32),
            evidence=np.concatenate(evidence),
            features=np.array(
                [n_features if each is None else each.n_features for each in found], np.int32
            ),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class PropensityColumns:
    """The cases that everybody's propensity of one name kept, oldest first.

    Attributes:
        hidden: Units of the graph that all devices have; 0 for a logistic one.
        batch: Rows a call of that graph.
        offsets: int64[people + 1]; person p has cases ``[offsets[p], offsets[p + 1])``.
        features: float32[cases, d], finite.
        labels: float32[cases], in [0, 1].
        weights: float32[cases], 0 or more.

    Raises:
        ValueError: another shape, or a number out of range.
    """

    hidden: int
    batch: int
    offsets: NDArray[np.int64]
    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        cases = len(self.labels)
        if not len(self.offsets) or self.offsets[0] != 0 or self.offsets[-1] != cases:
            raise ValueError(f"offsets must run from 0 to {cases}")
        if (np.diff(self.offsets) < 0).any() or self.batch < 1 or self.hidden < 0:
            raise ValueError("offsets must not fall, batch be 1 or more and hidden 0 or more")
        if self.features.ndim != 2 or len(self.features) != cases or len(self.weights) != cases:
            raise ValueError(f"features and weights must have {cases} rows")
        if cases and not (self.labels.min() >= 0 and self.labels.max() <= 1):
            raise ValueError("labels: expected numbers from 0 to 1; got another")
        if cases and not (self.weights.min() >= 0 and np.isfinite(self.weights).all()):
            raise ValueError("weights: expected finite numbers of 0 or more; got another")

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    @property
    def n_features(self) -> int:
        """d, what is known of one case."""
        return int(self.features.shape[1])

    def counting(self) -> NDArray[np.int64]:
        """Say how many cases of each person have a weight above 0: int64[people]."""
        ends = np.concatenate([[0], np.cumsum(self.weights > 0)])
        return np.asarray(np.diff(ends[self.offsets]), np.int64)

    @classmethod
    def from_batches(
        cls, found: Sequence[LabelledBatch | None], *, n_features: int, hidden: int, batch: int
    ) -> PropensityColumns:
        """Lay out the cases that each device kept; None where there is no such propensity."""
        kept = [each for each in found if each is not None]
        lengths = [0 if each is None else len(each) for each in found]
        nothing = np.zeros(0, np.float32)
        return cls(
            hidden=hidden,
            batch=batch,
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            features=np.concatenate(
                [np.zeros((0, n_features), np.float32), *(each.features for each in kept)]
            ),
            labels=np.concatenate([nothing, *(each.labels for each in kept)]),
            weights=np.concatenate([nothing, *(np.asarray(each.weights) for each in kept)]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Holdings:
    """What devices compute their contributions from.

    Attributes:
        release: What each device has loaded.
        histories: What each person did; their number is their place.
        features: Everybody's features; None where devices have none.
        experiments: By the hash of the definition, what came of each experiment.
        bandits: By name, what everybody's bandit saw.
        propensities: By name, the cases that everybody's propensity kept.

    Raises:
        ValueError: columns of another number of people.
    """

    release: ActiveRelease
    histories: HistoryColumns
    features: FeatureColumns | None = None
    experiments: Mapping[str, OutcomeColumns] = field(default_factory=dict)
    bandits: Mapping[str, BanditColumns] = field(default_factory=dict)
    propensities: Mapping[str, PropensityColumns] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = [each.people for each in self.experiments.values()]
        counts += [each.people for each in self.bandits.values()]
        counts += [each.people for each in self.propensities.values()]
        if self.features is not None:
            counts.append(self.features.people)
        if any(count != self.people for count in counts):
            raise ValueError(f"columns must hold {self.people} people; got {counts}")

    @property
    def people(self) -> int:
        """How many there are."""
        return self.histories.people
