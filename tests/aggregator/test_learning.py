"""Learning over real devices in process: what is decoded, what is booked, what is refused.

Longer than 400 lines because every way to learn is asked of the one town that it sets up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.consents import ConsentRegistry
from aggregator.errors import QuorumNotReachedError, RunStateError
from aggregator.in_process import InProcessGrid
from aggregator.item_training import ItemModel
from aggregator.learning import (
    TrainingRecipe,
    learn_item_statistics,
    learn_item_training,
    resume_item_training,
)
from aggregator.ledger import Ledger
from aggregator.publishing import export_checked_graph
from aggregator.run_keys import FileNoiseKeys
from aggregator.run_store import RunStore
from aggregator.strategy import BoundedSumStrategy
from aggregator.training_run import TrainingRuns
from client_sdk import Homebody
from client_sdk.federation.flower_device import handle_message
from client_sdk.intelligence import RankerSettings, RankerTable
from client_sdk.intelligence.history import statistics_vector
from client_sdk.testing import (
    START_S,
    FakeAggregator,
    FakeReleases,
    FixedClock,
    MemoryKeyStore,
    sample_catalogue,
)
from client_sdk.wire import DEFAULT_POLICY, Purpose, Refusal, TaskKind
from models.item_prior import ItemPrior
from models.item_statistics import decode_item_statistics
from models.item_training import TrainingState, initial_state
from privacy.accounting import epsilon_pld
from privacy.budget import Budget
from privacy.clipping import Adaptation
from privacy.errors import BudgetExhaustedError
from privacy.factorisation import FactorisationName
from privacy.noise import GaussianNoise

N_DEVICES = 12
RANK = 4
CATALOGUE = sample_catalogue()
N_ITEMS = len(CATALOGUE.items)


class Town:
    """A dozen devices with histories, an aggregator, and a ledger."""

    def __init__(self, folder: Path, *, graph: bytes | None = None) -> None:
        self.aggregator = FakeAggregator()
        self.clock = FixedClock()
        table = RankerTable.from_arrays(
            factors=np.zeros((N_ITEMS, RANK)), settings=RankerSettings(form="ridge")
        )
        release = self.aggregator.release(
            CATALOGUE, table=table.to_bytes() if graph else None, graph=graph
        )
        rng = np.random.default_rng(5)
        self.devices: dict[int, Homebody] = {}
        for number in range(1, N_DEVICES + 1):
            home = Homebody.open(
                folder / f"device-{number}",
                key_store=MemoryKeyStore(),
                clock=self.clock,
                releases=FakeReleases(release),
            )
            home.update()
            home.consent.grant("personalise", "train", "statistics")
            for row in rng.choice(N_ITEMS, 4, replace=False):
                home.track("purchase", item=CATALOGUE.items[row].item_id)
            self.devices[number] = home
        self.ledger = Ledger(
            f"sqlite:///{folder / 'ledger.db'}", {"town": Budget(epsilon=4.0, delta=1e-6)}
        )
        self.consents = ConsentRegistry(f"sqlite:///{folder / 'consents.db'}")
        self.runs = TrainingRuns(
            ledger=self.ledger,
            store=RunStore(f"sqlite:///{folder / 'runs.db'}"),
            keys=FileNoiseKeys(folder / "noise-keys"),
        )

    def close(self) -> None:
        """Close every store."""
        for home in self.devices.values():
            home.close()
        self.ledger.close()
        self.consents.close()
        self.runs.store.close()

    def campaign(self, *, epsilon: float | None, quorum: int = 1) -> Campaign:
        """Prepare a campaign; without an ε its sums are exact and nothing is booked."""
        nodes = {
            number: (lambda message, home=home: handle_message(home.answer, message))
            for number, home in self.devices.items()
        }
        private = PrivacyTarget(
            epsilon=epsilon or 1.0,
            delta=1e-6,
            new_noise=lambda: GaussianNoise.from_seed_for_simulation(3),
        )
        return Campaign(
            strategy=BoundedSumStrategy(
                signer=self.aggregator.key,
                ledger=Unbooked() if epsilon is None else self.ledger,
                consents=self.consents,
                directory={number: home.device for number, home in self.devices.items()},
                clock=self.clock.now_s,
            ),
            grid=InProcessGrid(nodes),
            population="town",
            n_items=N_ITEMS,
            catalogue_sha256=CATALOGUE.sha256,
            policy_sha256=DEFAULT_POLICY.sha256,
            report_goal=N_DEVICES,
            quorum=quorum,
            privacy=UnsafeNoPrivacy() if epsilon is None else private,
            runs=self.runs,
            clock=lambda: START_S,
        )


class Unbooked:
    """Books nothing, for sums without noise."""

    def reserve(self, event: object) -> str:
        """Admit."""
        return "unbooked"

    def commit(self, reservation: str, accepted: int) -> None:
        """Nothing."""

    def void(self, reservation: str, reason: str) -> None:
        """Nothing."""


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """A town without a model."""
    made = Town(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def graph() -> bytes:
    """A graph of the test's rank."""
    return export_checked_graph(RANK, batch=64).data


