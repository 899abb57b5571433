"""A device killed at any moment: every acknowledged event is there, and so is what it means."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.client_sdk import home_crash_workload
from tests.client_sdk.home_crash_workload import open_home
from tests.client_sdk.victims import Victims

KILLS = 200
KILLS_OF_ONE_STORE = 25
LONGEST_S = 0.04
LONGER, SHORTER = 1.1, 0.98


@pytest.mark.slow
def test_home_killed_at_200_moments_under_load_has_what_it_acknowledged(
    tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It opens; no acknowledged event is missing or twice; the features equal recomputation."""
    rng = random.Random(20_261_122)  # noqa: S311 - a test's choices
    hit, events, opened = Counter[str](), 0, 0
    longest_s = LONGEST_S
    with Victims.of(home_crash_workload.__file__) as victims:
        for kill in range(KILLS):
            if kill % KILLS_OF_ONE_STORE == 0:
                store, keys = tmp_path / f"home-{kill}", tmp_path / f"keys-{kill}"
                acknowledged, first = set[str](), 0
            order = {"folder": str(store), "keys": str(keys), "seed": kill, "first": first}
            said = victims.kill_one(order, rng.random() * longest_s)
            assert not [line for line in said if "error" in line]
            begun = [line["begin"] for line in said if "begin" in line]
            done = sum("done" in line for line in said)
            for step in begun[:done]:
                acknowledged |= _ids(step)
            maybe = _ids(begun[-1]) if len(begun) > done else set()
            first = max([first, *(step["first"] + step["count"] for step in begun)])
            hit[begun[-1]["do"] if len(begun) > done else "between"] += 1
            # On a busy machine a store opens later than the kill comes: the next ones wait longer.
            is_open = {"open": True} in said
            opened += is_open
            longest_s = max(LONGEST_S, longest_s * (SHORTER if is_open else LONGER))
            with open_home(store, keys) as home:
                kept = [event.event_id for event in home.signals.own_events()]
                assert len(kept) == len(set(kept)) == home.signals.count
                assert acknowledged <= set(kept) <= acknowledged | maybe, f"after kill {kill}"
                assert not maybe or maybe <= set(kept) or not maybe & set(kept)
                assert home.signals.equals_refold(), f"after kill {kill}"
                if home.consent.allows("personalise"):
                    assert home.features().get("events_30_days") is not None
            acknowledged, events = set(kept), max(events, len(kept))
    record_property("kills", KILLS)
    with capsys.disabled():
        print(f" {KILLS} kills, stores of up to {events} events; hit {dict(hit)} ", end="")
    # Otherwise the kills came at the wrong times, and the test says nothing.
    assert opened > KILLS / 2
    assert hit["single"] + hit["batch"] > KILLS / 8
    assert hit["tidy"] + hit["rotate"] + hit["reopen"] > 0


def _ids(step: dict[str, Any]) -> set[str]:
    return {f"event-{step['first'] + number}" for number in range(step["count"])}
