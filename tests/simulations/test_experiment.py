"""The whole experiment on a small town; only the people are few.

That real devices give the same, and load what was released: `test_engines_agree`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk.wire import Order
from simulations.data.interactions import DataError
from simulations.data.loader import load_events
from simulations.engines.holdings import Holdings
from simulations.engines.pool import ONE_THREAD, ShardSum
from simulations.experiment import run_simulation
from simulations.population import SIMULATED_NOW_S
from simulations.progress import Progress
from simulations.report.page import render_page
from simulations.report.text import format_report
from simulations.scenarios.conditions import Conditions
from simulations.scenarios.scenario import Failures
from simulations.settings import SettingsError, SimulationSettings
from simulations.synthetic.fit import fit_population
from simulations.synthetic.generate import write_population

PEOPLE = 40
ITEMS = 30


@pytest.fixture(scope="module")
def events(make_town: Callable[[int], Path]) -> Path:
    """Two tastes: half of the people buy the first items, half the last, in six visits each."""
    return make_town(PEOPLE)


@pytest.fixture(scope="module")
def people(events: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic people who are like them."""
    folder = tmp_path_factory.mktemp("synthetic") / "people"
    model = fit_population(load_events(events).interactions, tastes=2)
    write_population(folder, model, people=300, seed=1)
    return folder


def run(events: Path | None, **changes: Any) -> dict[str, Any]:
    """Run one simulation without noise on the screen."""
    injected = {key: changes.pop(key) for key in ("pool", "conditions") if key in changes}
    settings = SimulationSettings(events=events, **{"epsilons": (8.0,), **changes})
    return run_simulation(settings, Progress(io.StringIO(), quiet=True), **injected)


@pytest.fixture(scope="module")
def assumed(events: Path) -> dict[str, Any]:
    """Item statistics with the noise of a population that is assumed, over two seeds."""
    return run(events, population=100_000, seeds=2)


def test_simulation_has_every_arm_protocol_and_metric(assumed: dict[str, Any]) -> None:
    """The JSON has the shape that the issue promises to machines."""
    arms = {
        "popularity",
        "device-alone",
        "together-eps-8",
        "together-eps-8-as-is",
        "together-no-noise",
        "central",
    }
    assert set(assumed["metrics"]) == arms
    for protocols in assumed["metrics"].values():
        assert set(protocols) == {"discover", "next", "sampled"}
        for metrics in protocols.values():
            assert set(metrics) == {"hr@10", "ndcg@10"}
            for value in metrics.values():
                assert set(value) == {"mean", "std", "seeds"}
                assert value["seeds"] == 2
                assert 0 <= value["mean"] <= 1


def test_simulation_learns_what_no_device_knows(assumed: dict[str, Any]) -> None:
    """With two tastes in town, new favourites come from people alike, not from best sellers."""
    found = {arm: value["discover"]["hr@10"]["mean"] for arm, value in assumed["metrics"].items()}
    assert found["together-eps-8"] > found["popularity"]
    assert found["together-no-noise"] > found["popularity"]


def test_simulation_counts_consent_and_refusals(assumed: dict[str, Any]) -> None:
    """Everyone who was asked is in the sum or under one reason."""
    consent = assumed["consent"]
    assert consent["granted"] + consent["refused"] == PEOPLE
    assert consent["accepted"] + sum(consent["rejected"].values()) == PEOPLE
    assert consent["rejected"]["no-consent"] == consent["refused"] > 0
    assert consent["rejected"]["consent-withdrawn"] == consent["withdrawn"] > 0


def test_simulation_states_the_claim_and_what_is_assumed(assumed: dict[str, Any]) -> None:
    """ε comes with δ, adjacency, trust and population; the assumption is labelled."""
    privacy = assumed["privacy"]
    assert privacy["population"] == {"assumed": 100_000, "real": PEOPLE}
    assert privacy["adjacency"]
    assert privacy["trust"]
    by_arm = {release["arm"]: release for release in privacy["releases"]}
    forecast, real = by_arm["together-eps-8"], by_arm["together-eps-8-as-is"]
    assert forecast["epsilon"] == pytest.approx(8.0, rel=1e-3)
    assert real["epsilon"] == pytest.approx(8.0, rel=1e-3)
    assert "100,000" in forecast["assumed"]
    assert real["assumed"] is None
    assert f"{PEOPLE} people need" in privacy["real"]


def test_simulation_with_the_same_seed_gives_the_same_numbers(
    events: Path, assumed: dict[str, Any]
) -> None:
    """A run is repeatable from its settings, to the last bit."""
    again = run(events, population=100_000, seeds=2)
    assert again["metrics"] == assumed["metrics"]
    assert again["consent"] == assumed["consent"]


def test_simulation_without_an_assumption_has_one_private_arm(events: Path) -> None:
    """Where the noise is for the people in the data, nothing is labelled as assumed."""
    result = run(events, cohort=30, top_items=5)
    assert "together-eps-8-as-is" not in result["metrics"]
    assert result["privacy"]["population"] == {"assumed": PEOPLE, "real": PEOPLE}
    assert result["consent"]["accepted"] + sum(result["consent"]["rejected"].values()) == 30


def test_simulation_says_which_engine_ran_and_why(assumed: dict[str, Any]) -> None:
    """Without a word the kernel runs, no device is made, and nothing was rolled out."""
    assert assumed["engine"]["name"] == "kernel"
    assert "no device was made" in assumed["engine"]["why"]
    assert assumed["rollout"] == assumed["example"] == {}
    assert "Engine: kernel" in format_report(assumed)