def test_item_statistics_without_noise_decode_like_the_raw_histories(town: Town) -> None:
    """The real path, device to decoder, gives what all histories in one place would give."""
    learned = learn_item_statistics(town.campaign(epsilon=None), top_items=N_ITEMS)

    vectors, presence = np.zeros((2, N_DEVICES, N_ITEMS))
    for row, home in enumerate(town.devices.values()):
        history = home.signals.history(Purpose.PERSONALISE, home.catalogue.position)
        settings = RankerSettings()
        items, values = statistics_vector(
            history, weighting=settings.weighting, half_life_days=settings.half_life_days
        )
        vectors[row, items] = values
        presence[row, items] = statistics_vector(history, weighting="binary")[1]
    gram = vectors.T @ vectors
    rows, columns = np.triu_indices(N_ITEMS)
    packed = gram[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))
    expected = decode_item_statistics(
        packed,
        top_items=np.arange(N_ITEMS, dtype=np.int32),
        n_items=N_ITEMS,
        noise_std=0.0,
        noisy_counts=presence.sum(axis=0),
    )
    ours, theirs = learned.ranker.factors, expected.factors
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-5)
    np.testing.assert_allclose(learned.ranker.popularity, expected.popularity, atol=1e-6)
    assert [task.accepted for task in learned.tasks] == [N_DEVICES, N_DEVICES]


def test_item_statistics_with_a_prior_cost_the_same_and_reach_every_item(town: Town) -> None:
    """Public attributes are post-processing: no third task, and items outside K get factors."""
    prior = ItemPrior(attributes=np.ones((N_ITEMS, 1)))

    learned = learn_item_statistics(town.campaign(epsilon=None), top_items=3, prior=prior)
    plain = learn_item_statistics(town.campaign(epsilon=None), top_items=3)

    assert [task.event.kind for task in learned.tasks] == [
        TaskKind.ITEM_COUNTS,
        TaskKind.ITEM_STATISTICS,
    ]
    outside = np.setdiff1d(np.arange(N_ITEMS), learned.top_items)
    assert np.abs(learned.ranker.factors[outside]).sum() > 0
    assert plain.top_items is not None
    assert not plain.ranker.factors[np.setdiff1d(np.arange(N_ITEMS), plain.top_items)].any()


def test_item_statistics_with_noise_spend_what_was_planned(town: Town) -> None:
    """Both releases together cost the campaign's ε, and the ledger has them."""
    learned = learn_item_statistics(town.campaign(epsilon=2.0), top_items=3)

    assert epsilon_pld(learned.events, 1e-6) == pytest.approx(2.0, abs=2e-3)
    booked = [each for each in town.ledger.reservations() if each.accepted is not None]
    assert [each.event for each in booked] == learned.events
    assert learned.top_items is not None
    assert len(learned.top_items) == 3


def test_item_statistics_over_budget_ask_nobody(town: Town) -> None:
    """Where the ledger refuses, no device hears of it."""
    with pytest.raises(BudgetExhaustedError):
        learn_item_statistics(town.campaign(epsilon=40.0), top_items=3)

    assert all(not home.transparency() for home in town.devices.values())


def test_item_statistics_below_quorum_release_nothing(town: Town) -> None:
    """Withdrawals bring the sum below its quorum: the reservation is voided."""
    for number in range(1, 8):
        town.devices[number].consent.withdraw("statistics")

    with pytest.raises(QuorumNotReachedError):
        learn_item_statistics(town.campaign(epsilon=2.0, quorum=6), top_items=3)

    assert [each.accepted for each in town.ledger.reservations()] == [None]


