"""What a process does until it is killed: single events, batches, merges, removals, rotations.

As a script it is a server (`tests.client_sdk.victims`). A child opens a vault and works with it,
for a number of ``steps`` or without end, until somebody kills it. It says what it is about to do
and that it was done, so that the one who kills it knows what must be there afterwards, and of one
step that it may be there: ``{"open": true}`` when the vault is open, ``{"begin": step}`` and
``{"done": true}`` around each step.

`Model` says what a step does to a store that never fails.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client_sdk import Event
from client_sdk.keys import FileKeyStore
from client_sdk.signals import Record, Vault
from tests.client_sdk.victims import say, serve

Step = dict[str, Any]
STEPS = {"single": 8, "batch": 4, "record": 3, "remove": 2, "compact": 2, "rotate": 1}


@dataclass(kw_only=True)
class Model:
    """What a store must hold: the ids of its events in order, and its records by key."""

    # A dictionary is a set that knows its order.
    ids: dict[str, None] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)

    def do(self, step: Step) -> None:
        """Do a step."""
        if step["do"] in ("single", "batch"):
            self.ids |= dict.fromkeys(step_ids(step))
        if step["do"] == "remove":
            self.ids = {event_id: None for event_id in self.ids if is_kept(event_id, step)}
        if step["do"] not in ("compact", "rotate"):
            self.records[step["key"]] = step["value"]

    def after(self, step: Step) -> Model:
        """Give what a store holds when a step was done; this one stays."""
        then = Model(ids=dict(self.ids), records=dict(self.records))
        then.do(step)
        return then


def step_ids(step: Step) -> list[str]:
    """The ids of a step's events: new ones, after some that are there already."""
    first, count, again = step["first"], step["count"], step["again"]
    return [f"event-{number}" for number in range(max(0, first - again), first + count)]


def is_kept(event_id: str, step: Step) -> bool:
    """Say what a removal keeps: the latest events, and of the others a few."""
    number = int(event_id.split("-")[1])
    return number >= step["below"] or number % 50 == 0


def steps(first: int, rng: random.Random) -> Iterator[Step]:
    """Give steps without end; ``first`` is the number of the first new event."""
    for value in itertools.count(1):
        do = rng.choices(list(STEPS), list(STEPS.values()))[0]
        step: Step = {"do": do, "key": f"key-{rng.randrange(5)}", "value": value}
        if do in ("single", "batch"):
            step |= {"first": first, "again": rng.choice([0, 0, 3])}
            step["count"] = 1 if do == "single" else rng.choice([17, 17, 60, 60, 600])
            first += step["count"]
        if do == "remove":
            step["below"] = first - rng.choice([100, 500])
        yield step


def do(vault: Vault, step: Step) -> None:
    """Do a step to a real store."""
    record = Record(stream="states", key=step["key"], value={"value": step["value"]})
    match step["do"]:
        case "single" | "batch":
            events = [
                Event(kind="screen", time_s=float(step["first"]), event_id=event_id)
                for event_id in step_ids(step)
            ]
            vault.append(events, [record])
        case "remove":
            vault.remove(lambda event: is_kept(event.event_id, step), [record])
        case "compact":
            vault.compact()
        case "rotate":
            vault.rotate_keys()
        case _:
            vault.write(record)


def found(vault: Vault) -> Model:
    """Give what a real store holds.

    Raises:
        AssertionError: an event is there twice.
    """
    ids = [event.event_id for _, event in vault.events()]
    assert len(set(ids)) == len(ids) == vault.count
    return Model(
        ids=dict.fromkeys(ids),
        records={record.key: record.value["value"] for record in vault.records("states")},
    )


def work(order: dict[str, Any]) -> None:
    """Open a store and work with it."""
    vault = Vault.open(Path(order["folder"]), FileKeyStore(Path(order["keys"])))
    say({"open": True})
    endless = steps(order["first"], random.Random(order["seed"]))  # noqa: S311 - a test's choices
    for step in itertools.islice(endless, order.get("steps")):
        say({"begin": step})
        do(vault, step)
        say({"done": True})


if __name__ == "__main__":
    serve(work)
