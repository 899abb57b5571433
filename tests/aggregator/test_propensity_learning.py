"""A propensity learned together: devices, a training run, noise, ledger, and a new device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.consents import ConsentRegistry
from aggregator.errors import QuorumNotReachedError, RunStateError
from aggregator.in_process import InProcessGrid
from aggregator.ledger import Ledger
from aggregator.propensity_learning import (
    PropensityRecipe,
    decode_state,
    encode_state,
    learn_propensity,
    resume_propensity,
)
from aggregator.run_keys import FileNoiseKeys
from aggregator.run_store import RunStore
from aggregator.strategy import BoundedSumStrategy
from aggregator.training_run import TrainingRuns
from client_sdk import Homebody
from client_sdk.federation.flower_device import handle_message
from client_sdk.intelligence.litert import LiteRtModel
from client_sdk.intelligence.propensity import LabelledBatch, PropensityModel, PropensitySettings
from client_sdk.testing import (
    START_S,
    FakeAggregator,
    FakeReleases,
    FixedClock,
    MemoryKeyStore,
    sample_catalogue,
)
from client_sdk.wire import DEFAULT_POLICY
from models.item_training import ServerOptimizer
from models.propensity_training import initial_weights, state_from_weights
from privacy.accounting import epsilon_pld
from privacy.budget import Budget
from privacy.factorisation import FactorisationName
from privacy.noise import GaussianNoise
from simulations.house import UnsafeUnbookedLedger

CATALOGUE = sample_catalogue()
N_DEVICES, ROUNDS, CASES = 12, 4, 12
START = initial_weights(centre=np.array([0.0, 100.0]), scale=np.array([1.0, 0.1]))
RECIPE = PropensityRecipe(
    name="buys",
    rounds=ROUNDS,
    optimizer=ServerOptimizer(learning_rate=3.0, momentum=0.5),
    mechanism=FactorisationName.INDEPENDENT_ROUNDS,
    min_separation=2,
)


@pytest.fixture(scope="module")
def graph() -> LiteRtModel:
    """A logistic graph of two features, the same on every device."""
    exporter = pytest.importorskip("models.propensity_graph", exc_type=ImportError)
    return LiteRtModel(exporter.export_propensity(features=2, hidden=0, batch=8)[0])


def lived(rng: np.random.Generator, n: int) -> LabelledBatch:
    """Cases of a world in which only the first feature matters, and how."""
    features = rng.standard_normal((n, 2)) * [1.0, 10.0] + [0.0, 100.0]
    chances = 1 / (1 + np.exp(-3.0 * features[:, 0]))
    return LabelledBatch(features=features, labels=rng.random(n) < chances)


class Town:
    """Devices whose own propensity kept a few cases each, an aggregator, a ledger and runs."""

    def __init__(self, folder: Path, graph: LiteRtModel) -> None:
        self.folder, self.graph = folder, graph
        self.aggregator, self.clock = FakeAggregator(), FixedClock()
        rng = np.random.default_rng(0)
        self.homes = {number: self.open(f"device-{number}") for number in range(1, N_DEVICES + 1)}
        for home in self.homes.values():
            self.model(home).train(lived(rng, CASES))
        url = f"sqlite:///{folder / 'house.db'}"
        self.ledger = Ledger(url, {"town": Budget(epsilon=8.0, delta=1e-6)})
        self.consents = ConsentRegistry(f"sqlite:///{folder / 'consents.db'}")
        self.store = RunStore(url)
        keys = FileNoiseKeys(folder / "keys")
        self.runs = TrainingRuns(ledger=self.ledger, store=self.store, keys=keys)

    def open(self, name: str) -> Homebody:
        """Open the store of one more person, who says yes to everything."""
        home = Homebody.open(
            self.folder / name,
            key_store=MemoryKeyStore(),
            clock=self.clock,
            releases=FakeReleases(self.aggregator.release(CATALOGUE)),
        )
        home.update()
        home.consent.grant("personalise", "train", "statistics")
        home.track("purchase", item="oats")
        return home

    def model(self, home: Homebody) -> PropensityModel:
        """Give a device's own propensity, which keeps its cases."""
        settings = PropensitySettings(keep_cases=CASES)
        return home.models.propensity("buys", self.graph, settings)

    def campaign(self, *, noise: bool = True, quorum: int = 1) -> Campaign:
        """Prepare a campaign over every device, at ε = 8 or without noise."""
        private = PrivacyTarget(
            epsilon=8.0,
            delta=1e-6,
            new_noise=lambda: GaussianNoise.from_seed_for_simulation(3),
        )
        return Campaign(
            strategy=BoundedSumStrategy(
                signer=self.aggregator.key,
                ledger=self.ledger if noise else UnsafeUnbookedLedger(),
                consents=self.consents,
                directory={number: home.device for number, home in self.homes.items()},
                clock=self.clock.now_s,
            ),
            grid=InProcessGrid(
                {
                    number: (lambda message, home=home: handle_message(home.answer, message))
                    for number, home in self.homes.items()
                }
            ),
            population="town",
            n_items=len(CATALOGUE.items),
            catalogue_sha256=CATALOGUE.sha256,
            policy_sha256=DEFAULT_POLICY.sha256,
            report_goal=N_DEVICES // 2,
            quorum=quorum,
            privacy=private if noise else UnsafeNoPrivacy(),
            runs=self.runs,
            clock=lambda: START_S,
        )

    def close(self) -> None:
        """Close every store."""
        for home in self.homes.values():
            home.close()
        self.ledger.close()
        self.store.close()
        self.consents.close()