def test_item_statistics_with_bad_top_items_raise(town: Town) -> None:
    """The number of items is the caller's to get right."""
    with pytest.raises(ValueError, match="top_items must be from 1 to 8"):
        learn_item_statistics(town.campaign(epsilon=2.0), top_items=9)


def test_item_training_on_devices_changes_the_table(tmp_path: Path, graph: bytes) -> None:
    """Rounds through LiteRT on every device make owned items score above the others."""
    town = Town(tmp_path, graph=graph)
    try:
        start = initial_state(n_items=N_ITEMS, rank=RANK, seed=1)
        seen: list[int] = []
        learned = learn_item_training(
            town.campaign(epsilon=None),
            start=start,
            recipe=TrainingRecipe(rounds=3),
            cohort_of=lambda number: list(town.devices)[: 6 + number],
            on_round=lambda number, _: seen.append(number),
        )
        assert seen == [0, 1, 2]
        assert [task.invited for task in learned.tasks] == [12, 6, 7, 8]
        assert [task.accepted for task in learned.tasks] == [12, 6, 7, 8]
        assert not np.allclose(learned.ranker.factors, start.factors)
        assert np.isfinite(learned.ranker.factors).all()
    finally:
        town.close()


def noisy(town: Town, **changes: Any) -> dict[str, Any]:
    """Give a short training run in which the people take turns: separation 2."""
    recipe = TrainingRecipe(rounds=4, min_separation=2, **changes)
    return {
        "recipe": recipe,
        "cohort_of": lambda number: [n for n in town.devices if n % 2 == number % 2],
    }


@pytest.fixture
def trained_town(tmp_path: Path, graph: bytes) -> Iterator[Town]:
    """A town whose devices have a model."""
    made = Town(tmp_path, graph=graph)
    yield made
    made.close()


@pytest.mark.parametrize("mechanism", [FactorisationName.BLT, FactorisationName.INDEPENDENT_ROUNDS])
def test_item_training_with_noise_is_one_release_at_the_planned_price(
    trained_town: Town, mechanism: FactorisationName
) -> None:
    """Counts and run cost the campaign's ε; the ledger has two releases, the run's realised."""
    town = trained_town
    asked = noisy(town, mechanism=mechanism)
    learned = learn_item_training(
        town.campaign(epsilon=2.0),
        start=initial_state(n_items=N_ITEMS, rank=RANK, seed=1),
        **asked,
    )
    assert epsilon_pld(learned.events, 1e-6) == pytest.approx(2.0, abs=2e-3)
    counts, run = town.ledger.reservations()
    assert [counts.event, run.event] == learned.events
    assert run.event.mechanism.value == mechanism.value
    assert run.notes[-1]["realised"] == {
        "min_separation": 2, "max_participations": 2, "rounds": 4,
    }  # fmt: skip
    assert [task.accepted for task in learned.tasks] == [N_DEVICES, 6, 6, 6, 6]
    assert np.isfinite(learned.ranker.factors).all()
    assert town.runs.store.running() == []


def test_item_training_devices_keep_the_separation_themselves(trained_town: Town) -> None:
    """Whoever invites everybody to every round hears no from those who were there before."""
    town = trained_town
    asked = {**noisy(town), "cohort_of": lambda _: list(town.devices)}
    with pytest.raises(QuorumNotReachedError) as caught:
        learn_item_training(
            town.campaign(epsilon=2.0),
            start=initial_state(n_items=N_ITEMS, rank=RANK, seed=1),
            **asked,
        )
    assert caught.value.refusals == {Refusal.TOO_SOON.value: N_DEVICES}


def test_item_training_cut_short_resumes_to_the_end(trained_town: Town) -> None:
    """A crash after the second round: the same run goes on, and is paid for once."""
    town = trained_town
    asked = noisy(town)

    def crash(number: int, _: TrainingState) -> None:
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_item_training(
            town.campaign(epsilon=2.0),
            start=initial_state(n_items=N_ITEMS, rank=RANK, seed=1),
            on_round=crash,
            **asked,
        )
    (run_id,) = town.runs.store.running()
    seen: list[int] = []
    learned = resume_item_training(
        town.campaign(epsilon=2.0),
        run_id,
        on_round=lambda _, state: seen.append(state.rounds),
        **asked,
    )
    assert seen == [3, 4]
    assert [each.event for each in town.ledger.reservations()] == learned.events
    assert epsilon_pld(learned.events, 1e-6) == pytest.approx(2.0, abs=2e-3)
    again = resume_item_training(town.campaign(epsilon=2.0), run_id, **asked)
    np.testing.assert_array_equal(again.ranker.factors, learned.ranker.factors)
    assert again.events == learned.events