def test_simulation_segments_are_everyone_once(assumed: dict[str, Any]) -> None:
    """People by how much they have; their mean is that of all."""
    groups = assumed["segments"]["groups"]
    assert [group["name"] for group in groups] == ["new", "light", "heavy"]
    assert sum(group["people"] for group in groups) == PEOPLE
    assert [groups[at]["to"] + 1 for at in (0, 1)] == [groups[at]["from"] for at in (1, 2)]
    asked = np.array([group["asked"] for group in groups])
    for arm, segments in assumed["segments"]["metrics"].items():
        means = [segments[group["name"]]["hr@10"]["mean"] or 0.0 for group in groups]
        whole = assumed["metrics"][arm]["discover"]["hr@10"]["mean"]
        # Each seed draws other targets, so other people are asked: near, and equal for one seed.
        assert float(asked @ means / asked.sum()) == pytest.approx(whole, abs=0.05)


def test_simulation_task_counts_add_up_to_those_invited(assumed: dict[str, Any]) -> None:
    """Task by task, everyone is in the sum or under one reason."""
    assert set(assumed["tasks"]) == set(assumed["metrics"]) - {
        "popularity",
        "device-alone",
        "central",
    }
    for tasks in assumed["tasks"].values():
        assert [(task["task"], task["round"]) for task in tasks] == [
            ("item-counts", 1),
            ("item-statistics", 1),
        ]
        for task in tasks:
            assert task["accepted"] + sum(task["rejected"].values()) == task["invited"] == PEOPLE


def test_item_training_is_one_release_and_shows_its_course(events: Path) -> None:
    """All rounds are one release, at the stated ε; some rounds' tables are looked at."""
    result = run(events, task="item-training", rounds=3, cohort=20, population=100_000)
    (release,) = [r for r in result["privacy"]["releases"] if r["arm"] == "together-eps-8"]
    assert release["tasks"] == ["item-counts", "item-training"]
    assert release["epsilon"] == pytest.approx(8.0, rel=1e-3)
    looks = result["convergence"]["arms"]["together-no-noise"]
    assert [look["round"] for look in looks] == [0, 1, 2, 3]
    assert looks[-1]["hr@10"] > looks[0]["hr@10"]
    tasks = result["tasks"]["together-eps-8"]
    assert [(task["task"], task["round"]) for task in tasks[1:]] == [
        ("item-training", number) for number in (1, 2, 3)
    ]
    page = render_page(result)
    assert "How training went" in page
    assert "Who gets good lists?" in page


def test_simulation_on_synthetic_people_says_so_everywhere(people: Path) -> None:
    """Made-up people are called so beside every number; arms that make no sense are explained."""
    result = run(None, people=people, task="item-training", rounds=2, cohort=100)
    assert set(result["metrics"]) == {"popularity", "together-no-noise", "together-eps-8"}
    assert set(result["left_out"]) == {"device-alone", "central"}
    assert result["data"]["synthetic"] is True
    assert result["privacy"]["population"] == {"assumed": 300, "real": 300, "synthetic": True}
    assert result["evaluated"] == {"people": 300, "of": 300}
    for text in (format_report(result), render_page(result)):
        assert "These people are synthetic" in " ".join(text.split())
    assert "300 SYNTHETIC" in format_report(result)
    found = {arm: value["discover"]["hr@10"]["mean"] for arm, value in result["metrics"].items()}
    assert found["together-no-noise"] > found["popularity"]


def test_simulation_on_a_folder_without_people_is_refused(tmp_path: Path) -> None:
    """One error that says how to make some; the folder's own path is not told."""
    with pytest.raises(DataError, match="homebody population make") as caught:
        run(None, people=tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_simulation_workers_change_no_number(events: Path) -> None:
    """Threads share the work, not the result."""
    one, three = (run(events, workers=workers) for workers in (1, 3))
    assert one["metrics"] == three["metrics"]
    assert one["tasks"] == three["tasks"]


class CountingPool:
    """Adds up in one thread, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def add_up(self, order: Order, holdings: Holdings, people: Any) -> ShardSum:
        """Add up."""
        self.asked += 1
        return ONE_THREAD.add_up(order, holdings, people)


def test_simulation_given_pool_adds_up(events: Path) -> None:
    """Whoever scales out hands in a pool; the numbers are the same."""
    pool = CountingPool()
    result = run(events, pool=pool)
    assert pool.asked == 4
    assert result["metrics"] == run(events)["metrics"]
    with pytest.raises(SettingsError, match="are for the engine kernel; this run is on devices"):
        run(events, pool=pool, engine="devices")


def test_simulation_conditions_reach_the_people(events: Path) -> None:
    """Who drops out by a scenario is counted under its reason; on devices that is refused."""
    conditions = Conditions(seed=1, starts_at_s=SIMULATED_NOW_S, failures=Failures(drop_out=0.3))
    result = run(events, conditions=conditions)
    for task in result["tasks"]["together-eps-8"]:
        assert 0 < task["rejected"]["no-answer"] < PEOPLE / 2
    with pytest.raises(SettingsError, match="this run is on devices"):
        run(events, conditions=conditions, engine="devices")


def test_simulation_too_many_people_for_a_superlink_is_refused(
    make_town: Callable[[int], Path],
) -> None:
    """Said before anything is started, with what to take instead."""
    with pytest.raises(SettingsError, match="at most 64 people; the data has 65"):
        run(make_town(65), engine="superlink")


def test_population_below_the_people_in_the_data_is_refused(events: Path) -> None:
    """A simulation may stand for more people than it has, never for fewer."""
    with pytest.raises(SettingsError, match="population must be at least the 40 people"):
        run(events, population=10)
