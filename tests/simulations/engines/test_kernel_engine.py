"""The kernel engine beside real devices: same people, same seeds, same result.

More than 400 lines: both engines go through one scenario, which is slow to run on devices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from aggregator.admission import MayTakePart
from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.collection import CollectionPlan
from aggregator.errors import QuorumNotReachedError
from aggregator.in_process import InProcessGrid
from aggregator.learning import (
    Learned,
    TrainingRecipe,
    learn_item_statistics,
    learn_item_training,
)
from aggregator.publishing import CheckedGraph, export_checked_graph
from aggregator.strategy import Collected, TaskPlan, TaskResult, TaskStrategy
from client_sdk.wire import DEFAULT_POLICY, TaskKind
from client_sdk.wire.table import RankerSettings, RankerTable
from models.item_training import TrainingState, initial_state
from privacy.budget import Budget
from privacy.clipping import Adaptation
from privacy.errors import BudgetExhaustedError
from privacy.noise import GaussianNoise
from simulations.data.bundled import load_bundled
from simulations.data.interactions import LoadedData
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import Answer, Crowd
from simulations.engines.encoders import KernelOptions, UnsupportedByKernelError
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.kernel import KernelStrategy
from simulations.engines.pool import ONE_THREAD, Pool, Threads
from simulations.evaluation.split import Split, hold_out
from simulations.house import House
from simulations.kernel.packing import latest_items, pack_histories
from simulations.population import (
    SIMULATED_NOW_S,
    Attitude,
    Population,
    draw_attitudes,
    histories_of,
)
from simulations.rollout import update_all

PEOPLE, RANK, BATCH, ROUNDS, COHORT, SEED = 500, 8, 120, 4, 200, 3
SETTINGS = RankerSettings(form="ridge", ridge=0.7, weighting="log", half_life_days=30.0)
BUDGET = Budget(epsilon=8.0, delta=1e-6)
RECIPE = TrainingRecipe(
    rounds=ROUNDS, steps=2, ridge=0.7, clip_norm=0.05, min_separation=2, seed=77
)
ADAPTIVE = replace(RECIPE, adaptation=Adaptation(learning_rate=0.5, count_share=0.05))
SILENT = frozenset(range(0, PEOPLE, 41))
NOBODY = PEOPLE + 5


@dataclass(kw_only=True)
class Recording:
    """Passes tasks on to an engine, and keeps what came back."""

    inner: TaskStrategy
    results: list[TaskResult] = field(default_factory=list)
    collected: list[Collected] = field(default_factory=list)

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Pass on a task of one release."""
        self.results.append(self.inner.start(grid, plan, node_ids=node_ids))
        return self.results[-1]

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Pass on a round of a run."""
        self.collected.append(
            self.inner.collect(grid, plan, node_ids=node_ids, may_take_part=may_take_part)
        )
        return self.collected[-1]


@dataclass(kw_only=True)
class Outcome:
    """What one engine gave for the whole scenario."""

    results: list[TaskResult]
    collected: list[Collected]
    learned: list[Learned]
    tables: list[NDArray[np.float32]]
    ledger: list[dict[str, Any]]


@pytest.fixture(scope="module")
def data() -> LoadedData:
    """The bundled sample, its first 500 customers."""
    loaded = load_bundled()
    rows = loaded.interactions
    kept = rows.users < PEOPLE
    columns = {
        name: getattr(rows, name)[kept]
        for name in ("users", "items", "times_s", "quantities", "prices", "kinds", "occasions")
    }
    return replace(loaded, interactions=replace(rows, n_people=PEOPLE, **columns))


@pytest.fixture(scope="module")
def split(data: LoadedData) -> Split:
    """What the devices hold."""
    return hold_out(data.interactions)


@pytest.fixture(scope="module")
def graph() -> CheckedGraph:
    """A small graph, so that some histories have more items than its batch has room for."""
    return export_checked_graph(RANK, batch=BATCH)


def seeded_noise(seed: int) -> Callable[[], GaussianNoise]:
    """Give fresh noise for each release, the same in both engines."""
    numbers = itertools.count(1000 * seed)
    return lambda: GaussianNoise.from_seed_for_simulation(next(numbers))


def cohort_of(number: int) -> list[int]:
    """Overlapping cohorts, so that people come too soon; and a node that is nobody's."""
    start = 120 * number
    return [1 + (start + each) % PEOPLE for each in range(COHORT)] + [NOBODY]


