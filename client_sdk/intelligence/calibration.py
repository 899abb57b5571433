"""Is 30 % really three times in ten? Measuring a probability, and bending it until it is.

Rules a reader can check line by line:

1. A calibration is fitted on cases that the model has not learned from, and measured on others
   again. Nothing here can see whether that was so: the caller holds out.
2. `fit_platt` fits p = sigmoid(slope * logit + intercept) (Platt 1999) by Newton's method with the
   softened targets and the safeguards of Lin, Lin, Weng (2007). The slope is never below 0: a
   calibration may not turn the order round.
3. With fewer than `MIN_OF_EACH` cases of either kind, nothing is fitted: the identity is given.
4. `reliability` compares in bins of equal width what was predicted with what happened. Its expected
   calibration error (Naeini, Cooper, Hauskrecht 2015) is the mean gap, weighted by cases; it counts
   chance as well, so a small sample looks worse than it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MIN_OF_EACH: Final = 10
"""Cases of each kind that a fit needs."""

MAX_BINS: Final = 100
_ROUNDS: Final = 100
_SMALLEST_STEP: Final = 1e-10
_RIDGE: Final = 1e-12

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PlattScaling:
    """From log odds to a calibrated probability.

    Attributes:
        slope: 0 or more; 1 changes nothing, less says that the model was too sure.
        intercept: What is added to the log odds.

    >>> PlattScaling(slope=0.5).apply(np.array([0.0, 2.0])).round(3).tolist()
    [0.5, 0.731]
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and self.slope >= 0 and math.isfinite(self.intercept)):
            raise ValueError("slope and intercept: expected finite numbers, the slope 0 or more")

    def apply(self, logits: NDArray[Any]) -> FloatArray:
        """Give the calibrated probability of each: float64[n], from 0 to 1."""
        return _sigmoid(self.slope * _vector("logits", logits) + self.intercept)


IDENTITY: Final = PlattScaling()


