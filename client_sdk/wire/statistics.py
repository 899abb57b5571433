"""What a survey asks of each person, and where the answers stand in one bounded vector.

A survey is a list of questions that are answered together, in **one** vector. Each question has a
block; a block has a cell for each group, and a cell has ``1 + 2 measures`` entries:

| entry   | holds                                                                    |
|---------|--------------------------------------------------------------------------|
| 0       | c: the person is in this cell                                            |
| 1 + 2 m | c y: measure m, in parts of its range, y in [0, 1]                       |
| 2 + 2 m | 3 c y (1 - y): its spread, from which the server has the variance        |

So a histogram is a question with bins and no measure, a mean one with a measure and no bins, a
count one with a single edge, and a rate by segment one with both.

Rules a reader can check line by line:

1. A person fills at most one cell of a question. With Q questions, c is the clip norm over
   sqrt(Q (1 + measures)), so the L2 norm of the **whole** vector is at most the clip norm, whatever
   the person did (for the spread see `client_sdk.wire.outcomes`). One person taken out moves the
   sum by one clip norm: across all questions, not for each.
2. A survey of one question without measures has at most one entry that is not zero (`one_entry`):
   only such a sum may be released with discrete Laplace noise, whose sensitivity is in L1.
3. The bins are public and fixed before anyone answers: below the first edge, between two edges (the
   lower edge belongs to the bin, the last bin has both), above the last, and unknown, as in
   `client_sdk.signals.features.histogram`.
4. A share counts whether a value lies in its range; who has no value is not in it. A mean is of the
   value, cut to its range; who has no value is not asked (their whole block stays empty).
5. Reading a survey is total: any bytes give a sound survey, or `WireFormatError`.

Longer than 400 lines because what is signed and what is packed from it are one contract.

More than 400 lines: the questions, their layout and their bytes are one format, read as one.
"""

from __future__ import annotations

import bisect
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.frame import Fields, WireFormatError, canonical_json
from client_sdk.wire.outcomes import (
    MAX_GROUPS,
    MAX_METRICS,
    SPREAD_FACTOR,
    ExperimentOutcome,
    OutcomeLayout,
)
from client_sdk.wire.vectors import SparseVector

MAX_QUESTIONS: Final = 64
MAX_EDGES: Final = 4_096
MAX_ENTRIES: Final = 65_536
MAX_NAME_CHARS: Final = 64
MAX_SURVEY_BYTES: Final = 1024 * 1024
_VERSION: Final = 1

FloatArray = NDArray[np.float64]


class MeasureForm(StrEnum):
    """What is made of a value before it is added."""

    MEAN = "mean"
    SHARE = "share"


