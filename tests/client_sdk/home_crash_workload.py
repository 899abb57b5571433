"""What is killed: a device that tracks, tidies, rotates its keys and closes, and says so.

Run as a script it forks a child for each order it reads: one line of JSON with the folder of the
store, of the keys, a seed, and the number of the first event. The child says ``begin`` with the ids
before each step and ``done`` after it, until it is killed.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from client_sdk import Event, Homebody
from client_sdk.keys import FileKeyStore
from client_sdk.testing import START_S, FixedClock, sample_catalogue
from tests.client_sdk.victims import say, serve

BATCH = 40
_ITEMS = ("green-tea", "mug", "honey", "kettle", "elsewhere")


def open_home(folder: Path, keys: Path) -> Homebody:
    """Open the store as every step does: one clock, one catalogue."""
    return Homebody.open(
        folder,
        catalogue=sample_catalogue(),
        key_store=FileKeyStore(keys),
        clock=FixedClock(START_S),
    )


def event(number: int) -> Event:
    """Give the event of a number: another kind, item, word and day each."""
    rng = random.Random(number)  # noqa: S311 - a test's choices
    kind = rng.choice(("purchase", "product_view", "search", "form_error", "message_shown"))
    words = {"query": rng.choice(("tea", "Tea ", "cup"))} if kind == "search" else {}
    return Event(
        kind=kind,
        event_id=f"event-{number}",
        item_id=rng.choice(_ITEMS) if kind in ("purchase", "product_view") else None,
        time_s=START_S - rng.random() * 40 * 86_400,
        properties=words,
    )


def work(order: dict[str, Any]) -> None:
    """Work until killed."""
    rng = random.Random(order["seed"])  # noqa: S311 - a test's choices
    folder, keys, first = Path(order["folder"]), Path(order["keys"]), order["first"]
    home = open_home(folder, keys)
    say({"open": True})
    if not home.consent.allows("personalise"):
        home.consent.grant("personalise")
    while True:
        step = rng.choices(
            ("single", "batch", "tidy", "rotate", "reopen"), weights=(20, 4, 1, 1, 1)
        )[0]
        count = {"single": 1, "batch": rng.randint(2, BATCH)}.get(step, 0)
        say({"begin": {"do": step, "first": first, "count": count}})
        if count:
            home.track_many(event(number) for number in range(first, first + count))
        elif step == "tidy":
            home.signals.tidy()
        elif step == "rotate":
            home.rotate_keys()
        else:
            home.close()
            home = open_home(folder, keys)
        first += count
        say({"done": True})


if __name__ == "__main__":
    serve(work)
