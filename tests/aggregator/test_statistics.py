"""Statistics from end to end: devices, consent, strategy, noise, ledger, estimates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from aggregator.campaign import Campaign, PrivacyTarget
from aggregator.consents import ConsentRegistry
from aggregator.errors import QuorumNotReachedError
from aggregator.in_process import InProcessGrid
from aggregator.ledger import Ledger
from aggregator.statistics import (
    ask_evaluation,
    ask_survey,
    noise_multiplier_of,
    series_cost,
)
from aggregator.strategy import BoundedSumStrategy
from client_sdk import Homebody
from client_sdk.federation.evaluation import measure_ranker
from client_sdk.federation.flower_device import handle_message
from client_sdk.intelligence.categories import ItemCategories
from client_sdk.testing import (
    START_S,
    FakeAggregator,
    FakeReleases,
    FixedClock,
    MemoryKeyStore,
    sample_catalogue,
)
from client_sdk.wire import (
    DEFAULT_POLICY,
    Frame,
    FrameKind,
    Order,
    Purpose,
    Refusal,
    RunTerms,
    SparseVector,
    TaskKind,
    read_frame,
)
from client_sdk.wire.statistics import Binning, Measure, MeasureForm, Question, Survey
from client_sdk.wire.table import RankerTable
from privacy.accounting import epsilon_deciding, epsilon_pld
from privacy.budget import Budget
from privacy.errors import BudgetExhaustedError
from privacy.events import LOCAL_ADJACENCY, LOCAL_TRUSTED, MechanismName, NoiseSource
from privacy.noise import GaussianNoise
from simulations.scripted import Behaviour, ScriptedDevice

CATALOGUE = sample_catalogue()
N_DEVICES = 12
PURCHASES = Binning(feature="purchases_ever", edges=(0.0, 2.0, 4.0))
HISTOGRAM = Survey(name="one", questions=(Question(name="purchases", by=PURCHASES),))
SURVEY = Survey(
    name="basics 2026-W01",
    questions=(
        Question(name="purchases", by=PURCHASES),
        Question(name="mean", measures=(Measure(feature="purchases_ever", low=0.0, high=10.0),)),
        Question(
            name="busy",
            by=PURCHASES,
            measures=(Measure(feature="n_categories", low=2.0, high=9.0, form=MeasureForm.SHARE),),
        ),
    ),
)
Node = Callable[[Message], Message | None]


class Town:
    """Twelve people who bought 1, 2, 3, 4, 1, ... things; a ledger; and guests who misbehave."""

    def __init__(self, folder: Path, budget: float = 1e4) -> None:
        self.aggregator, self.clock = FakeAggregator(), FixedClock()
        release = self.aggregator.release(CATALOGUE)
        self.homes: dict[int, Homebody] = {}
        for number in range(N_DEVICES):
            home = Homebody.open(
                folder / f"device-{number}",
                key_store=MemoryKeyStore(),
                clock=self.clock,
                releases=FakeReleases(release),
            )
            home.update()
            home.consent.grant("personalise", "statistics")
            for place in range(1 + number % 4):
                item = CATALOGUE.items[(number + place) % 8].item_id
                home.track("purchase", item=item, time_s=START_S - 5000.0 + 60 * place)
            self.homes[number + 1] = home
        self.guests: dict[int, ScriptedDevice] = {}
        self.ledger = Ledger(
            f"sqlite:///{folder / 'house.db'}", {"town": Budget(epsilon=budget, delta=1e-6)}
        )
        self.consents = ConsentRegistry(f"sqlite:///{folder / 'consents.db'}")
        self.messages: list[tuple[Frame, bytes]] = []

    def invite(self, behaviour: Behaviour, vector: list[float]) -> None:
        """Enrol a device that misbehaves."""
        self.guests[100 + len(self.guests)] = ScriptedDevice(
            vector=SparseVector.from_dense(np.array(vector, np.float32)),
            consented_at_s=int(START_S) - 10,
            behaviour=behaviour,
        )

    def campaign(
        self, *, epsilon: float = 2e3, quorum: int = 1, from_system: bool = False
    ) -> Campaign:
        """Prepare a campaign; at ε = 2,000 the noise is 0.02 of a person."""
        homes = {number: home.answer for number, home in self.homes.items()}
        guests = {number: guest.answer for number, guest in self.guests.items()}
        nodes: dict[int, Node] = {
            number: (lambda message, answer=answer: handle_message(self.noted(answer), message))
            for number, answer in (homes | guests).items()
        }
        new_noise = (
            GaussianNoise.from_system
            if from_system
            else lambda: GaussianNoise.from_seed_for_simulation(3)
        )
        return Campaign(
            strategy=BoundedSumStrategy(
                signer=self.aggregator.key,
                ledger=self.ledger,
                consents=self.consents,
                directory={number: home.device for number, home in self.homes.items()}
                | {number: guest.public_key_hex for number, guest in self.guests.items()},
                clock=self.clock.now_s,
            ),
            grid=InProcessGrid(nodes),
            population="town",
            n_items=len(CATALOGUE.items),
            catalogue_sha256=CATALOGUE.sha256,
            policy_sha256=DEFAULT_POLICY.sha256,
            report_goal=N_DEVICES,
            quorum=quorum,
            privacy=PrivacyTarget(epsilon=epsilon, delta=1e-6, new_noise=new_noise),
            clock=lambda: START_S,
        )

    def noted(self, answer: Callable[[bytes], bytes | None]) -> Callable[[bytes], bytes | None]:
        """Look at what the aggregator asks and what a device answers."""

        def asked(frame: bytes) -> bytes | None:
            reply = answer(frame)
            self.messages.append((read_frame(frame), reply or b""))
            return reply

        return asked

    def close(self) -> None:
        """Close every store."""
        for home in self.homes.values():
            home.close()
        self.ledger.close()
        self.consents.close()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """A town."""
    made = Town(tmp_path)
    yield made
    made.close()


def test_survey_of_a_town_finds_its_histogram_mean_and_rates(town: Town) -> None:
    """Three of each of 1, 2, 3 and 4 purchases, from the features of real devices."""
    answered = ask_survey(town.campaign(), SURVEY, least_persons=1.0)
    found = answered.found
    assert answered.task.accepted == N_DEVICES
    assert answered.task.event.purpose is Purpose.STATISTICS
    assert found.histograms["purchases"].counts == pytest.approx([0, 3, 9, 0, 0], abs=0.3)
    mean = found.groups["mean"][0].means["purchases_ever"]
    assert mean.value == pytest.approx(2.5, abs=0.1)
    assert mean.holds(2.5)
    told = {group.group: group.persons.value for group in found.groups["busy"]}
    assert told["0 to 2"] == pytest.approx(3.0, abs=0.3)
    assert told["2 to 4"] == pytest.approx(9.0, abs=0.3)


def test_survey_of_a_small_group_is_suppressed(town: Town) -> None:
    """By default a dozen people are too few to tell a rate of."""
    answered = ask_survey(town.campaign(), SURVEY)
    assert all(not group.means for group in answered.found.groups["busy"])


def test_survey_hostile_contribution_moves_no_more_than_one_person(town: Town) -> None:
    """A million times too long is cut to the clip norm; NaN is refused; a no is a no."""
    town.invite(Behaviour.EXAGGERATES, [0.0, 0.0, 0.0, 1.0, 0.0])
    town.invite(Behaviour.NOT_A_NUMBER, [0.0, 0.0, 0.0, 1.0, 0.0])
    town.invite(Behaviour.REFUSES_CONSENT, [0.0, 0.0, 0.0, 1.0, 0.0])
    town.homes[1].consent.withdraw("statistics")
    answered = ask_survey(town.campaign(), HISTOGRAM)
    assert answered.task.accepted == N_DEVICES - 1 + 1
    assert answered.task.refusals[Refusal.NOT_FINITE] == 1
    assert answered.task.refusals[Refusal.NO_CONSENT] == 1
    assert answered.task.refusals[Refusal.CONSENT_WITHDRAWN] == 1
    counts = answered.found.histograms["purchases"].counts
    assert counts == pytest.approx([0, 2, 9, 1, 0], abs=0.3)


def test_survey_is_booked_at_its_price_and_refused_when_it_is_spent(tmp_path: Path) -> None:
    """One ledger: the second survey does not fit, and nobody is asked."""
    town = Town(tmp_path, budget=1.2)
    try:
        answered = ask_survey(town.campaign(epsilon=1.0), SURVEY)
        assert epsilon_pld([answered.task.event], 1e-6) == pytest.approx(1.0, abs=1e-3)
        asked = len(town.messages)
        with pytest.raises(BudgetExhaustedError):
            ask_survey(town.campaign(epsilon=1.0), SURVEY)
        assert len(town.messages) == asked
    finally:
        town.close()


def test_survey_below_the_quorum_publishes_nothing(town: Town) -> None:
    """The reservation is given back."""
    with pytest.raises(QuorumNotReachedError):
        ask_survey(town.campaign(quorum=N_DEVICES + 1), SURVEY)


@pytest.mark.parametrize(
    ("mechanism", "epsilon", "deviations"),
    [(MechanismName.DISCRETE_GAUSSIAN, 8.0, 6), (MechanismName.DISCRETE_LAPLACE, 50.0, 12)],
)
def test_survey_with_discrete_noise_is_booked_as_such(
    mechanism: MechanismName, epsilon: float, deviations: int, town: Town
) -> None:
    """The histogram comes out, with the noise of the operating system."""
    answered = ask_survey(
        town.campaign(epsilon=epsilon, from_system=True), HISTOGRAM, mechanism=mechanism
    )
    assert answered.task.event.mechanism is mechanism
    assert 0.998 * epsilon < epsilon_deciding([answered.task.event], 1e-6) <= epsilon
    counts = answered.found.histograms["purchases"].counts
    limit = deviations * answered.noise_std
    assert limit < 4.5
    assert counts == pytest.approx([0, 3, 9, 0, 0], abs=limit)


def test_survey_with_laplace_noise_of_more_than_one_entry_is_refused_first(town: Town) -> None:
    """Its sensitivity is in L1: nobody is asked, nothing is booked."""
    with pytest.raises(ValueError, match="one question"):
        ask_survey(town.campaign(), SURVEY, mechanism=MechanismName.DISCRETE_LAPLACE)
    assert not town.messages


def test_survey_with_laplace_noise_drops_a_device_that_fills_two_cells(town: Town) -> None:
    """Of L2 norm 1, but of L1 norm 1.41: not what the noise is made for."""
    town.invite(Behaviour.HONEST, [0.6, 0.0, 0.0, 0.6, 0.0])
    answered = ask_survey(
        town.campaign(epsilon=50.0, from_system=True),
        HISTOGRAM,
        mechanism=MechanismName.DISCRETE_LAPLACE,
    )
    assert answered.task.accepted == N_DEVICES
    assert answered.task.refusals[Refusal.WRONG_SHAPE] == 1


def test_survey_with_local_noise_leaves_each_device_noisy(town: Town) -> None:
    """The aggregator adds none, clips a liar to an honest norm, and knows the noise of the sum."""
    town.invite(Behaviour.EXAGGERATES, [0.0, 0.0, 0.0, 1.0, 0.0])
    town.homes[1].consent.withdraw("statistics")
    answered = ask_survey(
        town.campaign(epsilon=4.0, from_system=True),
        HISTOGRAM,
        mechanism=MechanismName.LOCAL_GAUSSIAN,
    )
    event = answered.task.event
    assert (event.mechanism, event.adjacency) == (MechanismName.LOCAL_GAUSSIAN, LOCAL_ADJACENCY)
    one = event.noise_multiplier * 2.0
    assert answered.noise_std == pytest.approx(one * math.sqrt(N_DEVICES))
    assert epsilon_pld([event], 1e-6) == pytest.approx(4.0, abs=4e-3)
    counts = answered.found.histograms["purchases"].counts
    reach = 1.0 + one * (math.sqrt(5) + math.sqrt(2 * math.log(1e9)))
    assert np.abs(counts).max() < 6 * answered.noise_std + reach + N_DEVICES
    entry = town.homes[2].transparency()[-1]
    assert entry.sent == "contribution"
    assert entry.norm is not None
    assert entry.entries == 5
    assert entry.norm <= entry.clip_norm == pytest.approx(reach, rel=1e-9)
    assert "nobody" in entry.sentence()


def test_survey_of_weeks_is_asked_as_often_as_devices_allow(town: Town) -> None:
    """Each week costs the same; a person is in two of three weeks; the price covers all."""
    series = RunTerms(
        run_id="ab" * 16,
        started_at_s=int(START_S),
        rounds=3,
        min_separation=1,
        max_participations=2,
    )
    campaign = town.campaign(epsilon=1.0)
    weeks = [ask_survey(campaign, SURVEY, series=series, week=week) for week in (0, 1)]
    assert [week.task.accepted for week in weeks] == [N_DEVICES, N_DEVICES]
    with pytest.raises(QuorumNotReachedError) as caught:
        ask_survey(campaign, SURVEY, series=series, week=2)
    assert caught.value.refusals["participations-spent"] == N_DEVICES
    cost = series_cost(weeks[0].task.event, series, delta=1e-6)
    assert cost.epsilon_of_all == pytest.approx(1.0, abs=1e-6)
    assert cost.epsilon_a_week < cost.epsilon_of_a_person < cost.epsilon_of_all


def test_evaluation_of_two_rankers_agrees_with_what_each_device_would_say(town: Town) -> None:
    """Against the mean over the same histories, computed here without any federation."""
    rng = np.random.default_rng(1)
    tables = [
        RankerTable.without_model(8),
        RankerTable.from_arrays(factors=rng.normal(size=(8, 3)).astype(np.float32)),
    ]
    evaluated = ask_evaluation(town.campaign(), tables)
    histories = [
        home._signals.history(Purpose.STATISTICS, CATALOGUE.position)
        for home in town.homes.values()
    ]
    categories = ItemCategories.from_names([item.category for item in CATALOGUE.items])
    exact = np.array(
        [
            [measure_ranker(table, each, categories) for table in tables]
            for each in histories
            if len(each) > 1
        ]
    )
    assert evaluated.task.accepted == len(exact) < N_DEVICES
    assert evaluated.task.refusals[Refusal.TOO_LITTLE_DATA] == N_DEVICES - len(exact)
    for place, name in enumerate(("hr@10", "ndcg@10")):
        mean = exact[:, :, place].mean(axis=0)
        assert evaluated.found.quality[name].value == pytest.approx(mean[0], abs=0.05)
        assert evaluated.found.differences[name].value == pytest.approx(mean[1] - mean[0], abs=0.05)


def test_evaluation_of_another_catalogue_asks_nobody(town: Town) -> None:
    """The caller's mistake."""
    for tables in ([], [RankerTable.without_model(9)], [RankerTable.without_model(8)] * 3):
        with pytest.raises(ValueError, match="one or two rankers"):
            ask_evaluation(town.campaign(), tables)
    assert not town.messages


