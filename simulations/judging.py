"""How good an arm's lists are: for everyone, and for people with little, some and much history.

Rules a reader can check line by line:

1. People are in three segments by how many different items they have: at most the lower tertile
   (``new``), at most the upper one (``light``), more (``heavy``). The cuts and the number of people
   are reported; where many have equally much, the segments differ in size.
2. A segment's numbers are those of ``discover``, over the people of it who were asked; nobody
   asked is no number.
3. Where there are more than `MOST_JUDGED` people, that many are drawn with the seed, and the result
   says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulations.data.interactions import IntArray
from simulations.evaluation.metrics import (
    METRICS,
    Measured,
    ScoreArray,
    Scorer,
    Standing,
    discounted_gains,
    hit_chances,
    measure,
    stand,
)
from simulations.evaluation.split import Split, Targets, had_items

SEGMENTS: Final = ("new", "light", "heavy")
MOST_JUDGED: Final = 10_000
_NOBODY: Final = np.zeros(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """Who has how much history.

    Attributes:
        of: int8[people], position in `SEGMENTS`.
        cuts: The tertiles: most items of ``new`` and of ``light``.
        largest: Most items that anyone has.
    """

    of: NDArray[np.int8]
    cuts: tuple[int, int]
    largest: int

    @classmethod
    def by_size(cls, sizes: NDArray[np.int64]) -> Segments:
        """Cut people at the tertiles.

        Args:
            sizes: int64[people], different items of each; at least one person.

        Example:
            >>> found = Segments.by_size(np.array([1, 9, 4, 1, 2, 30]))
            >>> found.cuts, found.of.tolist()
            ((1, 4), [0, 2, 1, 0, 1, 2])
        """
        low, high = (int(each) for each in np.quantile(sizes, [1 / 3, 2 / 3], method="lower"))
        of = np.searchsorted(np.array([low, high]), sizes, side="left").astype(np.int8)
        return cls(of=of, cuts=(low, high), largest=int(sizes.max()))

    def to_json(self) -> list[dict[str, Any]]:
        """Each segment: its name, from how many items to how many, and its people."""
        ends = (*self.cuts, self.largest)
        starts = (0, self.cuts[0] + 1, self.cuts[1] + 1)
        people = np.bincount(self.of, minlength=len(SEGMENTS)).tolist()
        rows = zip(SEGMENTS, starts, ends, people, strict=True)
        return [
            {"name": name, "from": start, "to": end, "people": count}
            for name, start, end, count in rows
        ]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What one arm is worth with one seed.

    Attributes:
        measured: Protocol to metric to value, over everyone who was asked.
        segments: Segment to metric to value, of ``discover``; NaN where nobody was asked.
        asked: Segment to how many were asked.
    """

    measured: Measured
    segments: Measured
    asked: dict[str, int]


@dataclass(kw_only=True, eq=False)
class _Standings:
    """Where the targets of ``discover`` stand, person by person, as blocks are scored."""

    people: list[NDArray[np.int64]] = field(default_factory=list)
    hits: list[NDArray[np.float64]] = field(default_factory=list)
    gains: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, people: NDArray[Any], standing: Standing) -> None:
        """Note a block."""
        self.people.append(people.astype(np.int64))
        self.hits.append(hit_chances(standing))
        self.gains.append(discounted_gains(standing))

    def judged(self, segments: Segments, measured: Measured | None = None) -> Judged:
        """Put the blocks together; ``measured`` is what is known of all protocols."""
        people = np.concatenate([_NOBODY.astype(np.int64), *self.people])
        hits = np.concatenate([_NOBODY, *self.hits])
        gains = np.concatenate([_NOBODY, *self.gains])
        of = segments.of[people]
        rows = {name: of == code for code, name in enumerate(SEGMENTS)}
        return Judged(
            measured=measured or {"discover": _means(hits, gains)},
            segments={name: _means(hits[mask], gains[mask]) for name, mask in rows.items()},
            asked={name: int(np.count_nonzero(mask)) for name, mask in rows.items()},
        )


def judge_split(scorer: Scorer, split: Split, targets: Targets, segments: Segments) -> Judged:
    """Judge an arm on what really happened, in all protocols; each person is scored once.

    Args:
        scorer: The arm.
        split: What people had.
        targets: What is asked.
        segments: Of all people.
    """
    standings = _Standings()

    def noting(people: IntArray) -> ScoreArray:
        scores = scorer(people)
        new = np.isin(people, targets.discover_people)
        if new.any():
            asked = people[new]
            wanted = targets.discover_items[np.searchsorted(targets.discover_people, asked)]
            standings.add(asked, stand(scores[new], wanted, ~had_items(split.train, asked)))
        return scores

    measured = measure(noting, split, targets)
    return standings.judged(segments, measured)


def judge_columns(
    scorer: Scorer,
    *,
    people: NDArray[np.int64],
    targets: NDArray[np.int32],
    had: Scorer,
    segments: Segments,
    block: int,
) -> Judged:
    """Judge an arm on one target a person, among the items that the person does not have.

    Args:
        scorer: The arm.
        people: int64[m], whom to ask.
        targets: int32[everyone].
        had: People to bool[b, n_items], what they have.
        segments: Of all people.
        block: People scored at a time.
    """
    standings = _Standings()
    for start in range(0, len(people), block):
        asked = people[start : start + block]
        rows = asked.astype(np.int32)
        candidates = ~np.asarray(had(rows), np.bool_)
        standings.add(asked, stand(scorer(rows), np.asarray(targets[asked]), candidates))
    return standings.judged(segments)


def restrict(targets: Targets, *, most: int = MOST_JUDGED) -> Targets:
    """Draw who is asked, with the targets' own seed, where they are more than ``most``.

    Args:
        targets: Of everyone.
        most: At most so many people keep their targets, at least 1.
    """
    everyone = np.union1d(targets.next_people, targets.discover_people)
    if len(everyone) <= most:
        return targets
    kept = np.random.default_rng((targets.seed, most)).choice(everyone, most, replace=False)
    follows, new = np.isin(targets.next_people, kept), np.isin(targets.discover_people, kept)
    return replace(
        targets,
        next_people=targets.next_people[follows],
        next_items=targets.next_items[follows],
        negatives=targets.negatives[follows],
        discover_people=targets.discover_people[new],
        discover_items=targets.discover_items[new],
    )


def _means(hits: NDArray[np.float64], gains: NDArray[np.float64]) -> dict[str, float]:
    known = len(hits) > 0
    values = (float(hits.mean()), float(gains.mean())) if known else (float("nan"), float("nan"))
    return dict(zip(METRICS, values, strict=True))
