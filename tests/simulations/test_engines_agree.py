"""One experiment on every engine: the same people, the same sums, the same ledger, one result."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.serverapp import Grid

from aggregator.admission import MayTakePart
from aggregator.campaign import Campaign
from aggregator.collection import CollectionPlan
from aggregator.strategy import Collected, TaskPlan, TaskResult, TaskStrategy
from simulations.engines.choice import OpenEngine, open_engine
from simulations.engines.engine import Engine, Setup, Terms
from simulations.engines.rows import KernelEngine
from simulations.experiment import run_simulation
from simulations.population import Attitude, Population
from simulations.progress import Progress
from simulations.settings import EngineName, SimulationSettings

PEOPLE = 40
NODES = 5
STATISTICS: dict[str, Any] = {"top_items": 20}
TRAINING: dict[str, Any] = {
    "task": "item-training",
    "rounds": 3,
    "cohort": 20,
    "population": 100_000,
}


@dataclass(kw_only=True)
class Seen:
    """What went through an engine during one experiment."""

    results: list[TaskResult] = field(default_factory=list)
    collected: list[tuple[Collected, frozenset[int]]] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RecordingStrategy:
    """Passes tasks on, and keeps what came back."""

    inner: TaskStrategy
    seen: Seen
    number_of: Callable[[str], int]

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Pass on a task of one release."""
        self.seen.results.append(self.inner.start(grid, plan, node_ids=node_ids))
        return self.seen.results[-1]

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Pass on a round of a run."""
        found = self.inner.collect(grid, plan, node_ids=node_ids, may_take_part=may_take_part)
        people = frozenset(self.number_of(key) for key in found.contributors)
        self.seen.collected.append((found, people))
        return found


@dataclass(frozen=True, kw_only=True)
class RecordingEngine:
    """An engine whose tasks have known ids, and are kept."""

    inner: Engine
    seen: Seen
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def name(self) -> EngineName:
        """As the inner one."""
        return self.inner.name

    @property
    def people(self) -> int:
        """As the inner one."""
        return self.inner.people

    @property
    def devices(self) -> Population | None:
        """As the inner one."""
        return self.inner.devices

    def ask_consent(self) -> Counter[Attitude]:
        """As the inner one."""
        return self.inner.ask_consent()

    def campaign(self, terms: Terms) -> Campaign:
        """As the inner one, with a strategy that records."""
        campaign = self.inner.campaign(terms)
        numbers = numbers_of(self.inner)
        strategy = RecordingStrategy(
            inner=campaign.strategy, seen=self.seen, number_of=numbers.__getitem__
        )
        return replace(campaign, strategy=strategy, new_task_id=lambda: f"{next(self.ids):032x}")


def numbers_of(engine: Engine) -> dict[str, int]:
    """Give each person's number by the public key that they are known by."""
    if isinstance(engine, KernelEngine):
        return {engine.crowd.name_of(person): person for person in range(engine.people)}
    assert engine.devices is not None
    return {key: node - 1 for node, key in engine.devices.directory.items()}


def recording(seen: Seen) -> OpenEngine:
    """Open engines that record, and read the ledger before the house closes."""

    @contextmanager
    def opened(name: EngineName, setup: Setup) -> Iterator[Engine]:
        with open_engine(name, setup) as engine:
            yield RecordingEngine(inner=engine, seen=seen)
            for each in setup.house.ledger.reservations():
                # The sums' hashes differ with the last digit, and the start with the wall clock.
                notes = [
                    {k: v for k, v in facts.items() if k not in {"sum_sha256", "started_at_s"}}
                    for facts in each.notes
                ]
                row = {k: v for k, v in vars(each).items() if k != "id"}
                seen.ledger.append({**row, "notes": notes})

    return opened


def run(engine: EngineName, events: Path, **changes: Any) -> Seen:
    """Run one experiment on an engine."""
    seen = Seen()
    settings = SimulationSettings(events=events, epsilons=(8.0,), engine=engine, **changes)
    seen.found = run_simulation(
        settings, Progress(io.StringIO(), quiet=True), open_with=recording(seen)
    )
    return seen


def assert_equal(ours: Seen, theirs: Seen) -> None:
    """Compare everything that an engine may not change."""
    assert len(ours.results) == len(theirs.results) > 0
    for one, other in zip(ours.results, theirs.results, strict=True):
        assert (one.invited, one.accepted) == (other.invited, other.accepted)
        assert one.refusals == other.refusals
        apart = np.linalg.norm(one.noisy_sum - other.noisy_sum)
        assert apart <= 1e-5 * np.linalg.norm(other.noisy_sum)
    assert len(ours.collected) == len(theirs.collected)
    for (one_round, people), (other_round, others) in zip(
        ours.collected, theirs.collected, strict=True
    ):
        assert people == others
        assert one_round.refusals == other_round.refusals
    assert ours.ledger == theirs.ledger
    assert len(ours.ledger) > 0
    for key in ("tasks", "consent", "segments", "evaluated"):
        assert ours.found[key] == theirs.found[key]
    for arm, protocols in theirs.found["metrics"].items():
        for protocol, metrics in protocols.items():
            for metric, value in metrics.items():
                found = ours.found["metrics"][arm][protocol][metric]["mean"]
                assert found == pytest.approx(value["mean"], abs=1e-9), (arm, protocol)
    assert ours.found["privacy"] == theirs.found["privacy"]


@pytest.fixture(scope="module", params=[STATISTICS, TRAINING], ids=["statistics", "training"])
def asked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What is learned."""
    found: dict[str, Any] = request.param
    return found


def test_kernel_experiment_equals_the_one_on_devices(
    asked: dict[str, Any], make_town: Callable[[int], Path]
) -> None:
    """Same settings: accepted people, refusals, sums to 1e-5, ledger rows and reported numbers."""
    events = make_town(PEOPLE)
    kernel, devices = (run(name, events, **asked) for name in ("kernel", "devices"))
    assert_equal(kernel, devices)
    rollout = devices.found["rollout"]
    assert rollout["updated"] == rollout["same_lists"] == rollout["asked"] == PEOPLE
    assert devices.found["example"]["before"] != devices.found["example"]["after"]
    assert kernel.found["rollout"] == {}
    assert [seen.found["engine"]["name"] for seen in (kernel, devices)] == ["kernel", "devices"]
    reasons = {
        word for task in kernel.found["tasks"].values() for row in task for word in row["rejected"]
    }
    assert {"no-consent", "consent-withdrawn"} <= reasons
    if "rounds" in asked:
        assert len(kernel.collected) == 2 * asked["rounds"]
        looks = kernel.found["convergence"]["arms"]["together-no-noise"]
        others = devices.found["convergence"]["arms"]["together-no-noise"]
        for look, other in zip(looks, others, strict=True):
            assert look == pytest.approx(other, abs=1e-6)
        assert [look["round"] for look in looks] == [0, 1, 2, 3]


@pytest.mark.slow
def test_superlink_experiment_equals_the_one_on_the_kernel(
    make_town: Callable[[int], Path],
) -> None:
    """A few real devices over TLS, with node keys, through a real SuperLink."""
    events = make_town(NODES)
    superlink, kernel = (run(name, events) for name in ("superlink", "kernel"))
    assert_equal(superlink, kernel)
    assert superlink.found["rollout"]["updated"] == NODES
