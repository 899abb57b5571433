"""Make synthetic people, shard by shard: the same shard from the same model and seed, always.

Rules a reader can check line by line:

1. Shard i draws from Philox4x64 keyed by the seed and counted from block i: it does not depend on
   which shards were made before, on how many people there are in all, or on the machine.
2. A shard is always drawn whole and then cut, so that the last people of a smaller population are
   the same as in a larger one.
3. On disk a population is a folder of plain little-endian columns and one ``population.json``,
   written last: a folder without it is none. Memory is that of one shard.
4. Each person has one item more than their size says: the target, drawn from the same tastes, which
   the history does not hold. It is what a simulation asks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import canonical_json
from simulations.engines.columns import HistoryColumns
from simulations.synthetic.model import HOURS, PopulationModel

SHARD: Final = 8_192
_ATTEMPTS: Final = 12
_DESCRIPTION: Final = "population.json"
_COLUMNS: Final = {"items": "<i4", "counts": "<f4", "last_time_s": "<f8"}
_HOUR_S: Final = 3_600.0
_MONDAY_S: Final = 4 * 86_400.0
_WEEK_S: Final = HOURS * _HOUR_S


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticPeople:
    """People and what they take next.

    Attributes:
        histories: What their devices hold.
        targets: int32[people], an item that the history does not hold.
    """

    histories: HistoryColumns
    targets: NDArray[np.int32]


def generate_shard(
    model: PopulationModel, *, seed: int, shard: int, people: int = SHARD
) -> SyntheticPeople:
    """Make the first people of a shard.

    Args:
        model: What they are like.
        seed: In [0, 2^63).
        shard: Which, at least 0.
        people: How many of them, from 1 to `SHARD`.
    """
    if not 0 <= seed < 2**63 or shard < 0 or not 1 <= people <= SHARD:
        raise ValueError(f"seed, shard or people out of range: {seed}, {shard}, {people}")
    rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, shard]))
    sizes = _draw(rng, model.sizes, SHARD)
    mixtures = rng.gamma(model.tastes, size=(SHARD, len(model.tastes))) + 1e-300
    mixtures /= mixtures.sum(axis=1, keepdims=True)
    person, item, taste = _distinct_items(rng, model, mixtures, sizes + 1)
    # The first draw of each person is the target: drawn like any other, before any was excluded.
    first = np.concatenate([[True], person[1:] != person[:-1]])
    targets = item[first].astype(np.int32)
    person, item, taste = person[~first], item[~first], taste[~first]
    counts = _draw(rng, model.repeats, len(item)).astype(np.float32)
    time_s = _draw_times(rng, model, taste)
    order = np.lexsort((item, person))
    lengths = np.bincount(person, minlength=SHARD)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    whole = HistoryColumns(
        offsets=offsets,
        items=item[order].astype(np.int32),
        counts=counts[order],
        last_time_s=time_s[order],
        now_s=model.now_s,
    )
    return SyntheticPeople(histories=whole.of(np.arange(people)), targets=targets[:people])


def write_population(
    folder: Path,
    model: PopulationModel,
    *,
    people: int,
    seed: int,
    on_shard: Callable[[int], None] = lambda _: None,
) -> None:
    """Make a population on disk.

    Args:
        folder: Where; made, and not there before.
        model: What people are like.
        people: How many, at least 1.
        seed: Of everything that is drawn.
        on_shard: Told how many people there are so far.

    Raises:
        ValueError: nobody, or a seed out of range.
        FileExistsError: there is something already.
    """
    if people < 1:
        raise ValueError(f"people must be at least 1; got {people}")
    folder.mkdir(parents=True)
    entries = 0
    files = {name: (folder / name).open("wb") for name in ("offsets", "targets", *_COLUMNS)}
    try:
        files["offsets"].write(np.zeros(1, "<i8").tobytes())
        for shard, start in enumerate(range(0, people, SHARD)):
            made = generate_shard(model, seed=seed, shard=shard, people=min(SHARD, people - start))
            files["offsets"].write((made.histories.offsets[1:] + entries).astype("<i8").tobytes())
            files["targets"].write(made.targets.astype("<i4").tobytes())
            for name, dtype in _COLUMNS.items():
                files[name].write(getattr(made.histories, name).astype(dtype).tobytes())
            entries += len(made.histories.items)
            on_shard(start + made.histories.people)
    finally:
        for file in files.values():
            file.close()
    facts = {
        "model_sha256": model.sha256,
        "seed": seed,
        "people": people,
        "entries": entries,
        "n_items": model.n_items,
        "now_s": model.now_s,
    }
    (folder / _DESCRIPTION).write_bytes(canonical_json(facts))


def open_population(folder: Path) -> SyntheticPeople:
    """Open a population as memory maps: nothing is read until it is asked for.

    Raises:
        ValueError: there is no whole population in the folder.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / _DESCRIPTION).read_bytes())
        people, entries, now_s = facts["people"], facts["entries"], float(facts["now_s"])
        columns = {
            name: np.memmap(folder / name, dtype, "r", shape=(entries,))
            for name, dtype in _COLUMNS.items()
        }
        offsets = np.memmap(folder / "offsets", "<i8", "r", shape=(people + 1,))
        targets = np.memmap(folder / "targets", "<i4", "r", shape=(people,))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no whole population; make it again") from error
    return SyntheticPeople(
        histories=HistoryColumns(offsets=offsets, now_s=now_s, **columns), targets=targets
    )