def scenario(
    house: House, campaign_of: Callable[[str, Any], Campaign], ask_again: Callable[[], object]
) -> Outcome:
    """Run counts, statistics and training, without noise and with, as one engine."""
    n_items = campaign_of("none", UnsafeNoPrivacy()).n_items
    recording, learned, tables = [], [], []

    def keep(number: int, state: TrainingState) -> None:
        del number
        tables.append(state.factors)

    for name, recipe in (("none", RECIPE), ("adaptive", ADAPTIVE)):
        price: Any = UnsafeNoPrivacy()
        if name != "none":
            price = PrivacyTarget(epsilon=2.0, delta=1e-7, new_noise=seeded_noise(len(name)))
        campaign = campaign_of(name, price)
        recording.append(campaign.strategy)
        ask_again()
        learned.append(learn_item_statistics(campaign, top_items=80))
        ask_again()
        start = initial_state(n_items=n_items, rank=RANK, seed=SEED)
        learned.append(
            learn_item_training(
                campaign, start=start, recipe=recipe, cohort_of=cohort_of, on_round=keep
            )
        )
    rows = []
    for each in house.ledger.reservations():
        notes = [{k: v for k, v in facts.items() if k != "sum_sha256"} for facts in each.notes]
        rows.append({**vars(each), "notes": notes})
    return Outcome(
        results=[each for record in recording for each in record.results],  # type: ignore[attr-defined]
        collected=[each for record in recording for each in record.collected],  # type: ignore[attr-defined]
        learned=learned,
        tables=tables,
        ledger=rows,
    )


def open_house(folder: Path, data: LoadedData, graph: CheckedGraph) -> House:
    """An operator's server, whose first release has a table."""
    budgets = {"adaptive": BUDGET}
    house = House(folder, catalogue=data.catalogue, budgets=budgets, clock=lambda: SIMULATED_NOW_S)
    start = initial_state(n_items=len(data.catalogue.items), rank=RANK, seed=SEED)
    table = RankerTable.from_arrays(factors=start.factors, settings=SETTINGS)
    house.publisher.publish_start(table=table, graph=graph)
    return house


def campaigns(house: House, grid: Grid, enrolled: dict[int, str]) -> Callable[..., Campaign]:
    """Give campaigns whose tasks have the same ids in both engines."""
    ids = itertools.count(1)

    def make(name: str, price: Any, strategy: TaskStrategy | None = None) -> Campaign:
        campaign = house.campaign(
            population=name, privacy=price, grid=grid, enrolled=enrolled,
            report_goal=COHORT, quorum=20,
        )  # fmt: skip
        return replace(
            campaign,
            strategy=Recording(inner=strategy or campaign.strategy),
            new_task_id=lambda: f"{next(ids):032x}",
        )

    return make


@pytest.fixture(scope="module")
def devices(
    tmp_path_factory: pytest.TempPathFactory, data: LoadedData, split: Split, graph: CheckedGraph
) -> Iterator[tuple[Outcome, tuple[str, ...]]]:
    """The scenario on 500 real devices; and their public keys."""
    folder = tmp_path_factory.mktemp("devices")
    with (
        open_house(folder / "house", data, graph) as house,
        Population(
            folder / "devices", split=split, catalogue=data.catalogue, server_url=house.url,
            trusted_root=house.trusted_root, seed=SEED,
        ) as population,
    ):  # fmt: skip
        update_all(population, tick=lambda: None)
        nodes = population.nodes
        for person in SILENT:
            nodes[person + 1] = silent_node
        make = campaigns(house, InProcessGrid(nodes), population.directory)
        found = scenario(house, make, population.ask_consent)
        yield found, tuple(population.directory[each + 1] for each in range(PEOPLE))


def silent_node(message: Message) -> Message | None:
    """Be a device that is switched off."""
    del message
    return None


def crowd_of(split: Split, data: LoadedData, names: tuple[str, ...]) -> Crowd:
    """Lay the same people out in columns."""
    attitudes = draw_attitudes(PEOPLE, seed=SEED)
    histories = histories_of(split, data.catalogue)
    answers = [
        Answer.NOT_ASKED if each is Attitude.REFUSES else Answer.GRANTED for each in attitudes
    ]
    return Crowd(
        holdings=Holdings(
            histories=HistoryColumns.from_histories(histories, now_s=SIMULATED_NOW_S),
            release=ActiveRelease(
                catalogue_sha256=data.catalogue.sha256,
                policy_sha256=DEFAULT_POLICY.sha256,
                n_items=len(data.catalogue.items),
                settings=SETTINGS,
                rank=RANK,
                batch=BATCH,
            ),
        ),
        answers=np.array(answers, np.uint8),
        withdraws_midway=np.array([each is Attitude.WITHDRAWS_MIDWAY for each in attitudes]),
        silent=np.isin(np.arange(PEOPLE), list(SILENT)),
        now_s=SIMULATED_NOW_S,
        names=names,
    )


