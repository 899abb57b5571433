"""The whole loop on a small town: real devices, real HTTP, real tasks; only the people are few."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulations.experiment import run_simulation
from simulations.progress import Progress
from simulations.settings import SettingsError, SimulationSettings

PEOPLE = 40
ITEMS = 30


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tastes: half of the people buy the first items, half the last, in six visits each."""
    rng = np.random.default_rng(1)
    lines = ["user,item,timestamp,session"]
    for person in range(PEOPLE):
        taste = np.arange(ITEMS // 2) + (ITEMS // 2) * (person % 2)
        for visit in range(6):
            when = 1_700_000_000 + visit * 86_400
            lines += [
                f"p{person},item-{item},{when},{person}-{visit}"
                for item in rng.choice(taste, 4, replace=False)
            ]
    path = tmp_path_factory.mktemp("town") / "events.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(events: Path, **changes: Any) -> dict[str, Any]:
    """Run one simulation without noise on the screen."""
    settings = SimulationSettings(events=events, **{"epsilons": (8.0,), **changes})
    return run_simulation(settings, Progress(io.StringIO(), quiet=True))


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


def test_simulation_rolls_out_to_every_device(assumed: dict[str, Any]) -> None:
    """Each device verified the release over HTTP, and ranks as the vectorised arm said."""
    rollout = assumed["rollout"]
    assert rollout["updated"] == PEOPLE
    assert rollout["same_lists"] == rollout["asked"] == PEOPLE
    assert assumed["example"]["before"] != assumed["example"]["after"]


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


def test_item_training_runs_its_rounds_through_the_devices(events: Path) -> None:
    """Cohorts train the table through LiteRT; all rounds are one release, at the stated ε."""
    result = run(events, task="item-training", rounds=3, cohort=20, population=100_000)
    (release,) = [r for r in result["privacy"]["releases"] if r["arm"] == "together-eps-8"]
    assert release["tasks"] == ["item-counts", "item-training"]
    assert release["epsilon"] == pytest.approx(8.0, rel=1e-3)
    assert result["rollout"]["same_lists"] == result["rollout"]["asked"] == PEOPLE


def test_population_below_the_people_in_the_data_is_refused(events: Path) -> None:
    """A simulation may stand for more people than it has, never for fewer."""
    with pytest.raises(SettingsError, match="population must be at least the 40 people"):
        run(events, population=10)
