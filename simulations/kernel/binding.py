"""The functions of `simulations.kernel.compiled`, called on numpy arrays.

More than 400 lines: one contract with one C file, read beside it.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulations.kernel.compiled import load

MAX_RANK: Final = 1_024
_STEPS: Final = 2**30


class Status(IntEnum):
    """What became of one person's contribution."""

    DONE = 0
    NOTHING_TO_SEND = 1
    NOT_FINITE = 2
    # Never said by the library: what an encoder found before it.
    OUT_OF_BOUNDS = 3
    UNAVAILABLE = 4


class _People(ctypes.Structure):
    _fields_ = [
        ("offsets", ctypes.c_void_p),
        ("items", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
    ]


class _Sum(ctypes.Structure):
    _fields_ = [
        ("clip_norm", ctypes.c_double),
        ("keep", ctypes.c_double),
        ("limit", ctypes.c_int64),
        ("sum", ctypes.c_void_p),
        ("norms", ctypes.c_void_p),
        ("status", ctypes.c_void_p),
    ]


class _ItemTraining(ctypes.Structure):
    _fields_ = [
        ("factors", ctypes.c_void_p),
        ("positive_offsets", ctypes.c_void_p),
        ("positives", ctypes.c_void_p),
        ("seed", ctypes.c_uint64),
        ("ridge", ctypes.c_double),
        ("learning_rate", ctypes.c_double),
        ("n_items", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("steps", ctypes.c_int32),
        ("negatives", ctypes.c_int32),
        ("by_rows", ctypes.c_int32),
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """One sparse vector a person, in compressed rows: of their history, or what they send.

    Attributes:
        offsets: int64[people + 1]; person p has entries ``[offsets[p], offsets[p + 1])``.
        items: int32[entries], places in the vector, strictly increasing for each person.
        weights: float32[entries]; of a history it is the unit-norm vector.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check("offsets", self.offsets, np.int64)
        _check("items", self.items, np.int32)
        _check("weights", self.weights, np.float32)
        entries = len(self.items)
        increasing = bool(np.all(self.offsets[1:] >= self.offsets[:-1]))
        if not len(self.offsets) or self.offsets[0] != 0 or self.offsets[-1] != entries:
            raise ValueError(f"offsets must run from 0 to {entries}")
        if not increasing or len(self.weights) != entries:
            raise ValueError("offsets must not fall, and items and weights have one length")

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    @cached_property
    def places(self) -> range:
        """The smallest range that holds all items; looked for once."""
        if not len(self.items):
            return range(0)
        return range(int(self.items.min()), int(self.items.max()) + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Contributions:
    """What the asked people gave.

    Attributes:
        sum: int64[dimension], lattice steps.
        norms: float64[asked], L2 norm of each update before clipping.
        status: uint8[asked], see `Status`.
    """

    sum: NDArray[np.int64]
    norms: NDArray[np.float64]
    status: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemTraining:
    """What one round of item training asks of every device alike.

    Attributes:
        factors: float32[n_items, rank], the table.
        positive_offsets: int64[people + 1].
        positives: int32[...], each person's latest items that fit the device's batch, sorted.
        seed: in [0, 2^64).
        steps: >= 1.
        learning_rate: > 0.
        negatives: >= 1.
        ridge: > 0.
        by_rows: step every row by itself instead of along the private vector; the same result to
            rounding, slower. For models whose rows do not move along one vector.
    """

    factors: NDArray[np.float32]
    positive_offsets: NDArray[np.int64]
    positives: NDArray[np.int32]
    seed: int
    steps: int
    learning_rate: float
    negatives: int
    ridge: float
    by_rows: bool = False

    def __post_init__(self) -> None:
        if self.factors.ndim != 2:
            raise ValueError(f"factors must be [n_items, rank]; got {self.factors.shape}")
        _check("factors", self.factors.reshape(-1), np.float32)
        _check("positive_offsets", self.positive_offsets, np.int64)
        _check("positives", self.positives, np.int32)


def train_items(
    people: Rows,
    task: ItemTraining,
    asked: NDArray[np.int64],
    *,
    clip_norm: float,
    count_share: float = 0.0,
    into: NDArray[np.int64] | None = None,
    library: ctypes.CDLL | None = None,
) -> Contributions:
    """Give the lattice sum of the asked people's clipped item training updates.

    Args:
        people: Their histories; items below the table's number of rows.
        task: What is asked.
        asked: int64[m], people by number; one that is named twice contributes twice.
        clip_norm: L2 bound of one contribution.
        count_share: The share q of the squared norm that is left for the entry that counts fits;
            the update is scaled by √(1-q), the entry itself is the caller's (`fit_entry`).
        into: int64[n_items x rank], added to; by default a new sum.
        library: From `simulations.kernel.compiled.load`; by default this package's.

    Raises:
        KernelUnavailableError: no compiler.
        ValueError: a person or an item that does not exist.
        MemoryError: no room for one person's rows.
    """
    n_items, rank = task.factors.shape
    _check_asked(people, asked, n_items)
    if len(task.positive_offsets) != people.people + 1:
        raise ValueError("positive_offsets must have one entry more than there are people")
    described = _ItemTraining(
        factors=_pointer(task.factors),
        positive_offsets=_pointer(task.positive_offsets),
        positives=_pointer(task.positives),
        seed=task.seed,
        ridge=task.ridge,
        learning_rate=task.learning_rate,
        n_items=n_items,
        rank=rank,
        steps=task.steps,
        negatives=task.negatives,
        by_rows=task.by_rows,
    )
    return _run(
        "homebody_item_training",
        people,
        asked,
        dimension=n_items * rank,
        clip_norm=clip_norm,
        count_share=count_share,
        into=into,
        before=(ctypes.byref(described),),
        library=library,
    )


def add_vectors(
    vectors: Rows,
    asked: NDArray[np.int64],
    *,
    dimension: int,
    clip_norm: float,
    into: NDArray[np.int64] | None = None,
    library: ctypes.CDLL | None = None,
) -> Contributions:
    """Give the lattice sum of vectors, each clipped: the way in for what is made elsewhere.

    Args:
        vectors: ``items`` are places in the sum. An empty one adds nothing and is `Status.DONE`.
        asked: int64[m], rows by number.
        dimension: Length of the sum.
        clip_norm: L2 bound of one contribution.
        into: int64[dimension], added to; by default a new sum.
        library: From `simulations.kernel.compiled.load`; by default this package's.

    Raises:
        ValueError: a row or a place that does not exist.
    """
    _check_asked(vectors, asked, dimension)
    return _run(
        "homebody_add_vectors",
        vectors,
        asked,
        dimension=dimension,
        clip_norm=clip_norm,
        into=into,
        library=library,
    )


def count_items(
    people: Rows,
    asked: NDArray[np.int64],
    *,
    n_items: int,
    clip_norm: float,
    into: NDArray[np.int64] | None = None,
    library: ctypes.CDLL | None = None,
) -> Contributions:
    """Give the lattice sum of the asked people's history vectors: int64[n_items]."""
    found = add_vectors(
        people, asked, dimension=n_items, clip_norm=clip_norm, into=into, library=library
    )
    empty = people.offsets[asked + 1] == people.offsets[asked]
    found.status[empty] = Status.NOTHING_TO_SEND
    return found


def item_statistics(
    people: Rows,
    asked: NDArray[np.int64],
    *,
    top_items: int,
    clip_norm: float,
    into: NDArray[np.int64] | None = None,
    library: ctypes.CDLL | None = None,
) -> Contributions:
    """Give the lattice sum of the asked people's packed x x'.

    Args:
        people: ``items`` are positions among the top items.
        asked: int64[m], people by number.
        top_items: K.
        clip_norm: L2 bound of one contribution.
        into: int64[K (K + 1) / 2], added to; by default a new sum.
        library: From `simulations.kernel.compiled.load`; by default this package's.

    Returns:
        A sum of K (K + 1) / 2 entries, in the order of ``numpy.triu_indices``.
    """
    _check_asked(people, asked, top_items)
    return _run(
        "homebody_item_statistics",
        people,
        asked,
        dimension=top_items * (top_items + 1) // 2,
        clip_norm=clip_norm,
        into=into,
        after_sum=(ctypes.c_int64(top_items),),
        library=library,
    )


def fit_entry(count_share: float) -> int:
    """Give the lattice steps of the entry that counts fits: √q of a clip norm, towards zero.

    >>> fit_entry(0.25) == 2**29
    True
    """
    return int(math.sqrt(count_share) * _STEPS)


def private_vectors(
    people: Rows,
    asked: NDArray[np.int64],
    *,
    factors: NDArray[np.float32],
    ridge: float,
    project: bool = False,
    library: ctypes.CDLL | None = None,
) -> NDArray[np.float32]:
    """Solve the private vectors of the asked people, to judge a table in a simulation.

    Args:
        people: Their histories; items below the table's number of rows.
        asked: int64[m], people by number.
        factors: float32[n_items, rank], the table; rank at most `MAX_RANK`, or any to project.
        ridge: > 0.
        project: x F instead of the ridge solve.
        library: From `simulations.kernel.compiled.load`; by default this package's.

    Returns:
        float32[m, rank]; zeros for an empty history.

    Raises:
        ValueError: a person or an item that does not exist, or another rank.
    """
    n_items, rank = factors.shape
    _check_asked(people, asked, n_items)
    _check("factors", factors.reshape(-1), np.float32)
    vectors = np.zeros((len(asked), rank), np.float32)
    rows = _People(
        offsets=_pointer(people.offsets),
        items=_pointer(people.items),
        weights=_pointer(people.weights),
    )
    code = (library or load()).homebody_private_vectors(
        ctypes.c_void_p(_pointer(factors)),
        ctypes.c_int32(rank),
        ctypes.c_double(ridge),
        ctypes.c_int32(project),
        ctypes.byref(rows),
        ctypes.c_void_p(_pointer(asked)),
        ctypes.c_int64(len(asked)),
        ctypes.c_void_p(_pointer(vectors)),
    )
    if code != 0:
        raise ValueError(f"no room, or a rank outside 1 to {MAX_RANK}")
    return vectors


def _run(
    name: str,
    people: Rows,
    asked: NDArray[np.int64],
    *,
    dimension: int,
    clip_norm: float,
    count_share: float = 0.0,
    into: NDArray[np.int64] | None = None,
    before: tuple[Any, ...] = (),
    after_sum: tuple[Any, ...] = (),
    library: ctypes.CDLL | None = None,
) -> Contributions:
    """Call one function of the library; ctypes lets other Python threads run meanwhile."""
    if into is not None:
        _check("into", into, np.int64)
        if len(into) != dimension:
            raise ValueError(f"into has {len(into)} entries, expected {dimension}")
    if not 0.0 <= count_share < 1.0:
        raise ValueError(f"count_share must lie in [0, 1); got {count_share}")
    found = Contributions(
        sum=np.zeros(dimension, np.int64) if into is None else into,
        norms=np.zeros(len(asked), np.float64),
        status=np.zeros(len(asked), np.uint8),
    )
    rows = _People(
        offsets=_pointer(people.offsets),
        items=_pointer(people.items),
        weights=_pointer(people.weights),
    )
    out = _Sum(
        clip_norm=clip_norm,
        keep=math.sqrt(1.0 - count_share),
        limit=_STEPS * _STEPS - fit_entry(count_share) ** 2,
        sum=_pointer(found.sum),
        norms=_pointer(found.norms),
        status=_pointer(found.status),
    )
    code = getattr(library or load(), name)(
        *before,
        ctypes.byref(rows),
        ctypes.byref(out),
        *after_sum,
        ctypes.c_void_p(_pointer(asked)),
        ctypes.c_int64(len(asked)),
    )
    if code == -1:
        raise MemoryError("no room for the rows of one person")
    if code != 0:
        raise ValueError("steps, negatives and rank must be at least 1, rank at most 1024")
    return found


def _pointer(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def _check(name: str, array: NDArray[Any], dtype: type[np.generic]) -> None:
    if array.ndim != 1 or array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(f"{name} must be contiguous {np.dtype(dtype).name}[:]")


def _check_asked(people: Rows, asked: NDArray[np.int64], n_items: int) -> None:
    _check("asked", asked, np.int64)
    if len(asked) and not (int(asked.min()) >= 0 and int(asked.max()) < people.people):
        raise ValueError(f"asked names a person that is not among the {people.people}")
    if len(people.items) and not (people.places.start >= 0 and people.places.stop <= n_items):
        raise ValueError(f"a history names an item that is not among the {n_items}")
