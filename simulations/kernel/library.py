"""The C file beside this one, compiled once for this machine and called on numpy arrays.

It is compiled on first use with the system's C compiler (``$CC``, else ``cc``) and kept in the
user's cache folder under a name made of the source, the compiler and the machine, so that a change
of any of them compiles anew. Where there is no compiler the error says so, and the engine
``devices`` does the same work without one.

Numba was tried first: its inner loops are 4 to 8 times slower here, because LLVM cannot know that
the rows don't overlap.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SOURCE: Final = Path(__file__).with_name("kernel.c")
_FLAGS: Final = (
    *("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC"),
    # Results must not depend on the instruction set: no fused multiply-add, no reordering.
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
_COMPILE_TIMEOUT_S: Final = 120


class KernelUnavailableError(RuntimeError):
    """There is no compiled kernel, and none could be made; the message says what to do."""


class Status(IntEnum):
    """What became of one person's contribution."""

    DONE = 0
    NOTHING_TO_SEND = 1
    NOT_FINITE = 2


class _People(ctypes.Structure):
    _fields_ = [
        ("offsets", ctypes.c_void_p),
        ("items", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
    ]


class _Sum(ctypes.Structure):
    _fields_ = [
        ("clip_norm", ctypes.c_double),
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
    """People's histories in compressed rows.

    Attributes:
        offsets: int64[people + 1]; person p has entries ``[offsets[p], offsets[p + 1])``.
        items: int32[entries], strictly increasing for each person.
        weights: float32[entries], the unit-norm history vector of each person.
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
    people: Rows, task: ItemTraining, asked: NDArray[np.int64], *, clip_norm: float
) -> Contributions:
    """Give the lattice sum of the asked people's clipped item training updates.

    Args:
        people: Their histories; items below the table's number of rows.
        task: What is asked.
        asked: int64[m], people by number; one that is named twice contributes twice.
        clip_norm: L2 bound of one contribution.

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
        before=(ctypes.byref(described),),
    )


def count_items(
    people: Rows, asked: NDArray[np.int64], *, n_items: int, clip_norm: float
) -> Contributions:
    """Give the lattice sum of the asked people's history vectors: int64[n_items]."""
    _check_asked(people, asked, n_items)
    return _run("homebody_item_counts", people, asked, dimension=n_items, clip_norm=clip_norm)


def item_statistics(
    people: Rows, asked: NDArray[np.int64], *, top_items: int, clip_norm: float
) -> Contributions:
    """Give the lattice sum of the asked people's packed x x'.

    Args:
        people: ``items`` are positions among the top items.
        asked: int64[m], people by number.
        top_items: K.
        clip_norm: L2 bound of one contribution.

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
        after_sum=(ctypes.c_int64(top_items),),
    )


def _run(
    name: str,
    people: Rows,
    asked: NDArray[np.int64],
    *,
    dimension: int,
    clip_norm: float,
    before: tuple[Any, ...] = (),
    after_sum: tuple[Any, ...] = (),
) -> Contributions:
    """Call one function of the library; ctypes lets other Python threads run meanwhile."""
    found = Contributions(
        sum=np.zeros(dimension, np.int64),
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
        sum=_pointer(found.sum),
        norms=_pointer(found.norms),
        status=_pointer(found.status),
    )
    code = getattr(load(), name)(
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


@functools.cache
def load() -> ctypes.CDLL:
    """Return the compiled library, compiling it where this machine has none yet.

    Raises:
        KernelUnavailableError: no compiler, or it failed.
    """
    source = SOURCE.read_bytes()
    compiler = shlex.split(os.environ.get("CC", "cc"))
    found = shutil.which(compiler[0]) if compiler else None
    if found is None:
        raise KernelUnavailableError(
            "the kernel engine needs a C compiler (Debian: apt install gcc; macOS: xcode-select "
            "--install; or set CC); --engine devices does the same without one, more slowly"
        )
    name = hashlib.sha256(
        b"\0".join([source, " ".join([found, *compiler[1:], *_FLAGS]).encode(), _machine()])
    ).hexdigest()[:32]
    folder = _cache_folder()
    library = folder / f"kernel-{name}.so"
    if not library.exists():
        _compile([found, *compiler[1:]], library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        library.unlink(missing_ok=True)
        raise KernelUnavailableError(f"the compiled kernel can't be loaded: {error}") from error


def _compile(compiler: list[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / "kernel.so"
        command = [*compiler, *_FLAGS, str(SOURCE), "-o", str(made), "-lm"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_COMPILE_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KernelUnavailableError(f"{compiler[0]} did not run: {error}") from error
        if done.returncode != 0:
            first = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise KernelUnavailableError(f"{compiler[0]} failed on the kernel: {first}")
        # Another process may be doing the same: both files are right, and the move is atomic.
        made.replace(library)


def _cache_folder() -> Path:
    """Return a folder that only this user can write to, or the code in it could be another's."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "homebody"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError as error:
        raise KernelUnavailableError(f"no folder for the compiled kernel: {error}") from error
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise KernelUnavailableError(
            f"{folder} can be written by others; remove it or set XDG_CACHE_HOME"
        )
    return folder


def _machine() -> bytes:
    """Name what -march=native stands for."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {flags}".encode()


def _pointer(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def _check(name: str, array: NDArray[Any], dtype: type[np.generic]) -> None:
    if array.ndim != 1 or array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(f"{name} must be contiguous {np.dtype(dtype).name}[:]")


def _check_asked(people: Rows, asked: NDArray[np.int64], n_items: int) -> None:
    _check("asked", asked, np.int64)
    if len(asked) and not (int(asked.min()) >= 0 and int(asked.max()) < people.people):
        raise ValueError(f"asked names a person that is not among the {people.people}")
    if len(people.items) and not (
        int(people.items.min()) >= 0 and int(people.items.max()) < n_items
    ):
        raise ValueError(f"a history names an item that is not among the {n_items}")
