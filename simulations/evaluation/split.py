"""What is held out of the histories, and which item is asked for in each protocol.

Rules a reader can check line by line:

1. The held-out occasion of a person is the last one in which they took an item. That occasion,
   what came after it began, and all later occasions are not in the training part.
2. ``validation`` is the same rule applied to the training part of ``test``: the last occasion is
   dropped, the one before is held out. Choices made on it have never seen the test.
3. A person with one occasion (two, for validation) has nothing held out and still trains.
4. One target a person and protocol, drawn with the seed, every distinct item alike:
   ``next`` from all items of the held-out occasion, ``discover`` from those never had before.
5. ``sampled`` asks for the target of ``next`` among 99 items that the person never had and that
   are not in the held-out occasion (fewer where the catalogue has fewer).

Holding out whole occasions matters: all lines of one invoice share one time, and a split by
line would leak the basket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from simulations.data.interactions import BoolArray, IntArray, Interactions

Part = Literal["test", "validation"]

PROTOCOLS: Final = ("discover", "next", "sampled")
NEGATIVES: Final = 99
NO_ITEM: Final = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Histories to learn from, and what each person took next.

    Attributes:
        train: What may be learned from, of every person.
        held_out: The rows of taste in each person's held-out occasion.
        now_s: float64[n_people], when the held-out occasion began; the time of the person's last
            row where nothing is held out. Recency is measured from here.
    """

    train: Interactions
    held_out: Interactions
    now_s: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What the protocols ask for, one item a person.

    Attributes:
        seed: What they were drawn with.
        next_people: int32[n], ascending persons with something held out.
        next_items: int32[n], what each of them took.
        discover_people: int32[d], ascending persons who took something new.
        discover_items: int32[d], what each of them took for the first time.
        negatives: int32[n, 99], for each of ``next_people``; `NO_ITEM` where there are too few.
    """

    seed: int
    next_people: IntArray
    next_items: IntArray
    discover_people: IntArray
    discover_items: IntArray
    negatives: IntArray


def hold_out(interactions: Interactions, *, part: Part = "test") -> Split:
    """Split by occasion, as the rules above say.

    Args:
        interactions: Everything that is known.
        part: ``test``, or ``validation`` to choose settings without looking at the test.

    Returns:
        The split; a person without a held-out occasion has all rows in ``train``.
    """
    if part not in {"test", "validation"}:
        raise ValueError(f"part must be 'test' or 'validation', got {part!r}")
    split = _hold_out_last(interactions)
    return _hold_out_last(split.train) if part == "validation" else split


def draw_targets(split: Split, *, seed: int) -> Targets:
    """Draw one target a person and protocol, and the negatives of ``sampled``.

    Args:
        split: From `hold_out`.
        seed: >= 0; each protocol draws from a stream of its own.

    Returns:
        The targets; both lists are empty where nobody has something held out.
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)]
    wanted = item_pairs(split.held_out)
    had = item_pairs(split.train)
    next_people, next_items = _draw_one_each(wanted, split.held_out.n_items, streams[0])
    discover_people, discover_items = _draw_one_each(
        np.setdiff1d(wanted, had, assume_unique=True), split.held_out.n_items, streams[1]
    )
    return Targets(
        seed=seed,
        next_people=next_people,
        next_items=next_items,
        discover_people=discover_people,
        discover_items=discover_items,
        negatives=_draw_negatives(split, next_people, streams[2]),
    )


def item_pairs(interactions: Interactions) -> npt.NDArray[np.int64]:
    """Give who had what, once: int64 person * n_items + item, ascending, rows of taste only."""
    taste = interactions.taste
    pairs = interactions.users[taste].astype(np.int64) * interactions.n_items
    unique: npt.NDArray[np.int64] = np.unique(pairs + interactions.items[taste])
    return unique


def had_items(interactions: Interactions, people: IntArray) -> BoolArray:
    """Say what each of some people had.

    Args:
        interactions: Where to look; rows of taste only.
        people: int32[b], persons.

    Returns:
        bool[b, n_items].
    """
    had = np.zeros((len(people), interactions.n_items), np.bool_)
    firsts = np.searchsorted(interactions.users, people, side="left")
    ends = np.searchsorted(interactions.users, people, side="right")
    taste = interactions.taste
    for row, (first, end) in enumerate(zip(firsts, ends, strict=True)):
        had[row, interactions.items[first:end][taste[first:end]]] = True
    return had


def _hold_out_last(interactions: Interactions) -> Split:
    """Hold out each person's last occasion of taste, where they have two."""
    n_people, taste = interactions.n_people, interactions.taste
    users, occasions = interactions.users, interactions.occasions
    last = np.full(n_people, NO_ITEM)
    np.maximum.at(last, users[taste], occasions[taste])
    first = np.full(n_people, np.iinfo(np.int64).max)
    np.minimum.at(first, users[taste], occasions[taste])
    held = first < last  # two different occasions, at least
    target = taste & held[users] & (occasions == last[users])
    now_s = np.full(n_people, -np.inf)
    np.maximum.at(now_s, users, interactions.times_s)
    now_s[held] = np.inf
    np.minimum.at(now_s, users[target], interactions.times_s[target])
    later = (occasions >= last[users]) | (interactions.times_s > now_s[users])
    return Split(
        train=interactions.take(~(held[users] & later)),
        held_out=interactions.take(target),
        now_s=np.where(np.isfinite(now_s), now_s, 0.0),
    )


def _draw_one_each(
    pairs: npt.NDArray[np.int64], n_items: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Draw one of each person's pairs, all alike: the one with the smallest random key."""
    shuffled = rng.permutation(pairs)
    people, at = np.unique(shuffled // n_items, return_index=True)
    return people.astype(np.int32), (shuffled[at] % n_items).astype(np.int32)


def _draw_negatives(split: Split, people: IntArray, rng: np.random.Generator) -> IntArray:
    """Draw 99 items a person that they never had and did not take."""
    negatives = np.full((len(people), NEGATIVES), NO_ITEM, np.int32)
    for row in range(len(people)):
        person = people[row : row + 1]
        taken = had_items(split.train, person)[0] | had_items(split.held_out, person)[0]
        free = np.flatnonzero(~taken)
        count = min(NEGATIVES, len(free))
        negatives[row, :count] = rng.choice(free, count, replace=False)
    return negatives