def run_kernel(
    folder: Path,
    data: LoadedData,
    split: Split,
    graph: CheckedGraph,
    *,
    names: tuple[str, ...],
    pool: Pool = ONE_THREAD,
) -> Outcome:
    """Run the scenario on the kernel engine."""
    crowd = crowd_of(split, data, names)
    with open_house(folder / "house", data, graph) as house:
        make = campaigns(house, InProcessGrid({}), {})

        def campaign_of(name: str, price: Any) -> Campaign:
            ledger = make(name, price).strategy.inner.ledger  # type: ignore[attr-defined]
            strategy = KernelStrategy(
                ledger=ledger, crowd=crowd, clock=lambda: SIMULATED_NOW_S, pool=pool
            )
            return make(name, price, strategy)

        return scenario(house, campaign_of, crowd.ask_again)


@pytest.fixture(scope="module", params=[False, True], ids=["along-vector", "by-rows"])
def kernel(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    data: LoadedData,
    graph: CheckedGraph,
    devices: tuple[Outcome, tuple[str, ...]],
) -> Outcome:
    """The scenario on the kernel engine, along the private vector and row by row."""
    folder, split = tmp_path_factory.mktemp("kernel"), hold_out(data.interactions)
    pool = Threads(options=KernelOptions(by_rows=request.param))
    return run_kernel(folder, data, split, graph, names=devices[1], pool=pool)


def far(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Relative distance of two vectors."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def test_kernel_accepted_and_refused_equal_the_devices(
    devices: tuple[Outcome, tuple[str, ...]], kernel: Outcome
) -> None:
    """Each task has the same invited, accepted and refused, and each round the same people."""
    theirs, seen = devices[0], set()
    for ours, other in zip(kernel.results, theirs.results, strict=True):
        assert (ours.invited, ours.accepted) == (other.invited, other.accepted)
        assert ours.refusals == other.refusals
        seen |= set(other.refusals)
    for ours, other in zip(kernel.collected, theirs.collected, strict=True):
        assert ours.contributors == other.contributors
        assert (ours.invited, ours.refusals) == (other.invited, other.refusals)
        seen |= set(other.refusals)
    reasons = {each.value for each in seen}
    assert {"no-consent", "consent-withdrawn", "no-answer", "too-soon", "unknown-device"} <= reasons


def test_kernel_sums_equal_the_devices(
    devices: tuple[Outcome, tuple[str, ...]], kernel: Outcome
) -> None:
    """Each exact sum, and each noisy one less its noise, is the devices' to 1e-5."""
    theirs = devices[0]
    exact = {}
    for ours, other in zip(kernel.results, theirs.results, strict=True):
        assert ours.order.kind is other.order.kind
        if other.order.population == "none":
            exact[other.order.kind] = float(np.linalg.norm(other.noisy_sum))
            assert far(ours.noisy_sum, other.noisy_sum) <= 1e-5
        apart = float(np.linalg.norm(ours.noisy_sum - other.noisy_sum))
        assert apart <= 1e-5 * exact[other.order.kind]
    assert set(exact) == {
        TaskKind.ITEM_COUNTS, TaskKind.ITEM_STATISTICS, TaskKind.ITEM_TRAINING
    }  # fmt: skip


def test_kernel_models_equal_the_devices(
    devices: tuple[Outcome, tuple[str, ...]], kernel: Outcome
) -> None:
    """The table after each round is the same to 1e-5, and the adaptive clip moved alike."""
    assert len(kernel.tables) == 2 * ROUNDS
    for ours, other in zip(kernel.tables, devices[0].tables, strict=True):
        assert far(ours, other) <= 1e-5
    clips = [[each.order.clip_norm for each in run.collected] for run in (kernel, devices[0])]
    assert clips[0] == pytest.approx(clips[1], rel=1e-6)
    assert len(set(clips[1])) >= ROUNDS


def test_kernel_ledger_rows_equal_the_devices(
    devices: tuple[Outcome, tuple[str, ...]], kernel: Outcome
) -> None:
    """Every reservation, commit and note is the same, but for the hashes of the sums."""
    assert len(devices[0].ledger) == 4
    for ours, other in zip(kernel.ledger, devices[0].ledger, strict=True):
        for name in ("event", "state", "notes"):
            assert same(ours[name], other[name]), name


def same(one: Any, other: Any) -> bool:
    """Compare values; floats to 1e-6: an adaptive clip follows sums that differ in last digits."""
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


