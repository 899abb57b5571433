"""What every engine is given: people, the first table, cohorts, and the settings of a round.

Synthetic, of MovieLens-1M's shape (Harper and Konstan 2015): 6,040 people with 20 to 2,314 items
each, 165 on average, of 3,706, a few of them known to everybody. No event is a real one.

A file of plain arrays, because peers live in environments of their own and read it with numpy and
nothing else; this module imports nothing else either.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PEOPLE: Final = 6_040
ITEMS: Final = 3_706
RANK: Final = 32
MEAN_EVENTS: Final = 165.6
FEWEST_EVENTS: Final = 20
MOST_EVENTS: Final = 2_314
_SPREAD: Final = 1.05
_HEAD: Final = 60.0
_TAIL: Final = 1.35
_AT_ONCE: Final = 512


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a round asks and how it ends; the protocol's own defaults where it has some.

    Attributes:
        seed: Of the people, the table, the cohorts and the negatives.
        cohort: People in a round.
        steps: Gradient steps of each person.
        learning_rate: Of those steps.
        negatives: Drawn for each positive, step by step.
        ridge: Penalty of the private vector's solve.
        clip_norm: L2 bound of one person's change.
        noise_multiplier: Deviation of the Gaussian noise over ``clip_norm``, on every entry.
        server_learning_rate: Of the server's FedAvgM.
        momentum: Of the server's FedAvgM.
    """

    seed: int
    cohort: int
    steps: int
    learning_rate: float
    negatives: int
    ridge: float
    clip_norm: float
    noise_multiplier: float
    server_learning_rate: float
    momentum: float


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """Who has what: person p has the entries ``[offsets[p], offsets[p + 1])``.

    Attributes:
        offsets: int64[people + 1].
        items: int32[entries], rising for each person.
        last_time_s: float64[entries], seconds since 1970.
        now_s: When recency is measured.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    last_time_s: NDArray[np.float64]
    now_s: float

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """What an engine reads from the file.

    Attributes:
        settings: Of every round.
        offsets: int64[people + 1].
        items: int32[entries], rising for each person: the positives.
        weights: float32[entries], the unit-norm history vectors; made beforehand for peers, while
            our engine makes them again in every round, as it does in a simulation.
        last_time_s: float64[entries], from which our engine makes them.
        now_s: float64[1], when recency is measured.
        factors: float32[n_items, rank], the first table.
        cohorts: int64[rounds, cohort], people by number; one row a round.
    """

    settings: Settings
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    last_time_s: NDArray[np.float64]
    now_s: NDArray[np.float64]
    factors: NDArray[np.float32]
    cohorts: NDArray[np.int64]

    def save(self, file: Path) -> None:
        """Write one ``.npz``."""
        arrays: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "settings"
        }
        np.savez(file, settings=np.array(json.dumps(asdict(self.settings))), **arrays)

    @classmethod
    def load(cls, file: Path) -> Workload:
        """Read what `save` wrote.

        Raises:
            ValueError: anything else.
        """
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays: dict[str, Any] = {
                    name: stored[name] for name in stored.files if name != "settings"
                }
                settings = Settings(**json.loads(str(stored["settings"])))
            return cls(settings=settings, **arrays)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file} is no workload; let the runner write it") from error


def draw_people(
    *,
    seed: int,
    people: int = PEOPLE,
    n_items: int = ITEMS,
    mean_events: float = MEAN_EVENTS,
    most_events: int = MOST_EVENTS,
) -> People:
    """Draw people of MovieLens-1M's shape.

    Sizes are 20 and a log-normal, scaled to the mean and cut at the largest; items are drawn
    without repetition, by shares that fall as a Zipf-Mandelbrot law.

    Args:
        seed: Of PCG64.
        people: How many.
        n_items: Length of the catalogue.
        mean_events: Of a person, before the cut.
        most_events: The cut; at most ``n_items - 1``.
    """
    rng = np.random.default_rng(seed)
    fewest = min(FEWEST_EVENTS, most_events)
    above = rng.lognormal(sigma=_SPREAD, size=people)
    sizes = fewest + above / above.mean() * max(mean_events - fewest, 0.0)
    sizes = np.minimum(sizes, min(most_events, n_items - 1)).astype(np.int64)
    shares = (np.arange(n_items) + _HEAD) ** -_TAIL
    order = rng.permutation(n_items)
    log_shares = np.log(shares / shares.sum())[order]
    items = []
    for start in range(0, people, _AT_ONCE):
        some = sizes[start : start + _AT_ONCE]
        # The k largest of log share + Gumbel noise are a draw of k without repetition.
        keys = log_shares + rng.gumbel(size=(len(some), n_items))
        best = np.argsort(-keys, axis=1)
        items += [np.sort(row[:size]) for row, size in zip(best, some, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    now_s = 1_046_454_590.0
    age_s = rng.exponential(120.0 * 86_400.0, size=int(offsets[-1]))
    return People(
        offsets=offsets,
        items=np.concatenate(items).astype(np.int32),
        last_time_s=now_s - age_s,
        now_s=now_s,
    )


def draw_cohorts(*, people: int, cohort: int, rounds: int, seed: int) -> NDArray[np.int64]:
    """Draw who is in which round, int64[rounds, cohort]: each round nobody twice, sorted."""
    rng = np.random.default_rng([seed, 1])
    drawn = [np.sort(rng.choice(people, cohort, replace=False)) for _ in range(rounds)]
    return np.array(drawn, np.int64)
