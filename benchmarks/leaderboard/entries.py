"""Which rows the board has, what each is called, and by which command its settings were chosen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from simulations.arms import ARMS

SAMPLE: Final = "retail-sample"
RETAIL: Final = "retail"
MOVIELENS: Final = "ml-1m"
DATA: Final[Mapping[str, str]] = MappingProxyType(
    {
        SAMPLE: "Online Retail, bundled sample",
        RETAIL: "Online Retail, all identified purchases",
        MOVIELENS: "MovieLens-1M",
    }
)
"""Name to title, in the order of the page."""

OURS: Final = "ours"
OURS_ATTRIBUTES: Final = "ours-attributes"
OURS_ROUNDS: Final = "ours-rounds"
OURS_ROUNDS_ATTRIBUTES: Final = "ours-rounds-attributes"
EPSILONS: Final = (1.0, 2.0, 4.0, 8.0)
TIMES: Final = (1, 10, 100)
PEERS_MANY: Final = (2.0, 8.0)
"""The ε at which arms of others are asked for more people than there are: the board has a limit of
fifteen minutes, and they take most of it."""

_ARMS_TUNE: Final = "python -m benchmarks.arms --tune --arm"
_ON_SAMPLE: Final = "; on the bundled sample, not again on this data"
_ON_ITSELF: Final = {SAMPLE: "", RETAIL: _ON_SAMPLE, MOVIELENS: ""}
_NOTHING: Final = "nothing to choose"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row.

    Attributes:
        data: One of `DATA`.
        arm: One of `simulations.arms.ARMS`, or one of ours.
        epsilon: None where nothing is spent.
        times: The noise is that of so many times the people there are; >= 1.

    Example:
        >>> Entry(data="ml-1m", arm="ours", epsilon=2.0, times=10).name
        'ml-1m/ours/eps2/x10'
    """

    data: str
    arm: str
    epsilon: float | None = None
    times: int = 1

    @property
    def name(self) -> str:
        """How it is asked for."""
        parts = [self.data, self.arm]
        if self.epsilon is not None:
            parts.append(f"eps{self.epsilon:g}")
        if self.times > 1:
            parts.append(f"x{self.times}")
        return "/".join(parts)

    @property
    def chosen(self) -> str:
        """By which command its settings were chosen, on validation, and where that falls short."""
        return chosen_by(self)


def chosen_by(entry: Entry) -> str:
    """Give the command that chose a row's settings."""
    on, noised = _ON_ITSELF[entry.data], entry.epsilon is not None
    if entry.arm in {"popularity", "own-frequency"}:
        return _NOTHING
    if entry.arm == "device-alone":
        return _NOTHING if entry.data == MOVIELENS else f"python -m simulations.tune{on}"
    if entry.arm in ARMS:
        more = ""
        if ARMS[entry.arm].private:
            more = f" (at ε 8, people {'as they are' if entry.times == 1 else 'x 10'})"
        return f"{_ARMS_TUNE} {entry.arm}{more}{on}"
    if entry.data != MOVIELENS:
        return f"python -m simulations.tune{on}"
    if not noised:
        return "python -m benchmarks.movielens_goals --tune"
    unlike = "" if entry.arm == OURS_ATTRIBUTES else "; with attributes, which this row lacks"
    return f"python -m benchmarks.epsilon_quality --tune{unlike}"


def _of(data: str) -> Sequence[Entry]:
    """List one data set's rows in the order of the page."""
    ours = (OURS, OURS_ATTRIBUTES) if data == MOVIELENS else (OURS,)
    clear = [name for name, arm in ARMS.items() if not arm.private]
    private = [*ours, *(name for name, arm in ARMS.items() if arm.private)]
    if data == MOVIELENS:
        ours = (*ours, OURS_ROUNDS, OURS_ROUNDS_ATTRIBUTES)
    return [
        *(Entry(data=data, arm=arm) for arm in (*clear, *ours)),
        *(
            Entry(data=data, arm=arm, epsilon=epsilon, times=times)
            for times, epsilon, arm in itertools.product(TIMES, EPSILONS, private)
            if times == 1 or arm in ours or epsilon in PEERS_MANY
        ),
    ]


ENTRIES: Final[Mapping[str, Entry]] = MappingProxyType(
    {entry.name: entry for data in DATA for entry in _of(data)}
)
"""Name to row, in the order of the page."""


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """What others published for a protocol; nobody here ran it.

    Attributes:
        what: The method.
        hits: Sampled HR@10.
        gains: Sampled NDCG@10.
        source: Where it stands.
    """

    what: str
    hits: float
    gains: float
    source: str


QUOTED: Final[Mapping[str, Sequence[Quoted]]] = MappingProxyType(
    {
        MOVIELENS: (
            Quoted(
                what="iALS, central",
                hits=0.731,
                gains=0.452,
                source="Rendle, Krichene, Zhang, Koren 2021, arXiv 2110.14037",
            ),
            Quoted(
                what="NeuMF of 32 factors, central",
                hits=0.726,
                gains=0.445,
                source="He, Liao, Zhang, Nie, Hu, Chua 2017, arXiv 1708.05031",
            ),
        )
    }
)
"""Data set to published numbers."""
