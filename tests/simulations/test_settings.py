"""Settings that contradict themselves or the data are refused when made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simulations.settings import DemoSettings, SettingsError, SimulationSettings, arm_name

EVENTS = Path("events.csv")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"epsilons": ()}, "epsilon needs at least one"),
        ({"epsilons": (2.0, 0.0)}, "epsilon must be a finite number > 0, got 0"),
        ({"epsilons": (-1.0,)}, "got -1"),
        ({"epsilons": (float("nan"),)}, "got nan"),
        ({"epsilons": (float("inf"),)}, "got inf"),
        ({"delta": 0.0}, "delta must be between 0 and 1"),
        ({"delta": 1.0}, "delta must be between 0 and 1"),
        ({"delta": float("nan")}, "delta must be between 0 and 1"),
        ({"population": 0}, "population must be from 1"),
        ({"population": 10**12}, "population must be from 1"),
        ({"seeds": 0}, "seeds must be from 1"),
        ({"seeds": 5000}, "seeds must be from 1 to 1000"),
    ],
)
def test_settings_value_out_of_range_is_refused(changes: dict[str, Any], part: str) -> None:
    """The same rules for the demo and for anyone's data."""
    with pytest.raises(SettingsError, match=part):
        DemoSettings(**changes)
    with pytest.raises(SettingsError, match=part):
        SimulationSettings(events=EVENTS, **changes)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"task": "gossip"}, "task must be one of item-statistics, item-training; got 'gossip'"),
        ({"rounds": 0}, "rounds must be from 1"),
        ({"rounds": 3}, "item-statistics is a single round"),
        ({"cohort": 0}, "cohort must be from 1"),
        ({"cohort": 50, "population": 40}, "cohort must be at most the population, 40; got 50"),
        ({"top_items": 0}, "top-items must be from 1"),
        ({"seed": -1}, "seed must be from 0"),
        ({"engine": "steam"}, "engine must be one of kernel, devices, superlink; got 'steam'"),
        ({"workers": 0}, "workers must be from 1 to 1024"),
        ({"workers": 2, "engine": "devices"}, "threads of the engine kernel; with devices"),
        ({"people": Path("town")}, "one of them; got both"),
        ({"events": None}, "one of them; got neither"),
        (
            {"events": None, "people": Path("town"), "engine": "devices"},
            "synthetic people have no devices",
        ),
        ({"events": None, "people": Path("town"), "items": EVENTS}, "items describe events"),
    ],
)
def test_simulation_settings_contradiction_is_refused(changes: dict[str, Any], part: str) -> None:
    """Each message names the setting as it is written on the command line."""
    with pytest.raises(SettingsError, match=part):
        SimulationSettings(**{"events": EVENTS, **changes})


def test_simulation_settings_check_compares_with_the_data() -> None:
    """As many as there are is fine, one more is not."""
    settings = SimulationSettings(events=EVENTS, cohort=10, top_items=5)
    settings.check(people=10, items=5)
    with pytest.raises(SettingsError, match="number of people in the data, 9; got 10"):
        settings.check(people=9, items=5)
    with pytest.raises(SettingsError, match="number of items, 4; got 5"):
        settings.check(people=10, items=4)


def test_simulation_settings_load_reads_and_checks(tmp_path: Path) -> None:
    """One call gives the data or says why not."""
    path = tmp_path / "events.csv"
    path.write_text("user,item,timestamp\na,x,1\nb,y,2\n")
    assert SimulationSettings(events=path, cohort=2).load().quality.people == 2
    with pytest.raises(SettingsError, match="cohort"):
        SimulationSettings(events=path, cohort=3).load()


def test_simulation_settings_of_synthetic_people_have_no_events() -> None:
    """A folder of people is not read as events."""
    with pytest.raises(SettingsError, match="about synthetic people"):
        SimulationSettings(people=Path("town")).load()


def test_settings_budgets_are_compared_once_each() -> None:
    """A budget that is named twice is one arm."""
    assert DemoSettings(epsilons=(8, 2.0, 8.0)).epsilons == (8.0, 2.0)


def test_settings_json_is_plain_and_without_folders(tmp_path: Path) -> None:
    """A folder's name may hold a person's: only file names are written."""
    settings = SimulationSettings(events=tmp_path / "e.csv", items=tmp_path / "i.csv")
    synthetic = SimulationSettings(people=tmp_path / "town")
    text = json.dumps([settings.to_json(), synthetic.to_json(), DemoSettings().to_json()])
    assert '"e.csv"' in text
    assert '"town"' in text
    assert str(tmp_path) not in text


def test_arm_name_close_budgets_differ() -> None:
    """Two arms never share a name."""
    assert arm_name(0.1) == "together-eps-0.1"
    assert arm_name(1.0000001) != arm_name(1.0)