@pytest.mark.parametrize(("workers", "block"), [(2, 37), (3, 4096)])
def test_kernel_any_workers_and_block_same_bits(
    tmp_path: Path,
    data: LoadedData,
    split: Split,
    graph: CheckedGraph,
    *,
    workers: int,
    block: int,
) -> None:
    """One, two or three threads, and blocks of any size, give the same bits."""
    names = tuple(f"{each:064x}" for each in range(PEOPLE))
    whole = run_kernel(tmp_path / "one", data, split, graph, names=names)
    pool = Threads(workers=workers, block=block)
    parts = run_kernel(tmp_path / "many", data, split, graph, names=names, pool=pool)
    for ours, other in zip(parts.results, whole.results, strict=True):
        np.testing.assert_array_equal(ours.noisy_sum, other.noisy_sum)
    for learned, other_learned in zip(parts.learned, whole.learned, strict=True):
        np.testing.assert_array_equal(learned.ranker.factors, other_learned.ranker.factors)


def test_columns_equal_the_device_vectors(split: Split, data: LoadedData) -> None:
    """Everyone's weights and batches by columns are those that a device computes, one by one."""
    histories = histories_of(split, data.catalogue)
    columns = HistoryColumns.from_histories(histories, now_s=SIMULATED_NOW_S)
    within = np.arange(0, 1600, 7, dtype=np.int32)
    for settings in (SETTINGS, RankerSettings()):
        for top in (None, within):
            ours = columns.weigh(settings, within=top)
            theirs = pack_histories(histories, settings, within=top)
            np.testing.assert_array_equal(ours.offsets, theirs.offsets)
            np.testing.assert_array_equal(ours.items, theirs.items)
            np.testing.assert_allclose(ours.weights, theirs.weights, rtol=3e-7)
    for room in (1, 24, 10_000):
        for mine, other in zip(
            columns.latest(room=room), latest_items(histories, room=room), strict=True
        ):
            np.testing.assert_array_equal(mine, other)
    few = columns.of(np.array([7, 7, 3]))
    np.testing.assert_array_equal(few.history(1).items, histories[7].items)
    np.testing.assert_array_equal(few.history(2).counts, histories[3].counts)


def test_kernel_below_quorum_or_over_budget_releases_nothing(
    tmp_path: Path, data: LoadedData, split: Split, graph: CheckedGraph
) -> None:
    """Too few people void the reservation; a spent budget asks nobody."""
    crowd = crowd_of(split, data, tuple(f"{each:064x}" for each in range(PEOPLE)))
    with open_house(tmp_path / "house", data, graph) as house:
        make = campaigns(house, InProcessGrid({}), {})
        price = PrivacyTarget(epsilon=2.0, delta=1e-7, new_noise=seeded_noise(1))
        strategy = KernelStrategy(ledger=house.ledger, crowd=crowd, clock=lambda: SIMULATED_NOW_S)
        campaign = replace(make("adaptive", price, strategy), quorum=PEOPLE)
        with pytest.raises(QuorumNotReachedError):
            learn_item_statistics(campaign, top_items=10)
        assert [each.state.value for each in house.ledger.reservations()] == ["void"]
        spent = replace(campaign, quorum=1, privacy=replace(price, epsilon=9.0))
        with pytest.raises(BudgetExhaustedError):
            spent.ask(TaskKind.ITEM_COUNTS, dimension=campaign.n_items, noise_multiplier=0.1)
        assert len(house.ledger.reservations()) == 1


def test_kernel_task_without_a_kernel_refused_before_reserving(
    tmp_path: Path, data: LoadedData, split: Split, graph: CheckedGraph
) -> None:
    """A task that only devices can do is named, and nothing is booked."""
    crowd = crowd_of(split, data, tuple(f"{each:064x}" for each in range(PEOPLE)))
    with open_house(tmp_path / "house", data, graph) as house:
        make = campaigns(house, InProcessGrid({}), {})
        price = PrivacyTarget(epsilon=2.0, delta=1e-7, new_noise=seeded_noise(1))
        strategy = KernelStrategy(ledger=house.ledger, crowd=crowd, clock=lambda: SIMULATED_NOW_S)
        campaign = make("adaptive", price, strategy)
        noise_at_home = {"entries": 9, "local_noise_multiplier": 1.0}
        with pytest.raises(UnsupportedByKernelError, match="engine devices"):
            campaign.ask(
                TaskKind.SURVEY, dimension=9, noise_multiplier=1.0, parameters=noise_at_home
            )
        assert not house.ledger.reservations()