@dataclass(frozen=True, kw_only=True)
class Binning:
    """Cells of a feature.

    Attributes:
        feature: Its name on the device.
        edges: Finite and increasing, at least 1.
    """

    feature: str
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_name(self.feature)
        rises = all(low < high for low, high in itertools.pairwise(self.edges))
        if not (rises and all(map(math.isfinite, self.edges))):
            raise ValueError("edges: expected increasing finite numbers; got others")
        if not 1 <= len(self.edges) <= MAX_EDGES:
            raise ValueError(f"edges: expected 1 to {MAX_EDGES}; got {len(self.edges)}")

    @property
    def cells(self) -> int:
        """Below, between, above, and unknown."""
        return len(self.edges) + 2

    def cell_of(self, value: float | None) -> int:
        """Say in which cell a value is; None is unknown.

        >>> bins = Binning(feature="visits", edges=(0.0, 1.0, 5.0))
        >>> [bins.cell_of(value) for value in (-1.0, 0.0, 1.0, 5.0, 6.0, None)]
        [0, 1, 2, 2, 3, 4]
        """
        if value is None or math.isnan(value):
            return len(self.edges) + 1
        if value == self.edges[-1] and len(self.edges) > 1:
            return len(self.edges) - 1
        return bisect.bisect_right(self.edges, value)

    def names(self) -> tuple[str, ...]:
        """Name the cells, in order."""
        edges = [f"{edge:g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
        return (f"below {edges[0]}", *between, f"above {edges[-1]}", "unknown")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number in a range.

    Attributes:
        feature: Its name on the device.
        low: Where the range begins, in the feature's unit.
        high: Where it ends, above ``low``.
        form: `MeasureForm`.
    """

    feature: str
    low: float
    high: float
    form: MeasureForm = MeasureForm.MEAN

    def __post_init__(self) -> None:
        _check_name(self.feature)
        finite = math.isfinite(self.low) and math.isfinite(self.high - self.low)
        if not (finite and self.low < self.high):
            raise ValueError("low, high: expected finite numbers, the lower first; got others")

    @property
    def bound(self) -> float:
        """The largest part, in the unit of what is reported."""
        return 1.0 if self.form is MeasureForm.SHARE else self.high - self.low

    @property
    def base(self) -> float:
        """What the smallest part stands for, in that unit."""
        return 0.0 if self.form is MeasureForm.SHARE else self.low

    def part_of(self, value: float | None) -> float | None:
        """Give y in [0, 1]; None where the person is not asked.

        >>> Measure(feature="age", low=10.0, high=20.0).part_of(12.0)
        0.2
        """
        unknown = value is None or math.isnan(value)
        if self.form is MeasureForm.SHARE:
            return 0.0 if unknown or not self.low <= float(value or 0.0) <= self.high else 1.0
        if value is None or unknown:
            return None
        cut = min(self.high, max(self.low, value))
        return min(1.0, max(0.0, (cut - self.low) / (self.high - self.low)))


@dataclass(frozen=True, kw_only=True)
class Question:
    """A block of the vector.

    Attributes:
        name: For the report.
        by: Cells of people; None for everyone in one cell.
        measures: What is averaged in each cell; none for a histogram.
    """

    name: str
    by: Binning | None = None
    measures: tuple[Measure, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.measures) > MAX_METRICS:
            raise ValueError(f"measures: expected at most {MAX_METRICS}; got more")
        if self.measures and self.cells > MAX_GROUPS:
            raise ValueError(f"by: expected at most {MAX_GROUPS} cells beside measures; got more")

    @property
    def cells(self) -> int:
        """How many groups."""
        return 1 if self.by is None else self.by.cells

    @property
    def entries(self) -> int:
        """Length of the block."""
        return self.cells * (1 + 2 * len(self.measures))

    @property
    def features(self) -> frozenset[str]:
        """What a device has to know."""
        found = {measure.feature for measure in self.measures}
        return frozenset(found if self.by is None else found | {self.by.feature})


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Questions that are answered together.

    Attributes:
        name: What it is called, with its period where it is asked again ("basics 2026-W47").
        questions: 1 to 64, each of another name.

    >>> survey = Survey(name="basics", questions=(
    ...     Question(name="visits", by=Binning(feature="events_7_days", edges=(0.0, 5.0))),
    ...     Question(name="price", measures=(Measure(feature="price", low=0.0, high=10.0),))))
    >>> survey.dimension, Survey.from_bytes(survey.to_bytes()) == survey
    (7, True)
    >>> survey.pack({"events_7_days": 3.0, "price": 10.0}, clip_norm=1.0).norm() <= 1.0
    True
    """

    name: str
    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        _check_name(self.name)
        names = [question.name for question in self.questions]
        if not 1 <= len(names) <= MAX_QUESTIONS or len(set(names)) != len(names):
            raise ValueError(f"questions: expected 1 to {MAX_QUESTIONS}, each of another name")
        if self.dimension > MAX_ENTRIES:
            raise ValueError(f"expected at most {MAX_ENTRIES} entries; got {self.dimension}")

    @property
    def dimension(self) -> int:
        """Length of the vector."""
        return sum(question.entries for question in self.questions)

    @property
    def one_entry(self) -> bool:
        """Whether no person can have two entries that are not zero."""
        return len(self.questions) == 1 and not self.questions[0].measures

    @cached_property
    def features(self) -> frozenset[str]:
        """What a device has to know."""
        return frozenset().union(*(question.features for question in self.questions))

    def scale(self, question: Question, *, clip_norm: float) -> float:
        """What one person adds to the count of a cell."""
        return self._share(clip_norm) / math.sqrt(1 + len(question.measures))

    def pack(self, known: Mapping[str, float | None], *, clip_norm: float) -> SparseVector:
        """Write one person's answers as a vector with an L2 norm of at most ``clip_norm``.

        Args:
            known: The person's features by name; None, or not there, is unknown.
            clip_norm: That of the order, finite and above 0.
        """
        dense = np.zeros(self.dimension, np.float32)
        start = 0
        for question in self.questions:
            block = self._answer(question, known, clip_norm)
            if block is not None:
                dense[start + block.indices] = block.values
            start += question.entries
        # Blocks are rounded towards zero; the sum of their squares may still round up, in float64's
        # last place: one float32 step is far more than that.
        if math.sqrt(float(np.square(dense, dtype=np.float64).sum())) > clip_norm:
            dense = np.nextafter(dense, np.float32(0))
        return SparseVector.from_dense(dense)

    def unpack(self, total: FloatArray, *, clip_norm: float) -> dict[str, FloatArray]:
        """Cut a (noisy) sum into its questions' blocks, still scaled.

        Args:
            total: float64[dimension].
            clip_norm: That of the order.

        Returns:
            By question, float64[cells, 1 + 2 measures], in persons: counts, sums of y, and sums of
            3 y (1 - y).

        Raises:
            ValueError: another length, or a number that is not finite.
        """
        if total.shape != (self.dimension,) or not np.isfinite(total).all():
            raise ValueError(f"expected {self.dimension} finite numbers; got others")
        blocks, start = {}, 0
        for question in self.questions:
            part = total[start : start + question.entries].reshape(question.cells, -1)
            blocks[question.name] = part / self.scale(question, clip_norm=clip_norm)
            start += question.entries
        return blocks

    def to_bytes(self) -> bytes:
        """Canonical JSON: the payload of an order."""
        return canonical_json(
            {
                "version": _VERSION,
                "name": self.name,
                "questions": [
                    {
                        "name": question.name,
                        "by": {}
                        if question.by is None
                        else {"feature": question.by.feature, "edges": list(question.by.edges)},
                        "measures": [
                            {**vars(measure), "form": measure.form.value}
                            for measure in question.measures
                        ],
                    }
                    for question in self.questions
                ],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Survey:
        """Read what `to_bytes` wrote.

        Raises:
            WireFormatError: anything else.
        """
        if len(data) > MAX_SURVEY_BYTES:
            raise WireFormatError("the survey is too long")
        try:
            return _survey(json.loads(data))
        except WireFormatError:
            raise
        except (ValueError, RecursionError) as error:
            raise WireFormatError("expected a survey") from error

    def _share(self, clip_norm: float) -> float:
        return clip_norm / math.sqrt(len(self.questions))

    def _answer(
        self, question: Question, known: Mapping[str, float | None], clip_norm: float
    ) -> SparseVector | None:
        cell = 0 if question.by is None else question.by.cell_of(known.get(question.by.feature))
        parts = [measure.part_of(known.get(measure.feature)) for measure in question.measures]
        answered = [part for part in parts if part is not None]
        if len(answered) < len(parts):
            return None
        share = self._share(clip_norm)
        if not parts:
            value = np.float32(share)
            value = value if value <= share else np.nextafter(value, np.float32(0))
            return SparseVector(
                dimension=question.cells,
                indices=np.array([cell], np.int32),
                values=np.array([value], np.float32),
            )
        layout = OutcomeLayout(groups=question.cells, metrics=len(parts), clip_norm=share)
        return layout.pack(ExperimentOutcome(group=cell, outcomes=tuple(answered)))


def spreads_of(block: FloatArray) -> FloatArray:
    """Give the sums of y (1 - y) of a block of `Survey.unpack`: float64[cells, measures]."""
    return block[:, 2::2] / SPREAD_FACTOR


def _survey(values: Any) -> Survey:
    fields = Fields(_table(values))
    if fields.take("version", int) != _VERSION:
        raise WireFormatError("expected a survey of version 1")
    name, questions = fields.take("name", str), fields.take("questions", list)
    fields.done()
    return Survey(name=name, questions=tuple(_question(each) for each in questions))


def _question(values: Any) -> Question:
    fields = Fields(_table(values))
    name, by = fields.take("name", str), fields.take("by", dict)
    measures = fields.take("measures", list)
    fields.done()
    return Question(
        name=name,
        by=_binning(by) if by else None,
        measures=tuple(_measure(each) for each in measures),
    )


def _binning(values: Any) -> Binning:
    fields = Fields(values)
    feature, edges = fields.take("feature", str), fields.take("edges", list)
    fields.done()
    if any(type(edge) not in (int, float) for edge in edges):
        raise WireFormatError("edges: expected numbers; got others")
    try:
        return Binning(feature=feature, edges=tuple(float(edge) for edge in edges))
    except OverflowError as error:
        raise WireFormatError("edges: expected finite numbers; got others") from error


def _measure(values: Any) -> Measure:
    fields = Fields(_table(values))
    measure = Measure(
        feature=fields.take("feature", str),
        low=fields.take("low", float),
        high=fields.take("high", float),
        form=fields.take_enum("form", MeasureForm),
    )
    fields.done()
    return measure


def _table(values: Any) -> Mapping[str, Any]:
    if not isinstance(values, dict):
        raise WireFormatError("expected a table; got something else")
    return values


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME_CHARS:
        raise ValueError(f"expected a name of 1 to {MAX_NAME_CHARS} characters; got another")
