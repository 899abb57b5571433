"""The simulated people: what they answer, and what their devices hold."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np

from simulations.data.bundled import load_bundled
from simulations.evaluation.split import hold_out
from simulations.population import (
    SIMULATED_NOW_S,
    Attitude,
    draw_attitudes,
    events_of,
    histories_of,
)


def test_draw_attitudes_has_the_stated_shares_and_follows_the_seed() -> None:
    """12 % refuse and 3 % withdraw, whoever they are; the same seed gives the same people."""
    drawn = draw_attitudes(1_000, seed=3)
    assert Counter(drawn) == {
        Attitude.WILLING: 850,
        Attitude.REFUSES: 120,
        Attitude.WITHDRAWS_MIDWAY: 30,
    }
    assert drawn == draw_attitudes(1_000, seed=3)
    assert drawn != draw_attitudes(1_000, seed=4)


def test_events_are_moved_so_that_each_person_is_asked_now() -> None:
    """Recency is what it was: the gap from the last event to the held-out occasion is kept."""
    data = load_bundled()
    split = hold_out(data.interactions)
    person = 5
    events = events_of(split, data.catalogue, person)
    rows = split.train.of_person(person)
    gap_s = float(split.now_s[person] - rows.times_s.max())
    assert gap_s > 0
    assert SIMULATED_NOW_S - max(event.time_s for event in events) == gap_s
    assert len({event.event_id for event in events}) == len(events) == len(rows)


def test_histories_hold_the_training_items_of_each_person() -> None:
    """Nothing of the held-out occasion is on a device."""
    data = load_bundled()
    split = hold_out(data.interactions)
    for person, history in list(enumerate(histories_of(split, data.catalogue)))[:40]:
        rows = split.train.of_person(person)
        assert history.items.tolist() == np.unique(rows.items[rows.taste]).tolist()


def test_too_many_devices_for_the_machine_is_one_clear_error() -> None:
    """A low limit of open files is raised where possible, and named where it is not."""
    code = (
        "import resource; from simulations.population import _allow_open_files; "
        "from simulations.settings import SettingsError; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096)); "
        "_allow_open_files(1000); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0]); "
        "\ntry: _allow_open_files(10_000)\nexcept SettingsError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    raised, refused = run.stdout.splitlines()
    assert int(raised) == 1512
    assert "this machine allows 4,096" in refused
