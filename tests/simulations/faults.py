"""Faulty parts for the audit to catch; each keeps to the interface and not to the promise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from aggregator.admission import MayTakePart
from aggregator.collection import Collection, CollectionPlan
from aggregator.run_store import RunStore, StoredRun
from aggregator.strategy import BoundedSumStrategy, Collected
from client_sdk.wire import RunTerms, SparseVector
from privacy.bounded_sum import STEPS, BoundedSum
from privacy.events import MechanismName, NoiseSource
from privacy.mechanisms import Mechanism
from privacy.participation import Realised

NewSum = Callable[[int, float], BoundedSum]


@dataclass(frozen=True, kw_only=True)
class HalfTheNoise:
    """A mechanism that adds a half of what the right one would."""

    right: Mechanism

    @property
    def name(self) -> MechanismName:
        """The name of the right one."""
        return self.right.name

    @property
    def noise_source(self) -> NoiseSource:
        """The source of the right one."""
        return self.right.noise_source

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:
        """Halve."""
        return self.right.noise_steps(dimension=dimension, sensitivity=sensitivity) // 2


@dataclass(kw_only=True)
class OneDrawTwice:
    """Mechanisms of which the ``second`` release gets the noise of the one before again."""

    second: int
    drawn: list[NDArray[np.int64]] = field(default_factory=list)

    def of(self, right: Mechanism) -> Mechanism:
        """Wrap the next release's mechanism."""
        return _Remembering(right=right, memory=self)


@dataclass(frozen=True, kw_only=True)
class _Remembering:
    right: Mechanism
    memory: OneDrawTwice

    @property
    def name(self) -> MechanismName:
        return self.right.name

    @property
    def noise_source(self) -> NoiseSource:
        return self.right.noise_source

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:
        steps = self.right.noise_steps(dimension=dimension, sensitivity=sensitivity)
        drawn = self.memory.drawn
        drawn.append(drawn[-1] if len(drawn) == self.memory.second else steps)
        return drawn[-1]


class SumWith(BoundedSum):
    """A sum that is released by another mechanism than the one it is given."""

    def __init__(
        self, *, dimension: int, clip_norm: float, wrap: Callable[[Mechanism], Mechanism]
    ) -> None:
        super().__init__(dimension=dimension, clip_norm=clip_norm)
        self._wrap = wrap

    def release(self, mechanism: Mechanism) -> NDArray[np.float64]:
        """Add the wrong noise."""
        return super().release(self._wrap(mechanism))


class SumWithoutClip(BoundedSum):
    """A sum that takes what it gets; an exaggeration by a million still fits into int64."""

    def add(self, vector: SparseVector) -> None:
        """Add without a clip."""
        steps = np.rint(vector.values.astype(np.float64) * (STEPS / self.clip_norm))
        self._sum[vector.indices] += steps.astype(np.int64)
        self._count += 1


@dataclass(frozen=True, kw_only=True)
class FaultyStrategy(BoundedSumStrategy):
    """The strategy, over sums of another make.

    Attributes:
        new_sum: Dimension and clip norm to the sum of the next task.
    """

    new_sum: NewSum

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Collect into the faulty sum."""
        collection = Collection(asker=self, plan=plan, grid=grid, may_take_part=may_take_part)
        collection.total = self.new_sum(plan.order.dimension, plan.order.clip_norm)
        collection.run(node_ids)
        collection.require_quorum()
        return Collected(
            order=plan.order,
            total=collection.total,
            contributors=collection.admission.contributors,
            invited=collection.invited,
            refusals=collection.admission.refusals,
            ignored=collection.ignored,
            seconds=0.0,
        )


class ForgetfulStore(RunStore):
    """A store of runs that remembers nobody: everyone may come again, and nobody was there."""

    def allows(self, terms: RunTerms, *, device: str, number: int) -> bool:
        """Let everybody in."""
        return True

    def advance(
        self,
        before: StoredRun,
        after: StoredRun,
        *,
        contributors: Iterable[str],
        digest: str,
    ) -> None:
        """Close the round as if it had been empty."""
        super().advance(before, after, contributors=(), digest=digest)

    def realised(self, run_id: str, *, rounds: int) -> Realised:
        """Say that everything was as mild as can be."""
        return Realised(min_separation=rounds, max_participations=1)
