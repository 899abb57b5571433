"""What a policy would have earned, from the log of another one: IPS, SNIPS and DR.

A log holds for each decision what was chosen, the chance that it was chosen with (its propensity),
and what it earned. With w = (chance under the target policy) / (propensity) for what was chosen:

| estimator | value                                                  | source                     |
|-----------|--------------------------------------------------------|----------------------------|
| `ips`     | mean of w r                                            | Horvitz, Thompson 1952     |
| `snips`   | sum of w r / sum of w                                  | Swaminathan, Joachims 2015 |
| `dr`      | mean of w (r - q) + what the target earns by a model q | Dudik, Langford, Li 2011   |

Rules a reader can check line by line:

1. A propensity that is missing, zero, below zero or above 1 is a `PropensityError`: without it the
   past says nothing of another policy, and a guess would be believed.
2. Each estimate comes with its standard error: of a mean for `ips` and `dr`, of a ratio (first
   order) for `snips`; and with the effective sample size (sum of w)² / (sum of w²) (Kish 1965).
3. Weights may be clipped (`clip`): less variance for a bias that the interval does not hold. How
   many were clipped is said.
4. Each row of a target is a probability distribution over all actions. Where the logging policy
   never chose what the target would choose, no estimator here can know: that is for the caller.
5. A reward model must not have seen the row that it predicts; `cross_fitted_means` is one that has
   not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
ActionArray = npt.NDArray[np.int64]

RewardModel = Callable[["LoggedDecisions"], FloatArray]
"""From a log to the expected reward of each action for each decision, float64[n, actions]."""


class PropensityError(ValueError):
    """A logged propensity is missing or is none: there is no estimate without it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedDecisions:
    """What one policy did.

    Attributes:
        actions: int[n], what was chosen, from 0; at least 2 decisions.
        rewards: float[n], what it earned; finite.
        propensities: float[n], the chance that it was chosen with, above 0 and at most 1.
        n_actions: How many actions there are.

    Raises:
        PropensityError: a propensity is missing (None or NaN), zero, below zero or above 1.
        ValueError: lengths differ, there are fewer than 2 decisions, an action is not one of
            ``n_actions``, or a reward is not finite.
    """

    actions: ActionArray
    rewards: FloatArray
    propensities: FloatArray
    n_actions: int

    def __post_init__(self) -> None:
        actions = np.asarray(self.actions)
        if actions.ndim != 1 or len(actions) < 2 or actions.dtype.kind not in "iu":
            raise ValueError("actions: expected at least 2 whole numbers in a row; got others")
        if self.n_actions < 1 or actions.min() < 0 or actions.max() >= self.n_actions:
            raise ValueError(f"actions: expected numbers from 0 to {self.n_actions - 1}")
        try:
            rewards = np.asarray(self.rewards, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError("rewards: expected finite numbers; got others") from error
        if rewards.shape != actions.shape or not np.isfinite(rewards).all():
            raise ValueError(f"rewards: expected {len(actions)} finite numbers; got others")
        object.__setattr__(self, "actions", actions.astype(np.int64))
        object.__setattr__(self, "rewards", rewards)
        object.__setattr__(self, "propensities", _propensities(self.propensities, len(actions)))

    def __len__(self) -> int:
        """How many decisions there are."""
        return len(self.actions)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a policy would have earned a decision.

    Attributes:
        value: The estimate.
        standard_error: Of the value.
        effective_size: How many decisions of the target policy the log is worth.
        decisions: How many there are in the log.
        clipped: How many weights were clipped.
    """

    value: float
    standard_error: float
    effective_size: float
    decisions: int
    clipped: int = 0

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Give the normal interval around the value.

        >>> found = Estimate(value=0.5, standard_error=0.1, effective_size=9.0, decisions=20)
        >>> [round(end, 3) for end in found.interval()]
        [0.304, 0.696]
        """
        if not 0 < confidence < 1:
            raise ValueError(f"confidence: expected a number between 0 and 1; got {confidence}")
        reach = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * self.standard_error
        return self.value - reach, self.value + reach


def on_policy(log: LoggedDecisions) -> Estimate:
    """Give what the logging policy itself earned: the truth that an estimate is held against."""
    n = len(log)
    return _mean(log.rewards, np.ones(n), 0)


def ips(log: LoggedDecisions, target: FloatArray, *, clip: float = math.inf) -> Estimate:
    """Estimate by inverse propensity.

    Args:
        log: What another policy did.
        target: float[n, actions], the chances of the policy in question; each row sums to 1.
        clip: The largest weight; above 0.

    Raises:
        ValueError: the target is no row of chances for each decision, or the clip is not above 0.

    >>> log = LoggedDecisions(
    ...     actions=np.array([0, 1, 1, 0]), rewards=np.array([1.0, 0.0, 1.0, 0.0]),
    ...     propensities=np.full(4, 0.5), n_actions=2)
    >>> always_one = np.tile([0.0, 1.0], (4, 1))
    >>> ips(log, always_one).value, snips(log, always_one).value
    (0.5, 0.5)
    """
    weights, clipped = _weights(log, target, clip)
    return _mean(weights * log.rewards, weights, clipped)


def snips(log: LoggedDecisions, target: FloatArray, *, clip: float = math.inf) -> Estimate:
    """Estimate by inverse propensity, divided by the mean weight.

    Args:
        log: As for `ips`.
        target: As for `ips`.
        clip: As for `ips`.

    Raises:
        ValueError: as `ips`; or all weights are 0: the log never did what the target would do.
    """
    weights, clipped = _weights(log, target, clip)
    total = float(weights.sum())
    if total == 0:
        raise ValueError(
            "target: expected a policy that chooses something of what was logged; got none of it; "
            "log with a policy that explores more"
        )
    value = float((weights * log.rewards).sum() / total)
    spread = weights * (log.rewards - value)
    # The ratio's first order, with n - 1 as for a mean: equal weights give a mean's error.
    error = math.sqrt(float((spread**2).sum()) * len(log) / (len(log) - 1)) / total
    return Estimate(
        value=value,
        standard_error=error,
        effective_size=_effective(weights),
        decisions=len(log),
        clipped=clipped,
    )


def dr(
    log: LoggedDecisions, target: FloatArray, model: RewardModel, *, clip: float = math.inf
) -> Estimate:
    """Estimate doubly robustly: right if the propensities or the reward model are.

    Args:
        log: As for `ips`.
        target: As for `ips`.
        model: From the log to float[n, actions], what each action would earn.
        clip: As for `ips`.

    Raises:
        ValueError: as `ips`; or the model gives another shape, or a number that is not finite.
    """
    weights, clipped = _weights(log, target, clip)
    predicted = np.asarray(model(log), np.float64)
    if predicted.shape != target.shape or not np.isfinite(predicted).all():
        raise ValueError(f"model: expected finite numbers of shape {target.shape}; got others")
    chosen = predicted[np.arange(len(log)), log.actions]
    expected = (target * predicted).sum(axis=1)
    return _mean(weights * (log.rewards - chosen) + expected, weights, clipped)


def cross_fitted_means(*, folds: int = 5, prior_weight: float = 1.0) -> RewardModel:
    """Make the plainest reward model: each action's mean reward in the other folds.

    Decision i is in fold ``i % folds`` and is predicted from the other folds, so no row predicts
    itself. An action's mean is drawn to the mean of all as if by ``prior_weight`` more decisions.

    Args:
        folds: 2 or more.
        prior_weight: Above 0.

    >>> log = LoggedDecisions(
    ...     actions=np.array([0, 0, 1, 1]), rewards=np.array([1.0, 1.0, 0.0, 0.0]),
    ...     propensities=np.full(4, 0.5), n_actions=2)
    >>> cross_fitted_means(folds=2)(log)[0].tolist()
    [0.75, 0.25]
    """
    if folds < 2 or not prior_weight > 0:
        raise ValueError("expected 2 or more folds and a prior weight above 0; got others")

    def model(log: LoggedDecisions) -> FloatArray:
        predicted = np.empty((len(log), log.n_actions))
        fold = np.arange(len(log)) % folds
        for number in range(folds):
            others = fold != number
            actions, rewards = log.actions[others], log.rewards[others]
            counts = np.bincount(actions, minlength=log.n_actions)
            sums = np.bincount(actions, weights=rewards, minlength=log.n_actions)
            means = (sums + prior_weight * rewards.mean()) / (counts + prior_weight)
            predicted[~others] = means
        return predicted

    return model


def _propensities(given: object, n: int) -> FloatArray:
    try:
        propensities = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise PropensityError(_refusal("a value that is no number")) from error
    if propensities.shape != (n,):
        raise PropensityError(f"propensities: expected one for each of {n} decisions; got others")
    for name, wrong in (
        ("missing", np.isnan(propensities)),
        ("zero or below", propensities <= 0),
        ("above 1", propensities > 1),
    ):
        if wrong.any():
            raise PropensityError(_refusal(f"{int(wrong.sum())} that are {name}"))
    return propensities


def _refusal(what: str) -> str:
    return (
        f"propensities: expected numbers above 0 and at most 1; got {what}; log the chance that "
        "each action was chosen with when it is chosen: it can't be told afterwards"
    )


def _weights(log: LoggedDecisions, target: FloatArray, clip: float) -> tuple[FloatArray, int]:
    if not clip > 0:
        raise ValueError(f"clip: expected a number above 0; got {clip}")
    if target.shape != (len(log), log.n_actions):
        raise ValueError(f"target: expected chances of shape {(len(log), log.n_actions)}")
    if not (np.all(target >= 0) and np.allclose(target.sum(axis=1), 1.0, rtol=0, atol=1e-6)):
        raise ValueError("target: expected chances of 0 or more that sum to 1 in each row")
    weights = target[np.arange(len(log)), log.actions] / log.propensities
    return np.minimum(weights, clip), int((weights > clip).sum())


def _mean(terms: FloatArray, weights: FloatArray, clipped: int) -> Estimate:
    return Estimate(
        value=float(terms.mean()),
        standard_error=float(terms.std(ddof=1)) / math.sqrt(len(terms)),
        effective_size=_effective(weights),
        decisions=len(terms),
        clipped=clipped,
    )


def _effective(weights: FloatArray) -> float:
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0