def test_item_training_with_an_adaptive_clip_trains_on_real_devices(trained_town: Town) -> None:
    """One more entry in every vector, one release, and a clip that moved."""
    town = trained_town
    asked = noisy(town, adaptation=Adaptation(), clip_norm=1e-3)
    learned = learn_item_training(
        town.campaign(epsilon=2.0),
        start=initial_state(n_items=N_ITEMS, rank=RANK, seed=1),
        **asked,
    )
    (_, run) = town.ledger.reservations()
    assert run.event.dimension == N_ITEMS * RANK + 1
    clips = [facts["clip_norm"] for facts in run.notes if "clip_norm" in facts]
    assert clips[0] == 1e-3
    assert len(set(clips)) > 1
    assert epsilon_pld(learned.events, 1e-6) == pytest.approx(2.0, abs=2e-3)


@pytest.mark.parametrize("mechanism", list(FactorisationName))
def test_item_training_every_mechanism_decodes(
    trained_town: Town, mechanism: FactorisationName
) -> None:
    """Trees and bands too have a noise that the decoder can state."""
    learned = learn_item_training(
        trained_town.campaign(epsilon=2.0),
        start=initial_state(n_items=N_ITEMS, rank=RANK, seed=1),
        **noisy(trained_town, mechanism=mechanism),
    )
    assert np.isfinite(learned.ranker.factors).all()


def test_item_training_with_noise_and_no_place_for_its_state_is_a_mistake(town: Town) -> None:
    """A run that a crash would lose is not begun."""
    with pytest.raises(ValueError, match="a place for its state"):
        learn_item_training(
            replace(town.campaign(epsilon=2.0), runs=None),
            start=initial_state(n_items=N_ITEMS, rank=RANK, seed=1),
            **noisy(town),
        )


@pytest.mark.parametrize(
    "changes", [{"rounds": 0}, {"min_separation": 0}, {"max_participations": 0}]
)
def test_recipe_that_is_none_is_refused(changes: dict[str, int]) -> None:
    """Bad numbers are a mistake before anyone is asked."""
    with pytest.raises(ValueError, match="at least 1"):
        TrainingRecipe(**{"rounds": 4, **changes})


def test_item_model_survives_storage_and_refuses_what_is_none(town: Town) -> None:
    """What a restart reads is what was stored, to the bit."""
    event = (
        town.campaign(epsilon=1.0)
        .ask(TaskKind.ITEM_COUNTS, dimension=N_ITEMS, noise_multiplier=9.0)
        .event
    )
    model = ItemModel(
        state=initial_state(n_items=N_ITEMS, rank=RANK, seed=3),
        noisy_counts=np.arange(N_ITEMS) / 3.0,
        counts_event=event,
    )
    again = ItemModel.from_bytes(model.to_bytes())
    assert again.to_bytes() == model.to_bytes()
    assert again.counts_event == event
    for damaged in (b"", b"{}\n", model.to_bytes()[:-1]):
        with pytest.raises(RunStateError):
            ItemModel.from_bytes(damaged)


def test_item_training_without_a_graph_on_the_device_is_refused(town: Town) -> None:
    """A device without a model has nothing to train with, and says so."""
    start = initial_state(n_items=N_ITEMS, rank=RANK, seed=1)

    with pytest.raises(QuorumNotReachedError) as caught:
        learn_item_training(
            town.campaign(epsilon=None), start=start, recipe=TrainingRecipe(rounds=1)
        )

    assert caught.value.refusals == {Refusal.UNKNOWN_TASK.value: N_DEVICES}


def test_item_training_of_another_catalogue_raises(town: Town) -> None:
    """The table must have the catalogue's rows."""
    campaign = replace(town.campaign(epsilon=None), n_items=N_ITEMS + 1)
    with pytest.raises(ValueError, match="the table has 8 items, the catalogue 9"):
        learn_item_training(
            campaign,
            start=initial_state(n_items=N_ITEMS, rank=RANK, seed=1),
            recipe=TrainingRecipe(rounds=1),
        )
