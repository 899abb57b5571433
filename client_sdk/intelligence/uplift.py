"""Who needs the offer: how much more likely something becomes by it, case by case.

One ridge regression of the outcome on ``[1, x, (t - e), (t - e) x]``, where t says whether the
case was treated and e how likely that was (Tian, Alizadeh, Gentles, Tibshirani 2014; the linear
case of the R-learner of Nie, Wager 2021). The first half learns what happens anyway, the second
half what the treatment changes.

Rules a reader can check line by line:

1. Only logged chances make it causal: e is the propensity with which the treatment was drawn, in
   (0, 1). Where the treatment went to those who would have bought anyway and e does not say so,
   the estimate is wrong, and nothing here can see it.
2. What is kept are sums: their size does not depend on how many cases there were, and two devices'
   sums add up.
3. The penalty counts in cases, on standardised features, and leaves both constants free: with few
   cases the estimate is the average effect for everybody.
4. With fewer than `MIN_OF_EACH` treated or untreated cases there is no estimate.
5. A segment is a name for an estimate, not a fact about a person: nobody is seen both with and
   without the treatment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.state import LearnedState, LearnedStateError

MIN_OF_EACH: Final = 30
MAX_FEATURES: Final = 256
_MODEL: Final = "uplift"
_SURE: Final = 0.5
_CONSTANT: Final = 1e-12

FloatArray = NDArray[np.float64]


class Segment(StrEnum):
    """The four kinds of case, as estimated."""

    PERSUADABLE = "persuadable"
    SURE_THING = "sure thing"
    LOST_CAUSE = "lost cause"
    SLEEPING_DOG = "sleeping dog"


@dataclass(frozen=True, kw_only=True, eq=False)
class UpliftEstimates:
    """What is estimated for some cases.

    Attributes:
        untreated: float64[n], the outcome without the treatment, from 0 to 1.
        uplift: float64[n], what the treatment adds; negative where it does harm. Who needs it most
            has the most.
        deviation: float64[n], how uncertain the uplift is, as far as the model's form is right.
        cases: How many cases it was learned from.
    """

    untreated: FloatArray
    uplift: FloatArray
    deviation: FloatArray
    cases: int

    def segments(self, *, margin: float = 0.02) -> tuple[Segment, ...]:
        """Name each case's estimate.

        Args:
            margin: Least uplift that counts as one, 0 or more; as much below 0 is harm.

        Raises:
            ValueError: another margin.
        """
        if not (math.isfinite(margin) and margin >= 0):
            raise ValueError("margin: expected a finite number of 0 or more; got another")
        return tuple(
            Segment.PERSUADABLE
            if uplift >= margin and uplift > 0
            else Segment.SLEEPING_DOG
            if uplift <= -margin and uplift < 0
            else Segment.SURE_THING
            if untreated >= _SURE
            else Segment.LOST_CAUSE
            for untreated, uplift in zip(self.untreated.tolist(), self.uplift.tolist(), strict=True)
        )

    def sentence(self, place: int) -> str:
        """Say one case's estimate in words."""
        without, uplift = 100 * self.untreated[place], 100 * self.uplift[place]
        return (
            f"By estimate from {self.cases:,} cases it happens {without:.0f} times in 100 anyway, "
            f"and an offer changes that by {uplift:+.1f} ± {100 * self.deviation[place]:.1f}."
        )


