"""Learning over real devices in process: what is decoded, what is booked, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.consents import ConsentRegistry
from aggregator.errors import QuorumNotReachedError
from aggregator.in_process import InProcessGrid
from aggregator.learning import TrainingRecipe, learn_item_statistics, learn_item_training
from aggregator.ledger import Ledger
from aggregator.publishing import export_checked_graph
from aggregator.strategy import BoundedSumStrategy
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
from client_sdk.wire import DEFAULT_POLICY, Purpose, Refusal
from models.item_statistics import decode_item_statistics
from models.item_training import initial_state
from privacy.accounting import epsilon_pld
from privacy.budget import Budget
from privacy.errors import BudgetExhaustedError
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

    def close(self) -> None:
        """Close every store."""
        for home in self.devices.values():
            home.close()
        self.ledger.close()
        self.consents.close()

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