def _draw(rng: np.random.Generator, shares: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Draw positions by their shares."""
    steps = np.cumsum(shares)
    drawn = np.searchsorted(steps, rng.random(count) * steps[-1], side="right")
    found: NDArray[np.int64] = np.minimum(drawn, np.flatnonzero(shares)[-1]).astype(np.int64)
    return found


def _draw_rows(
    rng: np.random.Generator, shares: NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Draw a position of ``shares[row]`` for each row that is named."""
    # One rising list for all rows: row r has the values from r to r + 1.
    steps = np.cumsum(shares, axis=1)
    steps = steps / steps[:, -1:] + np.arange(len(shares))[:, None]
    drawn = np.searchsorted(steps.ravel(), rng.random(len(rows)) + rows, side="right")
    found: NDArray[np.int64] = np.clip(drawn - rows * shares.shape[1], 0, shares.shape[1] - 1)
    return found


def _distinct_items(
    rng: np.random.Generator,
    model: PopulationModel,
    mixtures: NDArray[np.float64],
    wanted: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Draw different items for each person: person, item and taste of each, by person, as drawn.

    Somebody who has nearly all there is of their tastes may end up with fewer, never with none.
    """
    n_items = model.n_items
    keys, kinds = np.zeros(0, np.int64), np.zeros(0, np.int64)
    missing = wanted.copy()
    for _ in range(_ATTEMPTS):
        person = np.repeat(np.arange(len(wanted)), missing)
        if not len(person):
            break
        taste = _draw_rows(rng, mixtures, person)
        item = _draw_rows(rng, model.items, taste)
        keys = np.concatenate([keys, person * n_items + item])
        kinds = np.concatenate([kinds, taste])
        _, first = np.unique(keys, return_index=True)
        first.sort()
        keys, kinds = keys[first], kinds[first]
        missing = wanted - np.bincount(keys // n_items, minlength=len(wanted))
    by_person = np.argsort(keys // n_items, kind="stable")
    keys, kinds = keys[by_person], kinds[by_person]
    return keys // n_items, keys % n_items, kinds


def _draw_times(
    rng: np.random.Generator, model: PopulationModel, taste: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Draw when: a period of the taste, a week of the period, an hour of the week, a second."""
    period = _draw_rows(rng, model.seasons, taste)
    within_s = model.start_s + (period + rng.random(len(taste))) * model.period_s
    week_s = within_s - (within_s - _MONDAY_S) % _WEEK_S
    hour = _draw(rng, model.hours, len(taste))
    time_s = week_s + (hour + rng.random(len(taste))) * _HOUR_S
    # The first and the last week are cut by the calendar: what falls outside moves by a week.
    time_s[time_s < model.start_s] += _WEEK_S
    time_s[time_s >= model.now_s] -= _WEEK_S
    return time_s