class UpliftModel:
    """What was seen with and without one treatment; the caller locks.

    Args:
        n_features: d, numbers that describe a case, 1 to 256.
        ridge: Penalty on how what happens anyway varies with x, in cases, above 0.
        effect_ridge: Penalty on how the effect varies with x, in cases, above 0.

    Raises:
        ValueError: out of range.
    """

    def __init__(
        self, *, n_features: int, ridge: float = 10.0, effect_ridge: float = 100.0
    ) -> None:
        if not 1 <= n_features <= MAX_FEATURES:
            raise ValueError(f"n_features: expected 1 to {MAX_FEATURES}; got another number")
        if not (math.isfinite(ridge) and ridge > 0):
            raise ValueError("ridge: expected a finite number above 0; got another")
        if not (math.isfinite(effect_ridge) and effect_ridge > 0):
            raise ValueError("effect_ridge: expected a finite number above 0; got another")
        self._d, self._ridge, self._effect_ridge = n_features, ridge, effect_ridge
        side = 2 * (n_features + 1)
        self._gram: FloatArray = np.zeros((side, side))
        self._product: FloatArray = np.zeros(side)
        # Of the squared outcomes and of the propensities.
        self._sums: FloatArray = np.zeros(2)
        self._treated = self._untreated = 0

    @property
    def cases(self) -> tuple[int, int]:
        """How many cases were treated, and how many were not."""
        return self._treated, self._untreated

    def update(
        self,
        features: NDArray[Any],
        *,
        treated: NDArray[Any],
        outcomes: NDArray[Any],
        propensities: NDArray[Any] | float,
    ) -> None:
        """Take in cases.

        Args:
            features: float[n, d], finite.
            treated: bool[n].
            outcomes: float[n], from 0 to 1.
            propensities: float[n] or one for all: how likely the treatment was, in (0, 1).

        Raises:
            ValueError: another shape, or out of range.
        """
        x = self._checked(features)
        t, y = np.asarray(treated), np.asarray(outcomes, np.float64)
        e = np.broadcast_to(np.asarray(propensities, np.float64), y.shape)
        if t.dtype != np.bool_ or t.shape != (len(x),) or y.shape != t.shape:
            raise ValueError("treated and outcomes: expected one for each case; got others")
        if not np.all((y >= 0) & (y <= 1)) or not np.all((e > 0) & (e < 1)):
            raise ValueError("expected outcomes from 0 to 1 and propensities inside (0, 1)")
        moved = (t - e)[:, None]
        known = _with_constant(x)
        design = np.hstack([known, moved * known])
        self._gram = self._gram + design.T @ design
        self._product = self._product + design.T @ y
        self._sums = self._sums + np.array([y @ y, e.sum()])
        self._treated += int(t.sum())
        self._untreated += int((~t).sum())

    def estimate(self, features: NDArray[Any]) -> UpliftEstimates | None:
        """Estimate cases.

        Args:
            features: float[n, d], finite.

        Returns:
            The estimates; None where too few cases were seen (rule 4).

        Raises:
            ValueError: another shape, or not finite.
        """
        known = _with_constant(self._checked(features))
        if min(self._treated, self._untreated) < MIN_OF_EACH:
            return None
        weights, spread = self._solve()
        half = self._d + 1
        uplift = known @ weights[half:]
        # The first half is the outcome at t = e, the mean over the treated and the others.
        untreated = known @ weights[:half] - self._sums[1] / sum(self.cases) * uplift
        variance = np.einsum("nd,de,ne->n", known, spread[half:, half:], known)
        return UpliftEstimates(
            untreated=np.clip(untreated, 0.0, 1.0),
            uplift=uplift,
            deviation=np.sqrt(np.maximum(variance, 0.0)),
            cases=self._treated + self._untreated,
        )

    def merged(self, other: UpliftModel) -> UpliftModel:
        """Give a model of the cases of both, with this one's penalties.

        Raises:
            ValueError: the other has another number of features.
        """
        if other._d != self._d:
            raise ValueError(f"other: expected {self._d} features; got {other._d}")
        both = UpliftModel(n_features=self._d, ridge=self._ridge, effect_ridge=self._effect_ridge)
        both._gram = self._gram + other._gram
        both._product = self._product + other._product
        both._sums = self._sums + other._sums
        both._treated = self._treated + other._treated
        both._untreated = self._untreated + other._untreated
        return both

    def to_bytes(self) -> bytes:
        """Write what was seen."""
        return LearnedState(
            model=_MODEL,
            facts={"treated": self._treated, "untreated": self._untreated},
            arrays={"gram": self._gram, "product": self._product, "sums": self._sums},
        ).to_bytes()

    @classmethod
    def from_bytes(
        cls, data: bytes, *, n_features: int, ridge: float = 10.0, effect_ridge: float = 100.0
    ) -> UpliftModel:
        """Go on from what `to_bytes` wrote.

        Raises:
            LearnedStateError: damaged, or of other features.
            ValueError: as the constructor.
        """
        state = LearnedState.from_bytes(data, model=_MODEL)
        model = cls(n_features=n_features, ridge=ridge, effect_ridge=effect_ridge)
        model._gram = state.array("gram", model._gram.shape)
        model._product = state.array("product", model._product.shape)
        model._sums = state.array("sums", model._sums.shape)
        model._treated, model._untreated = state.whole("treated"), state.whole("untreated")
        cases = model._treated + model._untreated
        if not np.array_equal(model._gram, model._gram.T) or model._gram[0, 0] != cases:
            raise LearnedStateError("expected the sums of the state's cases; got others")
        return model

    def _solve(self) -> tuple[FloatArray, FloatArray]:
        """Give the weights and their covariance: float64[2 d + 2], float64[2 d + 2, 2 d + 2]."""
        half = self._d + 1
        penalty = np.concatenate(
            [
                _penalty(self._gram[:half, :half], self._ridge / self._gram[0, 0]),
                _penalty(self._gram[half:, half:], self._effect_ridge / self._gram[0, 0]),
            ]
        )
        penalised = self._gram + np.diag(penalty)
        # Features may differ in size by orders of magnitude.
        scale = 1.0 / np.sqrt(np.diag(penalised))
        inverse = np.linalg.inv(penalised * np.outer(scale, scale)) * np.outer(scale, scale)
        weights = inverse @ self._product
        left = self._sums[0] - 2 * weights @ self._product + weights @ self._gram @ weights
        variance = max(float(left), 0.0) / max(sum(self.cases) - len(weights), 1)
        return weights, variance * inverse @ self._gram @ inverse

    def _checked(self, features: NDArray[Any]) -> FloatArray:
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or x.shape[1] != self._d or not np.isfinite(x).all():
            raise ValueError(f"features: expected float[n, {self._d}], all finite; got others")
        return x