def fit_platt(logits: NDArray[Any], labels: NDArray[Any]) -> PlattScaling:
    """Fit a calibration on held-out cases.

    Args:
        logits: float[n], the model's log odds.
        labels: float[n], 0 or 1.

    Returns:
        The calibration; `IDENTITY` where there are too few cases of either kind.

    Raises:
        ValueError: another shape, or labels other than 0 and 1.
    """
    z, y = _pair("logits", logits, labels)
    positives = int(y.sum())
    negatives = len(y) - positives
    if min(positives, negatives) < MIN_OF_EACH:
        return IDENTITY
    target = np.where(y == 1.0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, intercept = 0.0, math.log((positives + 1) / (negatives + 1))
    loss = _loss(z, target, slope, intercept)
    for _ in range(_ROUNDS):
        p = _sigmoid(slope * z + intercept)
        error, curve = p - target, p * (1 - p)
        down = np.array([error @ z, error.sum()])
        bend = np.array([[curve @ (z * z), curve @ z], [curve @ z, curve.sum()]])
        step = np.linalg.solve(
            bend + _RIDGE * np.trace(bend) * np.eye(2) + _RIDGE * np.eye(2), down
        )
        size = 1.0
        while size > _SMALLEST_STEP:
            tried = slope - size * step[0], intercept - size * step[1]
            tried_loss = _loss(z, target, *tried)
            if tried_loss <= loss - 1e-4 * size * float(down @ step):
                break
            size /= 2
        else:
            break
        (slope, intercept), loss = tried, tried_loss
        if np.abs(step).max() * size < _SMALLEST_STEP:
            break
    if slope < 0:
        # The order is wrong, so all that can be said is how often it happens.
        return PlattScaling(slope=0.0, intercept=math.log((positives + 1) / (negatives + 1)))
    return PlattScaling(slope=float(slope), intercept=float(intercept))


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """What was predicted and what happened, where the prediction lay in one bin.

    Attributes:
        low: Where the bin begins.
        high: Where it ends; part of the last bin, else of the next.
        cases: How many.
        predicted: Their mean prediction.
        happened: The share of them that happened.
    """

    low: float
    high: float
    cases: int
    predicted: float
    happened: float


@dataclass(frozen=True, kw_only=True)
class ReliabilityTable:
    """How far predictions can be trusted, bin by bin.

    Attributes:
        bins: Those with a case in them, in order.
        cases: How many in all.
        brier: The mean squared gap between prediction and outcome (Brier 1950).
    """

    bins: tuple[ReliabilityBin, ...]
    cases: int
    brier: float

    @property
    def expected_calibration_error(self) -> float:
        """The mean gap between predicted and happened, weighted by cases."""
        gaps = (abs(found.predicted - found.happened) * found.cases for found in self.bins)
        return math.fsum(gaps) / self.cases

    def sentence(self) -> str:
        """Say it in words.

        >>> reliability(np.array([0.2] * 10), np.array([1.0] * 3 + [0.0] * 7)).sentence()
        'Over 10 cases, predictions were off by 10.0 percentage points on average, most of \
it where 20 % was predicted and 30 % happened (10 cases).'
        """
        error = 100 * self.expected_calibration_error
        # One odd case in a bin of its own is not what is worth telling.
        worst = max(self.bins, key=lambda of: abs(of.predicted - of.happened) * of.cases)
        return (
            f"Over {self.cases:,} cases, predictions were off by {error:.1f} percentage points on "
            f"average, most of it where {worst.predicted * 100:.0f} % was predicted and "
            f"{worst.happened * 100:.0f} % happened ({worst.cases:,} cases)."
        )


def reliability(
    probabilities: NDArray[Any], labels: NDArray[Any], *, bins: int = 10
) -> ReliabilityTable:
    """Compare predictions with what happened.

    Args:
        probabilities: float[n], from 0 to 1, n >= 1.
        labels: float[n], 0 or 1.
        bins: Of equal width, 1 to 100.

    Raises:
        ValueError: no case, another shape, or a number out of range.
    """
    p, y = _pair("probabilities", probabilities, labels)
    if not len(p) or p.min() < 0 or p.max() > 1:
        raise ValueError("probabilities: expected at least one, each from 0 to 1; got others")
    if not 1 <= bins <= MAX_BINS:
        raise ValueError(f"bins: expected 1 to {MAX_BINS}; got another number")
    place = np.minimum((p * bins).astype(np.intp), bins - 1)
    cases = np.bincount(place, minlength=bins)
    predicted = np.bincount(place, weights=p, minlength=bins)
    happened = np.bincount(place, weights=y, minlength=bins)
    return ReliabilityTable(
        bins=tuple(
            ReliabilityBin(
                low=at / bins,
                high=(at + 1) / bins,
                cases=int(cases[at]),
                predicted=float(predicted[at] / cases[at]),
                happened=float(happened[at] / cases[at]),
            )
            for at in np.flatnonzero(cases).tolist()
        ),
        cases=len(p),
        brier=float(np.mean((p - y) ** 2)),
    )


def _loss(z: FloatArray, target: FloatArray, slope: float, intercept: float) -> float:
    """Give the cross entropy with soft targets."""
    logits = slope * z + intercept
    return float(np.sum(np.logaddexp(0.0, logits) - target * logits))


def _sigmoid(z: FloatArray) -> FloatArray:
    """Give 1 / (1 + e^-z), written so that nothing overflows."""
    p: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * z))
    return p


def _pair(name: str, values: NDArray[Any], labels: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    x, y = _vector(name, values), _vector("labels", labels)
    if x.shape != y.shape or not np.isin(y, (0.0, 1.0)).all():
        raise ValueError(f"labels: expected a 0 or a 1 for each of the {name}; got others")
    return x, y


def _vector(name: str, values: NDArray[Any]) -> FloatArray:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError(f"{name}: expected float[n], all finite; got others")
    return found
