"""How good each action would be: the port for models, and what stands in before there is one.

Rules a reader can check line by line:

1. A scorer gives two numbers an action: the expected value, and how much of that is known, 0 to 1.
2. Scores that are not finite, or of another length, or a confidence outside of 0 to 1, are refused
   when made: no decision is made with them.
3. `PriorScorer` knows no person: it is the action's value times how often its kind has worked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.signals.features.columns import FloatArray, IntArray

PRIOR_WORKED: Final = 1.0
PRIOR_SHOWN: Final = 20.0
PRIOR_CONFIDENCE: Final = 0.5
# From half a step beyond the largest float32 on, rounding gives infinity.
_TOO_LARGE: Final = 2.0**128 - 2.0**103


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What a model says of each action.

    Attributes:
        expected: float64[n], finite: the expected value of doing it, in the app's unit.
        confidence: float64[n], 0 to 1: how much of that is known.

    Raises:
        ValueError: not as promised.

    >>> Scores(expected=np.array([0.2]), confidence=np.array([1.5]))
    Traceback (most recent call last):
    ValueError: confidence: expected numbers from 0 to 1; got others
    """

    expected: FloatArray
    confidence: FloatArray

    def __post_init__(self) -> None:
        # Reductions of ufuncs, not methods of arrays: a decision makes two of these, and waits.
        expected = np.asarray(self.expected, np.float64)
        confidence = np.asarray(self.confidence, np.float64)
        object.__setattr__(self, "expected", expected)
        object.__setattr__(self, "confidence", confidence)
        if expected.ndim != 1 or not np.logical_and.reduce(np.isfinite(expected)):
            raise ValueError("expected: expected one finite number an action; got others")
        if confidence.shape != expected.shape:
            raise ValueError("expected and confidence: expected equally many; got others")
        # A number that is none is not within any bounds, so it is refused here too.
        if len(confidence) and not (
            np.minimum.reduce(confidence) >= 0.0 and np.maximum.reduce(confidence) <= 1.0
        ):
            raise ValueError("confidence: expected numbers from 0 to 1; got others")

    def of_rows(self, rows: IntArray) -> Scores:
        """Give the scores of some actions, rounded to float32: so they are used, and logged.

        Raises:
            ValueError: one is too large for a float32.
        """
        # Not checked twice: of what `__post_init__` promised, rounding can break one thing only.
        rounded = object.__new__(Scores)
        expected = self.expected.take(rows)
        if len(rows) and (
            np.maximum.reduce(expected) >= _TOO_LARGE or np.minimum.reduce(expected) <= -_TOO_LARGE
        ):
            raise ValueError("expected: expected finite numbers in float32; got larger ones")
        for name, column in (("expected", expected), ("confidence", self.confidence.take(rows))):
            object.__setattr__(rounded, name, column.astype(np.float32).astype(np.float64))
        return rounded


class Scorer(Protocol):
    """Says how good each action would be for the person now."""

    def score(self, actions: ActionTable, features: FloatArray) -> Scores:
        """Score every action.

        Args:
            actions: The n actions.
            features: float64[F], the person's features (`FeatureVector.values`).

        Returns:
            One score an action, in their order.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """How often actions of a kind were done, and how often one of them worked."""

    shown: int
    worked: int


class PriorScorer:
    """Value times success rate: what can be said before there is a model.

    The rate of a kind is the mean of a Beta posterior: ``(1 + worked) / (20 + shown)``; 5 % where
    nothing is known. The confidence is ``1 - 0.5 * 20 / (20 + shown)``: a half before any evidence,
    nearing 1 with it.

    Args:
        results: Gives how often each kind was shown and worked.

    >>> table = ActionTable([])
    >>> len(PriorScorer().score(table, np.zeros(0)).expected)
    0
    """

    def __init__(self, results: Callable[[], Mapping[str, Results]] = dict) -> None:
        self._results = results

    def score(self, actions: ActionTable, features: FloatArray) -> Scores:  # noqa: ARG002 - it knows no person
        """Score every action; the features are not looked at."""
        rate = np.full(len(actions), PRIOR_WORKED / PRIOR_SHOWN)
        confidence = np.full(len(actions), PRIOR_CONFIDENCE)
        for kind, seen in self._results().items():
            rows = actions.of_kinds((kind,))
            shown = PRIOR_SHOWN + seen.shown
            rate[rows] = (PRIOR_WORKED + seen.worked) / shown
            confidence[rows] = 1.0 - (1.0 - PRIOR_CONFIDENCE) * PRIOR_SHOWN / shown
        return Scores(expected=actions.values * rate, confidence=confidence)