def half(number: int) -> list[int]:
    """The odd people in the odd rounds, the even ones in the even: separation 2."""
    return [node for node in range(1, N_DEVICES + 1) if node % 2 == number % 2]


@pytest.fixture
def town(tmp_path: Path, graph: LiteRtModel) -> Iterator[Town]:
    """A town."""
    made = Town(tmp_path, graph)
    yield made
    made.close()


def test_propensity_learned_without_noise_tells_a_new_device_who_buys(town: Town) -> None:
    """From real devices' LiteRT steps to somebody who has no case yet; and people read of it."""
    seen: list[int] = []
    learned = learn_propensity(
        town.campaign(noise=False),
        START,
        RECIPE,
        cohort_of=half,
        on_round=lambda number, state: seen.append(number + state.rounds),
    )
    assert [task.accepted for task in learned.tasks] == [N_DEVICES // 2] * ROUNDS
    assert seen == [1, 3, 5, 7]
    test = lived(np.random.default_rng(9), 400)
    settings = PropensitySettings(keep_cases=CASES)
    newcomer = town.open("newcomer").models.propensity(
        "buys", town.graph, settings, start=learned.weights
    )
    chances = newcomer.predict(test.features)
    yes, no = chances[test.labels > 0], chances[test.labels == 0]
    untrained = PropensityModel(town.graph, start=START).predict(test.features)
    assert untrained.std() == 0.0
    assert np.mean(yes[:, None] > no[None, :]) > 0.85
    assert newcomer.n_seen == 0
    entry = town.homes[2].transparency()[-1]
    assert (entry.sent, entry.purpose) == ("contribution", "train")
    assert entry.norm is not None
    assert 0.0 < entry.norm <= RECIPE.clip_norm
    assert "help learn how likely something is" in entry.sentence()


def test_propensity_learned_with_noise_is_one_release_at_its_price(town: Town) -> None:
    """The whole run is booked once, at the campaign's ε, with the terms that devices hold to."""
    learned = learn_propensity(town.campaign(), START, RECIPE, cohort_of=half)
    [event] = learned.events
    assert event.kind.value == "propensity-training"
    assert event.dimension == 3
    assert event.factorisation is not None
    assert (event.factorisation.rounds, event.factorisation.max_participations) == (4, 2)
    assert epsilon_pld([event], 1e-6) == pytest.approx(8.0, abs=8e-3)
    assert np.isfinite(learned.weights.parameters).all()
    assert learned.weights.parameters.any()


def test_propensity_of_who_said_no_or_has_no_case_is_not_in_the_sum(town: Town) -> None:
    """Training needs its own yes; without one to personalise nothing is even kept."""
    town.homes[1].consent.withdraw("train")
    town.homes[2].consent.withdraw("personalise")
    assert town.homes[2].models.cases() == {}
    town.homes[3].models.forget("buys")
    recipe = replace(RECIPE, rounds=1)
    learned = learn_propensity(town.campaign(noise=False), START, recipe)
    assert learned.tasks[0].accepted == N_DEVICES - 3
    assert {reason.value: n for reason, n in learned.tasks[0].refusals.items()} == {
        "consent-withdrawn": 1,
        "too-little-data": 2,
    }
    other = replace(recipe, name="leaves")
    with pytest.raises(QuorumNotReachedError):
        learn_propensity(town.campaign(noise=False), START, other)


def test_propensity_run_without_quorum_is_resumed_where_it_stood(town: Town) -> None:
    """A run that lost its people in the third round goes on to its end, and costs the same."""

    def only_at_first(number: int) -> list[int]:
        return half(number) if number < 2 else []

    with pytest.raises(QuorumNotReachedError):
        learn_propensity(town.campaign(), START, RECIPE, cohort_of=only_at_first)
    [run_id] = town.store.running()
    learned = resume_propensity(town.campaign(), run_id, RECIPE, cohort_of=half)
    assert len(learned.tasks) == 2
    assert epsilon_pld(learned.events, 1e-6) == pytest.approx(8.0, abs=8e-3)
    again = resume_propensity(town.campaign(), run_id, RECIPE, cohort_of=half)
    assert (again.tasks, again.weights.to_payload()) == ((), learned.weights.to_payload())


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""}, {"name": "x" * 129}, {"rounds": 0}, {"passes": 0}, {"min_separation": 0},
        {"max_participations": 0}, {"device_learning_rate": 0.0}, {"memory": float("nan")},
        {"clip_norm": -1.0},
    ],
    ids=str,
)  # fmt: skip
def test_recipe_nonsense_is_refused(changes: dict[str, object]) -> None:
    """The caller's mistake, before anybody is asked."""
    with pytest.raises(ValueError, match="expected"):
        replace(RECIPE, **changes)  # type: ignore[arg-type]


def test_stored_weights_cut_or_other_bytes_do_not_read() -> None:
    """What a run stores is read back to the bit, or refused."""
    good = encode_state(state_from_weights(START))
    assert encode_state(decode_state(good)) == good
    nan = good[:-4] + np.array([np.nan], "<f4").tobytes()
    for data in (b"", b"{}\n", good[:-4], good + bytes(4), good[:-1], b"[1]\n" + good, nan):
        with pytest.raises(RunStateError):
            decode_state(data)