def _with_constant(x: FloatArray) -> FloatArray:
    return np.hstack([np.ones((len(x), 1)), x])


def _penalty(gram: FloatArray, share: float) -> FloatArray:
    """Give what stands for ``share`` of all cases on standardised features; constants are free."""
    squares, total = np.diag(gram), gram[0, 0]
    around_mean = squares - gram[0] ** 2 / total
    # A feature that never varied says nothing: it counts as if it was in every case.
    varies = around_mean > _CONSTANT * squares
    penalty = np.where(varies, share * around_mean, np.maximum(squares, 1.0))
    penalty[0] = 0.0
    return penalty


@dataclass(frozen=True, kw_only=True, eq=False)
class QiniCurve:
    """How much more happens when only the best-scored share is treated (Radcliffe 2007).

    Attributes:
        shares: float64[m], from 0 to 1, of the cases that are treated, best first.
        gains: float64[m], outcomes that this adds, for each treated case of the experiment; the
            last is the effect of treating everybody.
    """

    shares: FloatArray
    gains: FloatArray

    @property
    def coefficient(self) -> float:
        """The area between the curve and the straight line of random targeting.

        About 0 for random scores, below 0 for scores that have it the wrong way round.
        """
        above = self.gains - self.gains[-1] * self.shares
        return float(np.sum(np.diff(self.shares) * (above[1:] + above[:-1]) / 2.0))

    def sentence(self) -> str:
        """Say in words what the best-scored half brings."""
        half = float(np.interp(0.5, self.shares, self.gains))
        return (
            f"Treating everybody adds {100 * self.gains[-1]:.2f} outcomes for 100 treated; "
            f"the half with the highest scores adds {100 * half:.2f}, "
            f"a random half would add {50 * self.gains[-1]:.2f}."
        )


def qini_curve(scores: NDArray[Any], *, treated: NDArray[Any], outcomes: NDArray[Any]) -> QiniCurve:
    """Measure scores on a randomised experiment that the model has not learned from.

    Args:
        scores: float[n], higher for those who need it more; ties are one step of the curve.
        treated: bool[n], drawn at random, with one chance for all.
        outcomes: float[n], 0 or more.

    Raises:
        ValueError: another shape, not finite, or not at least one treated and one untreated.
    """
    s, t = np.asarray(scores, np.float64), np.asarray(treated)
    y = np.asarray(outcomes, np.float64)
    if t.dtype != np.bool_ or not s.shape == t.shape == y.shape or s.ndim != 1:
        raise ValueError("scores, treated, outcomes: expected one of each a case; got others")
    if not (np.isfinite(s).all() and np.isfinite(y).all()) or not t.any() or t.all():
        raise ValueError("expected finite numbers, and at least one treated and one untreated")
    order = np.argsort(-s, kind="stable")
    s, t, y = s[order], t[order], y[order]
    ends = np.append(np.flatnonzero(s[1:] != s[:-1]), len(s) - 1)
    n_treated, n_untreated = np.cumsum(t)[ends], np.cumsum(~t)[ends]
    from_treated, from_untreated = np.cumsum(y * t)[ends], np.cumsum(y * ~t)[ends]
    # As long as nobody untreated was met, there is nothing to compare with.
    expected = from_untreated * n_treated / np.maximum(n_untreated, 1)
    gains = np.where(n_untreated > 0, from_treated - expected, 0.0) / n_treated[-1]
    return QiniCurve(shares=np.append(0.0, (ends + 1) / len(s)), gains=np.append(0.0, gains))
