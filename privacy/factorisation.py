"""How the noise of many rounds hangs together: prefix sums A = B·C, and what one person can move.

A run of n rounds releases prefix sums of the rounds' clipped sums. With A = B·C, the Gaussian
mechanism on C·x (x: one row a round) costs one release of sensitivity ``sensitivity()``, whatever
is computed from it: the running sum A·x + B·z, and the single rounds (Denisov et al. 2022, arXiv
2202.08312, theorem 2.1: also where a round depends on the rounds before).

Guarantee: none by itself; `Factorisation.sensitivity` is the largest ‖C·(x - x')‖ in units of one
clip norm, over all patterns of at most ``max_participations`` rounds of one person that lie at
least ``min_separation`` apart. Noise of deviation ``noise_multiplier * sensitivity`` then has
exactly the curve of `privacy.gaussian`.

Neighbouring relation: add or remove one person with all their rounds (zero-out).

``min_separation`` is the difference of round indices, as in jax-privacy (1: every round; in
tensorflow-privacy the number is one less).

| name | strategy C | sensitivity under (b, k) |
|---|---|---|
| independent-rounds | identity | √k |
| tree, tree-honaker | one row for each complete dyadic node | the worst pattern (`privacy.tree`) |
| banded-toeplitz | c₀ = 1, c₁, …, as given | ‖Σ_{j<k} shift(c, j·b)‖ |
| blt | c₀ = 1, c_t = Σ ωᵢ θᵢ^{t-1} | ‖Σ_{j<k} shift(c, j·b)‖ |

Sources: Kalinin and Lampert 2024, arXiv 2405.13763, theorem 2 (the formula); Dvijotham et al. 2024,
arXiv 2404.16706 (blt); Kairouz et al. 2021, arXiv 2103.00039 (trees).

Edge cases:

| input | outcome |
|---|---|
| more participations than fit into the rounds | counted as ⌈n/b⌉ |
| a column that rises or is negative | `ValueError`: the formula would be too small |
| decays outside (0, 1), weights below 0 or with a sum above 1 | `ValueError` |
| numbers that belong to another name | `ValueError` |
| the column of a tree | `ValueError`: a tree has no Toeplitz strategy |

Test: tests/privacy/test_factorisation.py (all patterns of small cases, jax-privacy's numbers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from privacy import tree

MAX_ROUNDS: Final = 2**16
MAX_BUFFERS: Final = 8
_MAX_DENSE_ROUNDS: Final = 4096


class FactorisationName(StrEnum):
    """How the noise of rounds hangs together."""

    INDEPENDENT_ROUNDS = "independent-rounds"
    TREE = "tree"
    TREE_HONAKER = "tree-honaker"
    BANDED_TOEPLITZ = "banded-toeplitz"
    BLT = "blt"


_TREES: Final = (FactorisationName.TREE, FactorisationName.TREE_HONAKER)


@dataclass(frozen=True, kw_only=True)
class Factorisation:
    """One strategy for a run of rounds, and the participation that it was made for.

    Attributes:
        name: The strategy.
        rounds: n, from 1 to `MAX_ROUNDS`.
        min_separation: b, smallest difference of the indices of two rounds of one person.
        max_participations: k, most rounds of one person in the run.
        coefficients: c₀ = 1, c₁, … of banded-toeplitz; empty for the others.
        decays: θ of blt, each in (0, 1), at most `MAX_BUFFERS`; empty for the others.
        weights: ω of blt, each at least 0, in sum at most 1; empty for the others.

    Raises:
        ValueError: numbers that are no such strategy.

    >>> blt = Factorisation(name=FactorisationName.BLT, rounds=500, min_separation=50,
    ...     max_participations=10, decays=(0.96370, 0.34897), weights=(0.34366, 0.17547))
    >>> round(blt.sensitivity(), 3), round(blt.prefix_rmse(), 2)
    (5.967, 11.5)
    >>> Factorisation.from_values(blt.to_values()) == blt
    True
    """

    name: FactorisationName
    rounds: int
    min_separation: int
    max_participations: int
    coefficients: tuple[float, ...] = ()
    decays: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rounds", "min_separation", "max_participations"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")
        if self.rounds > MAX_ROUNDS:
            raise ValueError(f"rounds must be at most {MAX_ROUNDS}; got {self.rounds}")
        for name in ("coefficients", "decays", "weights"):
            values = getattr(self, name)
            if type(values) is not tuple or not all(_is_finite(value) for value in values):
                raise ValueError(f"{name} must be a tuple of finite numbers; got {values!r}")
        if (self.name is FactorisationName.BANDED_TOEPLITZ) != bool(self.coefficients):
            raise ValueError("coefficients belong to banded-toeplitz, which needs them")
        if (self.name is FactorisationName.BLT) != bool(self.decays or self.weights):
            raise ValueError("decays and weights belong to blt, which needs them")
        _check_bands(self.coefficients, rounds=self.rounds)
        _check_buffers(self.decays, self.weights)

    @property
    def participations(self) -> int:
        """The most rounds of one person that fit into the run: min(k, ⌈n/b⌉)."""
        return min(self.max_participations, -(-self.rounds // self.min_separation))

    def strategy_column(self) -> NDArray[np.float64]:
        """Return c₀, …, c_{n-1}: the first column of the Toeplitz strategy C.

        Raises:
            ValueError: a tree has none; see `strategy_matrix`.

        >>> Factorisation(name=FactorisationName.BANDED_TOEPLITZ, rounds=4, min_separation=2,
        ...     max_participations=2, coefficients=(1.0, 0.5)).strategy_column().tolist()
        [1.0, 0.5, 0.0, 0.0]
        """
        if self.name in _TREES:
            raise ValueError("a tree has no Toeplitz strategy; use strategy_matrix")
        column = np.zeros(self.rounds)
        column[0] = 1.0
        column[: len(self.coefficients)] = self.coefficients
        ages = np.arange(self.rounds - 1)
        for decay, weight in zip(self.decays, self.weights, strict=True):
            column[1:] += weight * decay**ages
        return column

    def inverse_column(self) -> NDArray[np.float64]:
        """Return the first column of C⁻¹, float64[n]: what one unit of white noise becomes.

        Raises:
            ValueError: a tree has none.
        """
        if self.name in _TREES:
            raise ValueError("the strategy of a tree has no inverse")
        inverse = np.zeros(self.rounds)
        inverse[0] = 1.0
        if self.name is FactorisationName.BLT:
            buffers = [1.0] * len(self.decays)
            for t in range(1, self.rounds):
                x = -sum(w * s for w, s in zip(self.weights, buffers, strict=True))
                buffers = [d * s + x for d, s in zip(self.decays, buffers, strict=True)]
                inverse[t] = x
        elif self.name is FactorisationName.BANDED_TOEPLITZ:
            newest_last = np.array(self.coefficients[:0:-1])
            padded = np.concatenate([np.zeros(newest_last.size), inverse])
            for t in range(1, self.rounds):
                padded[newest_last.size + t] = -(newest_last @ padded[t : t + newest_last.size])
            inverse = padded[newest_last.size :]
        return inverse

    def strategy_matrix(self) -> NDArray[np.float64]:
        """Return C in full, float64[m, n]: n rows, or one for each complete node of a tree.

        For audits and tests; rounds are at most 4096.

        Raises:
            ValueError: too many rounds for a dense matrix.
        """
        if self.rounds > _MAX_DENSE_ROUNDS:
            raise ValueError(f"a dense strategy has at most {_MAX_DENSE_ROUNDS} rounds")
        if self.name in _TREES:
            return tree.node_matrix(self.rounds)
        column = self.strategy_column()
        lag = np.subtract.outer(np.arange(self.rounds), np.arange(self.rounds))
        return np.where(lag >= 0, column[np.maximum(lag, 0)], 0.0)

    def sensitivity(self) -> float:
        """Return the largest ‖C·(x - x')‖₂ of one person, in clip norms; derived on every call.

        >>> round(Factorisation(name=FactorisationName.INDEPENDENT_ROUNDS, rounds=500,
        ...     min_separation=50, max_participations=10).sensitivity(), 3)
        3.162
        """
        if self.name is FactorisationName.INDEPENDENT_ROUNDS:
            return math.sqrt(self.participations)
        if self.name in _TREES:
            return math.sqrt(
                tree.squared_sensitivity(
                    rounds=self.rounds,
                    min_separation=self.min_separation,
                    max_participations=self.participations,
                )
            )
        column = self.strategy_column()
        moved = column.copy()
        for turn in range(1, self.participations):
            shift = turn * self.min_separation
            moved[shift:] += column[: self.rounds - shift]
        return math.sqrt(float(np.square(moved).sum()))

    def prefix_errors(self) -> NDArray[np.float64]:
        """Return the variance of each prefix sum's noise for white noise of variance 1: float64[n].

        The noise on the sum of the rounds 0, …, t has the variance
        ``prefix_errors()[t] * (noise_multiplier * sensitivity() * clip_norm)²``.
        """
        if self.name in _TREES:
            return tree.prefix_errors(
                self.rounds, honaker=self.name is FactorisationName.TREE_HONAKER
            )
        return np.cumsum(np.square(np.cumsum(self.inverse_column())))

    def prefix_rmse(self) -> float:
        """Return the root mean squared error of the prefix sums at ρ = ½, in clip norms.

        ``sensitivity() * √mean(prefix_errors())``: what two strategies are compared by.
        """
        return self.sensitivity() * math.sqrt(float(self.prefix_errors().mean()))

    def to_values(self) -> dict[str, Any]:
        """Return what canonical JSON holds: names, whole numbers, lists of numbers."""
        values = asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        } | {"name": self.name.value}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Factorisation:
        """Read what `to_values` returned.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type, or no such strategy.
        """
        if not isinstance(values, Mapping) or set(values) != {field.name for field in fields(cls)}:
            raise ValueError("expected exactly the fields of a factorisation")
        lists = {name: values[name] for name in ("coefficients", "decays", "weights")}
        if not all(isinstance(value, list) for value in lists.values()):
            raise ValueError("coefficients, decays and weights must be lists")
        return cls(
            **{
                **values,
                "name": FactorisationName(values["name"]),
                **{name: tuple(value) for name, value in lists.items()},
            }
        )


def _is_finite(value: object) -> bool:
    return type(value) in (float, int) and math.isfinite(value)  # type: ignore[arg-type]


def _check_bands(coefficients: tuple[float, ...], *, rounds: int) -> None:
    if not coefficients:
        return
    if coefficients[0] != 1.0 or len(coefficients) > rounds:
        raise ValueError("coefficients start with 1 and are at most as many as rounds")
    falls = all(a >= b for a, b in pairwise(coefficients))
    if not falls or coefficients[-1] < 0.0:
        raise ValueError("coefficients must not rise and must not be negative")


def _check_buffers(decays: tuple[float, ...], weights: tuple[float, ...]) -> None:
    if len(decays) != len(weights) or len(decays) > MAX_BUFFERS:
        raise ValueError(f"decays and weights are equally many, at most {MAX_BUFFERS}")
    if not all(0.0 < decay < 1.0 for decay in decays):
        raise ValueError(f"decays must lie strictly between 0 and 1; got {decays}")
    if not all(weight >= 0.0 for weight in weights) or math.fsum(weights) > 1.0:
        raise ValueError(f"weights must be at least 0 and at most 1 in sum; got {weights}")
