"""Bounded exploration: with which probability each allowed action is drawn, and the draw.

Rules a reader can check line by line:

1. The best action keeps at least ``1 - cap``; ties go to the earlier one.
2. The others share ``min(cap, max(epsilon, floor * (n - 1)))``: each of them the floor, or an equal
   part where the cap leaves less, and what is left by a softmax of their scores.
3. The probabilities sum to 1, and one of them is exactly that with which the action was drawn: the
   draw is a hash of the seed, even on [0, 1) in steps of 2**-53. The best action is asked first:
   where it is drawn, as nearly always, the others' probabilities are not even computed.
4. Only allowed actions come here, so nothing that is refused is explored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from client_sdk.signals.features.columns import FloatArray

MAX_CAP: Final = 0.5
_STEPS: Final = 2.0**53
_LEAST_SPREAD: Final = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Exploration:
    """How much may be tried out.

    Attributes:
        epsilon: The share of decisions that try something but the best, 0 to the cap.
        floor: The least probability of each allowed action, as far as the cap has room for it.
        cap: The most that all but the best have together, 0 to 0.5.
        temperature: Of the softmax, 0.01 to 100, in multiples of the spread of the others' scores:
            a large one tries all alike, a small one the second best.

    Raises:
        ValueError: a number is not in its range.
    """

    epsilon: float = 0.0
    floor: float = 0.0
    cap: float = 0.1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.cap <= MAX_CAP:
            raise ValueError(f"cap: expected 0 to {MAX_CAP}; got another number")
        if not 0.0 <= self.epsilon <= self.cap:
            raise ValueError("epsilon: expected 0 to the cap; got another number")
        if not 0.0 <= self.floor <= self.cap:
            raise ValueError("floor: expected 0 to the cap; got another number")
        if not 0.01 <= self.temperature <= 100.0:
            raise ValueError("temperature: expected 0.01 to 100; got another number")

    def in_words(self) -> str:
        """Say it in a sentence."""
        if not max(self.epsilon, self.floor):
            return "Nothing is tried out: the best allowed action is taken."
        return (
            f"About {self.epsilon:.1%} of the decisions try something but the best allowed action, "
            f"and never more than {self.cap:.1%}."
        )


def propensities(expected: FloatArray, exploration: Exploration) -> FloatArray:
    """Give the probability with which each allowed action is drawn.

    Args:
        expected: float64[n], n of at least 1, finite.
        exploration: How much may be tried out.

    Returns:
        float64[n], summing to 1.

    >>> propensities(np.array([1.0, 3.0, 1.0]), Exploration(epsilon=0.1)).tolist()
    [0.05, 0.9, 0.05]
    """
    n, best = len(expected), int(expected.argmax())
    tried = _tried(n, exploration)
    chances = np.zeros(n)
    if tried > 0.0:
        shares = _shares(_without(expected, best), tried, exploration)
        chances[:best], chances[best + 1 :] = shares[:best], shares[best:]
    chances[best] = 1.0 - tried
    return chances


def draw(expected: FloatArray, exploration: Exploration, seed: int) -> tuple[int, float]:
    """Draw a row with the probabilities of `propensities`; the same seed draws the same row.

    Args:
        expected: float64[n], n of at least 1, finite.
        exploration: How much may be tried out.
        seed: 0 to 2**63 - 1.

    Returns:
        The row, and the probability with which it was drawn.

    >>> draw(np.array([1.0, 3.0, 1.0]), Exploration(epsilon=0.1), seed=1)
    (1, 0.9)
    """
    digest = hashlib.blake2b(seed.to_bytes(8, "big"), digest_size=8, person=b"homebody draw")
    even = (int.from_bytes(digest.digest(), "big") >> 11) / _STEPS
    best = int(expected.argmax())
    tried = _tried(len(expected), exploration)
    keeps = 1.0 - tried
    if even < keeps:
        return best, keeps
    shares = _shares(_without(expected, best), tried, exploration)
    place = int(shares.cumsum().searchsorted(even - keeps, side="right"))
    if place >= len(shares):
        # Where the sum falls short by a rounding, the draw beyond it is the last possible row's.
        place = int(np.flatnonzero(shares)[-1])
    return place + (place >= best), float(shares[place])


def _tried(n: int, exploration: Exploration) -> float:
    """What all of n actions but the best have together."""
    if n == 1:
        return 0.0
    return min(exploration.cap, max(exploration.epsilon, exploration.floor * (n - 1)))


def _without(expected: FloatArray, best: int) -> FloatArray:
    return np.concatenate((expected[:best], expected[best + 1 :]))


def _shares(rest: FloatArray, tried: float, exploration: Exploration) -> FloatArray:
    """float64[n - 1]: what each of the others has of what is tried, which is above 0."""
    others = len(rest)
    floor = min(exploration.floor, tried / others)
    # Divided before it is subtracted: two scores may be further apart than a float can say.
    scale = float(np.abs(rest).max()) or 1.0
    scaled = rest / scale
    spread = float(scaled.std())
    # Scores that differ by a rounding are tried alike.
    spread = spread if spread > _LEAST_SPREAD else 1.0
    weights = np.exp((scaled - scaled.max()) / (spread * exploration.temperature))
    shares: FloatArray = floor + max(tried - floor * others, 0.0) * (weights / weights.sum())
    return shares
