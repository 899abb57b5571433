"""Whom an experiment is about: what they hold, which arms they are compared with, how it is judged.

Two kinds: people of an events file, with what they really took next held out; and synthetic people
from a folder, each with one more item than their history holds. Both are columns to an engine.

An arm that cannot be had here is left out, and the result says why (`Study.left_out`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence import History, RankerSettings, RankerTable
from client_sdk.wire import Catalogue, Item
from simulations.arms import Arms
from simulations.data.interactions import DataError, IntArray, Interactions, LoadedData
from simulations.engines.columns import HistoryColumns
from simulations.evaluation.metrics import ScoreArray, Scorer
from simulations.evaluation.split import Part, Split, Targets, draw_targets, hold_out
from simulations.judging import (
    MOST_JUDGED,
    Judged,
    Segments,
    judge_columns,
    judge_split,
    restrict,
)
from simulations.population import SIMULATED_NOW_S, histories_of
from simulations.synthetic.generate import SyntheticPeople, open_population

DESCRIPTION: Final = "population.json"
_MOST_DENSE_CELLS: Final = 200_000_000
_CELLS: Final = 2_000_000
_CHUNK: Final = 1 << 22

Judge = Callable[[Scorer], Judged]
"""Judges an arm with the targets of one seed."""


class Study(Protocol):
    """Whom an experiment is about."""

    @property
    def catalogue(self) -> Catalogue:
        """The items."""
        ...

    @property
    def histories(self) -> HistoryColumns:
        """What each device holds."""
        ...

    @property
    def split(self) -> Split | None:
        """The events behind it; None where there are none."""
        ...

    @property
    def segments(self) -> Segments:
        """Who has how much history."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the result says about the data."""
        ...

    @property
    def left_out(self) -> Mapping[str, str]:
        """Arm to why it cannot be had."""
        ...

    def simple_arms(self) -> Mapping[str, Scorer]:
        """Give the arms that learn nothing together, by name."""
        ...

    def together(self, table: RankerTable) -> Scorer:
        """Give the arm of a released table."""
        ...

    def judge_for(self, seed: int) -> Judge:
        """Give the judge of one seed."""
        ...

    @property
    def judged_people(self) -> int:
        """How many are asked, of all."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class EventStudy:
    """People of an events file.

    Attributes:
        data: What was loaded.
        part: What is held out: the last occasion, or for choosing settings the one before it.
    """

    data: LoadedData
    part: Part = "test"

    @property
    def catalogue(self) -> Catalogue:
        """The items."""
        return self.data.catalogue

    @cached_property
    def split(self) -> Split:
        """What devices hold, and what was held out for the test."""
        return hold_out(self.data.interactions, part=self.part)

    @cached_property
    def histories(self) -> HistoryColumns:
        """What each device holds."""
        return HistoryColumns.from_histories(self._histories, now_s=SIMULATED_NOW_S)

    @cached_property
    def _histories(self) -> Sequence[History]:
        return histories_of(self.split, self.catalogue)

    @cached_property
    def segments(self) -> Segments:
        """Who has how much history."""
        return Segments.by_size(self.histories.lengths)

    @property
    def facts(self) -> Mapping[str, Any]:
        """The counts of the loader."""
        return self.data.quality.to_json()

    @property
    def left_out(self) -> Mapping[str, str]:
        """The ceiling, where everyone's history does not fit into one dense matrix."""
        if self._fits:
            return {}
        return {
            "central": f"everyone's history as one matrix has more than {_MOST_DENSE_CELLS:,} cells"
        }

    @property
    def _fits(self) -> bool:
        return len(self._histories) * len(self.catalogue.items) <= _MOST_DENSE_CELLS

    @cached_property
    def material(self) -> Arms:
        """What arms are made from."""
        return Arms(train=self.split.train, histories=self._histories, catalogue=self.catalogue)

    def simple_arms(self) -> Mapping[str, Scorer]:
        """Best sellers, the device alone, and the ceiling."""
        arms = {"popularity": self.material.popularity(), "device-alone": self.material.alone()}
        if self._fits:
            arms["central"] = self.material.central(RankerSettings())
        return arms

    def together(self, table: RankerTable) -> Scorer:
        """Give the arm of a released table, as a device ranks with it."""
        return self.material.together(table)

    def targets(self, seed: int) -> Targets:
        """Draw what is asked, of at most `MOST_JUDGED` people."""
        return restrict(draw_targets(self.split, seed=seed))

    def judge_for(self, seed: int) -> Judge:
        """Give the judge of one seed."""
        targets = self.targets(seed)
        return lambda scorer: judge_split(scorer, self.split, targets, self.segments)

    @property
    def judged_people(self) -> int:
        """How many are asked, of all who have something held out."""
        return min(MOST_JUDGED, len(np.unique(self.split.held_out.users)))


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticStudy:
    """Synthetic people from a folder; memory is that of the people who are judged.

    Attributes:
        made: What the folder holds, as memory maps.
        facts: What the result says about it.
        n_items: Length of the catalogue.
        part: Whom to ask: one half of the people for choosing settings, the other for the test;
            the halves are drawn once, whatever the seed. Everybody when None.
    """

    made: SyntheticPeople
    facts: Mapping[str, Any]
    n_items: int
    part: Part | None = None
    split: None = None
    left_out: Mapping[str, str] = field(
        default_factory=lambda: {
            "device-alone": "synthetic items have neither names nor categories, and what is asked "
            "for is never in the history: a device alone could only guess",
            "central": "synthetic people are for many; for everyone's history in one place take "
            "--events",
        }
    )

    @classmethod
    def open(cls, folder: Path) -> SyntheticStudy:
        """Open a population that ``homebody population make`` wrote.

        Raises:
            DataError: there is no whole population in the folder.
        """
        try:
            made = open_population(folder)
            told = json.loads((folder / DESCRIPTION).read_bytes())
            n_items = int(told["n_items"])
            facts = {
                "name": "synthetic people",
                "synthetic": True,
                "people": made.histories.people,
                "items": n_items,
                "entries": len(made.histories.items),
                "model_sha256": str(told["model_sha256"]),
                "people_seed": int(told["seed"]),
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                "no whole population; make one with homebody population make",
                file=folder.name or folder.resolve().name,
            ) from error
        return cls(made=made, facts=facts, n_items=n_items)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Items without names."""
        return Catalogue(items=tuple(Item(item_id=f"item-{n}") for n in range(self.n_items)))

    @property
    def histories(self) -> HistoryColumns:
        """What each device holds."""
        return self.made.histories

    @cached_property
    def segments(self) -> Segments:
        """Who has how much history."""
        return Segments.by_size(self.histories.lengths)

    def simple_arms(self) -> Mapping[str, Scorer]:
        """Best sellers."""
        counts = np.zeros(self.n_items)
        items = self.histories.items
        for start in range(0, len(items), _CHUNK):
            counts += np.bincount(items[start : start + _CHUNK], minlength=self.n_items)

        def score(people: IntArray) -> ScoreArray:
            return np.broadcast_to(counts, (len(people), self.n_items))

        return {"popularity": score}

    def together(self, table: RankerTable) -> Scorer:
        """Give the arm of a released table, as a device ranks with it."""
        nothing = np.zeros(0, np.int32)
        train = Interactions(
            n_people=self.histories.people,
            n_items=self.n_items,
            users=nothing,
            items=nothing,
            times_s=np.zeros(0),
            quantities=np.zeros(0),
            prices=np.zeros(0),
            kinds=np.zeros(0, np.int8),
            occasions=nothing,
        )
        arms = Arms(train=train, histories=_Rows(self.histories), catalogue=self.catalogue)
        return arms.together(table)

    def judge_for(self, seed: int) -> Judge:
        """Give the judge of one seed: it draws whom to ask, not what."""
        able = self._able
        drawn = able[np.random.default_rng((seed, len(able))).permutation(len(able))]
        people = np.sort(drawn[: self.judged_people]).astype(np.int64)
        return lambda scorer: judge_columns(
            scorer,
            people=people,
            targets=self.made.targets,
            had=self._had,
            segments=self.segments,
            block=max(1, _CELLS // self.n_items),
        )

    @property
    def judged_people(self) -> int:
        """How many are asked, of all."""
        return min(MOST_JUDGED, len(self._able))

    @property
    def _able(self) -> NDArray[np.int64]:
        """Give who may be asked."""
        everyone = self.histories.people
        if self.part is None:
            return np.arange(everyone)
        once = np.random.default_rng(everyone).permutation(everyone)
        half = (everyone + 1) // 2
        return once[half:] if self.part == "validation" else once[:half]

    def _had(self, people: IntArray) -> NDArray[Any]:
        held = self.histories.of(people.astype(np.int64))
        had = np.zeros((len(people), self.n_items), np.bool_)
        had[np.repeat(np.arange(len(people)), held.lengths), held.items] = True
        return had


@dataclass(frozen=True)
class _Rows(Sequence[History]):
    """Columns as a sequence of histories; each is made when it is asked for."""

    columns: HistoryColumns

    def __len__(self) -> int:
        return self.columns.people

    @overload
    def __getitem__(self, at: int) -> History: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[History]: ...
    def __getitem__(self, at: int | slice) -> History | Sequence[History]:
        if isinstance(at, slice):
            return [self.columns.history(row) for row in range(*at.indices(len(self)))]
        return self.columns.history(int(at))

    def __iter__(self) -> Iterator[History]:
        return (self.columns.history(row) for row in range(len(self)))
