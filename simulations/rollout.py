"""What happens on the devices when a release is out: they verify it, load it, and rank with it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from client_sdk import Homebody
from client_sdk.intelligence import top_k
from client_sdk.shelf import RankedItem
from client_sdk.wire import Catalogue
from simulations.evaluation.metrics import CUT, Scorer
from simulations.evaluation.split import NO_ITEM, Split, Targets
from simulations.population import Attitude, Population

_LIST: Final = 8


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What the devices say of one release.

    Attributes:
        version: The release that all of them run.
        updated: How many fetched, verified and loaded it.
        seconds_median: What an update took on one device.
        same_lists: Devices whose own first ten are those of the vectorised score, in its order.
        hits: Devices whose own first ten held the target of ``next``.
        asked: Devices that had a target.
    """

    version: int
    updated: int
    seconds_median: float
    same_lists: int
    hits: int
    asked: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dict(vars(self))


def update_all(population: Population, *, tick: Callable[[], None]) -> float:
    """Let every device look for a release.

    Returns:
        Median seconds of one update.

    Raises:
        ReleaseRejectedError: a device refused it.
    """
    seconds = []
    for person in population.people:
        started = time.perf_counter()
        person.device.update()
        seconds.append(time.perf_counter() - started)
        tick()
    return statistics.median(seconds)


def roll_out(
    population: Population,
    *,
    version: int,
    scorer: Scorer,
    targets: Targets,
    tick: Callable[[], None],
) -> Rollout:
    """Update every device, rank on it, and compare with the score that judged the arm.

    Args:
        population: The devices.
        version: The release that was published.
        scorer: The vectorised arm of the same table.
        targets: What each person took next.
        tick: Called twice a device.
    """
    seconds = update_all(population, tick=tick)
    hits = same = 0
    for person, item in zip(targets.next_people, targets.next_items, strict=True):
        device = population.people[person].device
        shelf = [device.catalogue.position[ranked.item_id] for ranked in device.rank(k=CUT)]
        hits += item in shelf
        same += shelf == top_k(scorer(np.array([person], np.int32))[0], CUT).tolist()
        tick()
    return Rollout(
        version=version,
        updated=sum(person.device.version == version for person in population.people),
        seconds_median=seconds,
        same_lists=same,
        hits=hits,
        asked=len(targets.next_people),
    )


def choose_example(population: Population, split: Split) -> int | None:
    """Choose whose list is shown: the first willing person who later took something new.

    Whether the list was right plays no part in the choice.
    """
    new = draw_new_takers(split)
    for person in population.people:
        if person.attitude is Attitude.WILLING and person.number in new:
            return person.number
    return None


def draw_new_takers(split: Split) -> frozenset[int]:
    """Give the persons whose held-out occasion had an item that they never had."""
    had = split.train.users.astype(np.int64) * split.train.n_items + split.train.items
    took = split.held_out.users.astype(np.int64) * split.train.n_items + split.held_out.items
    new = ~np.isin(took, had)
    return frozenset(np.unique(split.held_out.users[new]).tolist())


def list_of(device: Homebody, split: Split, person: int) -> list[dict[str, Any]]:
    """Give a device's shelf of things its person never had, for the report.

    Returns:
        ``name``, ``category``, ``reason`` and ``taken`` (whether they took it next) of each item.
    """
    rows = split.held_out.items[split.held_out.users == person]
    if not rows.size or rows[0] == NO_ITEM:
        return []
    taken = {device.catalogue.items[row].item_id for row in rows}
    shelf = device.rank(k=_LIST, slot="new for you", include_owned=False)
    return [_line(ranked, device.catalogue, taken) for ranked in shelf]


def history_of(device: Homebody, split: Split, person: int) -> Sequence[str]:
    """Give the names of what the person had last, newest first, each once."""
    rows = split.train.of_person(person)
    latest = dict.fromkeys(rows.items[::-1].tolist())
    return [device.catalogue.items[row].name for row in list(latest)[:_LIST]]


def _line(ranked: RankedItem, catalogue: Catalogue, taken: set[str]) -> dict[str, Any]:
    item = catalogue.items[catalogue.position[ranked.item_id]]
    return {
        "name": ranked.name,
        "category": item.category,
        "reason": ranked.reason,
        "taken": ranked.item_id in taken,
    }