def test_orders_of_surveys_say_what_is_promised_and_ask_for_statistics(town: Town) -> None:
    """The consent is the device's to fix; a server cannot move a survey to another purpose."""
    ask_survey(town.campaign(epsilon=1.0), SURVEY)
    orders = [Order.from_frame(f) for f, _ in town.messages if f.kind is FrameKind.ORDER]
    assert {order.kind for order in orders} == {TaskKind.SURVEY}
    assert {order.purpose for order in orders} == {Purpose.STATISTICS}
    assert "how many people use the app" in town.homes[2].transparency()[-1].sentence()


@pytest.mark.parametrize("releases", [1, 5])
@pytest.mark.parametrize(
    "mechanism",
    [
        MechanismName.GAUSSIAN,
        MechanismName.LOCAL_GAUSSIAN,
        MechanismName.DISCRETE_LAPLACE,
        MechanismName.DISCRETE_GAUSSIAN,
    ],
)
def test_noise_multiplier_costs_what_was_asked_for(
    mechanism: MechanismName, releases: int, town: Town
) -> None:
    """By the accountant that the ledger decides with; never more, hardly less."""
    multiplier = noise_multiplier_of(mechanism, epsilon=2.0, delta=1e-6, releases=releases)
    event = ask_survey(town.campaign(epsilon=2.0), HISTOGRAM).task.event
    changes: dict[str, Any] = {"mechanism": mechanism, "noise_multiplier": multiplier}
    if mechanism is MechanismName.LOCAL_GAUSSIAN:
        changes |= {"adjacency": LOCAL_ADJACENCY, "trusted": LOCAL_TRUSTED}
    changes["noise_source"] = NoiseSource.OPERATING_SYSTEM
    events = [replace(event, task_id=f"{each:032x}", **changes) for each in range(releases)]
    assert 1.999 < epsilon_deciding(events, 1e-6) <= 2.0 + 1e-9
