"""Which action works for this person: a linear contextual bandit that learns from every answer.

Each arm has a ridge regression of its own on the features x of the moment ("disjoint" in Li, Chu,
Langford, Schapire 2010, arXiv 1003.0146): A = ridge + prior + sum of x x', b = prior + sum of r x;
the estimate of the reward is x A^-1 b, and its deviation sqrt(x A^-1 x).

Rules a reader can check line by line:

1. One answer costs O(d^2): A^-1 follows by Sherman and Morrison's formula, and is solved anew after
   every `REFRESH_EVERY` answers of an arm, so that rounding cannot gather.
2. Features are cut to an L2 norm of at most 1 and rewards are in [0, 1]: one answer moves A and b
   by at most 1 each.
3. What this device saw and what it was given as a prior are kept apart. `LinearBandit.evidence`
   holds the first only, so a prior never comes back to the server as if it was news.
4. At most ``max_arms`` arms are kept. Where one more is answered, the one that was answered longest
   ago is forgotten. An arm that is not kept stands where every unknown arm stands: at the ridge.
5. Nothing here chooses: `client_sdk.intelligence.exploration` makes a policy of what is believed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.exploration import ArmEstimates
from client_sdk.intelligence.state import LearnedState, LearnedStateError
from client_sdk.wire.bandit import MAX_FEATURES, ArmEvidence, check_arms

MAX_ARMS: Final = 10_000
REFRESH_EVERY: Final = 256

_MODEL: Final = "bandit"
_UNKNOWN: Final = 0
_FIRST_ROWS: Final = 8
# Larger products start BLAS threads, which costs milliseconds where the cores are busy.
_BLOCK_ENTRIES: Final = 2**17

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """A row for each arm that is kept, and row 0 for every other."""

    answers: NDArray[np.int64]
    latest: NDArray[np.int64]
    own_a: FloatArray
    own_b: FloatArray
    inverse: FloatArray
    weights: FloatArray

    @classmethod
    def zeros(cls, size: int, d: int) -> _Table:
        """Make an empty one."""
        return cls(
            answers=np.zeros(size, np.int64),
            latest=np.zeros(size, np.int64),
            own_a=np.zeros((size, d, d)),
            own_b=np.zeros((size, d)),
            inverse=np.zeros((size, d, d)),
            weights=np.zeros((size, d)),
        )

    def grown(self, size: int) -> _Table:
        """Give a larger one that begins with this one's rows."""
        larger = _Table.zeros(size, self.own_b.shape[1])
        for name, column in vars(self).items():
            vars(larger)[name][: len(column)] = column
        return larger


class LinearBandit:
    """What this device learned of each arm; the caller locks.

    Args:
        n_features: d, numbers that describe a moment, 1 to 128. Give a constant one among them.
        ridge: The precision where nothing is known, above 0: how much evidence an arm needs.
        priors: What many devices learned together; None for a start from nothing.
        max_arms: Arms that are kept, 1 to 10,000; those with a prior count.

    Raises:
        ValueError: out of range, or priors of other features or of too many arms.

    >>> bandit = LinearBandit(n_features=2)
    >>> for _ in range(8):
    ...     bandit.update("tea", np.array([1.0, 0.0]), reward=1.0)
    >>> bandit.estimate(["tea", "mug"], np.array([1.0, 0.0])).mean.round(2).tolist()
    [0.89, 0.0]
    """

    def __init__(
        self,
        *,
        n_features: int,
        ridge: float = 1.0,
        priors: ArmEvidence | None = None,
        max_arms: int = 1_000,
    ) -> None:
        if not 1 <= n_features <= MAX_FEATURES or not 1 <= max_arms <= MAX_ARMS:
            raise ValueError(
                f"expected 1 to {MAX_FEATURES} features and 1 to {MAX_ARMS} arms; got others"
            )
        if not (math.isfinite(ridge) and ridge > 0):
            raise ValueError("ridge: expected a finite number above 0; got another")
        if priors is not None and priors.n_features != n_features:
            raise ValueError(f"priors: expected {n_features} features; got {priors.n_features}")
        if priors is not None and len(priors.arms) > max_arms:
            raise ValueError(f"priors: expected at most {max_arms} arms; got {len(priors.arms)}")
        self._d, self._ridge, self._max_arms, self._priors = n_features, ridge, max_arms, priors
        self._prior_row = {} if priors is None else {arm: at for at, arm in enumerate(priors.arms)}
        self._clock = 0
        self._rows: dict[str, int] = {}
        self._table = _Table.zeros(_FIRST_ROWS, n_features)
        self._table.inverse[_UNKNOWN] = np.eye(n_features) / ridge
        for arm in self._prior_row:
            self._row_for(arm)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that are kept, in the order in which they came."""
        return tuple(self._rows)

    def answers(self, arm: str) -> int:
        """Say how many answers of an arm this device has."""
        row = self._rows.get(arm)
        return 0 if row is None else int(self._table.answers[row])

    def estimate(self, arms: Sequence[str], features: NDArray[Any]) -> ArmEstimates:
        """Say what is believed of some arms at a moment.

        Args:
            arms: Ids; n of them.
            features: float[d], the same for all, or float[n, d].

        Returns:
            The expected rewards and how uncertain they are.

        Raises:
            ValueError: features of another shape, or not finite.
        """
        rows = np.array([self._rows.get(arm, _UNKNOWN) for arm in arms], np.intp)
        x = _unit(features)
        if x.shape == (self._d,):
            # Products over all rows are cheaper than to gather their matrices first.
            used, squares = len(self._rows) + 1, np.outer(x, x).ravel()
            flat = self._table.inverse.reshape(-1, self._d**2)
            step = max(_BLOCK_ENTRIES // self._d**2, 1)
            across = [flat[at : min(at + step, used)] @ squares for at in range(0, used, step)]
            mean, variance = (self._table.weights[:used] @ x)[rows], np.concatenate(across)[rows]
        elif x.shape == (len(rows), self._d):
            mean = np.einsum("nd,nd->n", self._table.weights[rows], x)
            toward = np.matmul(self._table.inverse[rows], x[:, :, None])[:, :, 0]
            variance = np.einsum("nd,nd->n", toward, x)
        else:
            raise ValueError(f"features: expected float[{self._d}], for all or for each arm")
        return ArmEstimates(mean=mean, deviation=np.sqrt(np.maximum(variance, 0.0)))

    def update(self, arm: str, features: NDArray[Any], *, reward: float) -> None:
        """Learn from one answer.

        Args:
            arm: What was done.
            features: float[d], the moment in which it was done.
            reward: What came of it, from 0 to 1.

        Raises:
            ValueError: no id, another shape, or a reward out of range.
        """
        check_arms([arm])
        x = _unit(features)
        if x.shape != (self._d,) or not 0 <= reward <= 1:
            raise ValueError(f"expected float[{self._d}] and a reward from 0 to 1; got others")
        row, table = self._row_for(arm), self._table
        self._clock += 1
        table.latest[row] = self._clock
        table.answers[row] += 1
        table.own_a[row] += np.outer(x, x)
        table.own_b[row] += reward * x
        if table.answers[row] % REFRESH_EVERY == 0:
            self._solve(row, arm)
            return
        toward = table.inverse[row] @ x
        table.inverse[row] -= np.outer(toward, toward) / (1.0 + x @ toward)
        table.weights[row] = table.inverse[row] @ self._response(row, arm)

    def evidence(self) -> ArmEvidence:
        """Give what this device saw of each arm that was answered, as a copy: no prior is in it."""
        arms = [arm for arm, row in self._rows.items() if self._table.answers[row]]
        rows = [self._rows[arm] for arm in arms]
        return ArmEvidence(
            arms=tuple(arms),
            precision=self._table.own_a[rows],
            response=self._table.own_b[rows],
        )

    def to_bytes(self) -> bytes:
        """Write what this device saw; the priors are the release's."""
        rows = list(self._rows.values())
        return LearnedState(
            model=_MODEL,
            facts={
                "answers": self._table.answers[rows].tolist(),
                "arms": list(self._rows),
                "clock": self._clock,
                "latest": self._table.latest[rows].tolist(),
            },
            arrays={"a": self._table.own_a[rows], "b": self._table.own_b[rows]},
        ).to_bytes()

    @staticmethod
    def evidence_of(data: bytes) -> ArmEvidence:
        """Read `evidence` from what `to_bytes` wrote.

        Raises:
            LearnedStateError: damaged, or another model's.
        """
        found = LearnedState.from_bytes(data, model=_MODEL).arrays.get("b")
        if found is None or found.ndim != 2 or not 1 <= found.shape[1] <= MAX_FEATURES:
            raise LearnedStateError("expected a response of each arm in the state")
        bandit = LinearBandit.from_bytes(data, n_features=found.shape[1], max_arms=MAX_ARMS)
        return bandit.evidence()

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        *,
        n_features: int,
        ridge: float = 1.0,
        priors: ArmEvidence | None = None,
        max_arms: int = 1_000,
    ) -> LinearBandit:
        """Go on from what `to_bytes` wrote, with the priors of today.

        Raises:
            LearnedStateError: damaged, of other features, or of more arms than are kept.
            ValueError: as the constructor.
        """
        state = LearnedState.from_bytes(data, model=_MODEL)
        bandit = cls(n_features=n_features, ridge=ridge, priors=priors, max_arms=max_arms)
        try:
            arms = [str(arm) for arm in state.facts["arms"]]
            check_arms(arms)
            answers = np.array(state.facts["answers"], np.int64).reshape(len(arms))
            latest = np.array(state.facts["latest"], np.int64).reshape(len(arms))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LearnedStateError("the state's list of arms cannot be read") from error
        if len(arms) > max_arms or (answers < 0).any() or (latest < 0).any():
            raise LearnedStateError(f"expected the state of at most {max_arms} arms; got another")
        a = state.array("a", (len(arms), n_features, n_features))
        b = state.array("b", (len(arms), n_features))
        bandit._clock = state.whole("clock", least=int(latest.max(initial=0)))
        # The arm answered last comes last: where not all fit, those with a prior only make room.
        for at in np.argsort(latest, kind="stable").tolist():
            row = bandit._row_for(arms[at])
            bandit._table.answers[row], bandit._table.latest[row] = answers[at], latest[at]
            bandit._table.own_a[row], bandit._table.own_b[row] = a[at], b[at]
            if not np.array_equal(a[at], a[at].T):
                raise LearnedStateError("expected symmetric matrices in the state; got another")
            try:
                bandit._solve(row, arms[at])
            except np.linalg.LinAlgError as error:
                raise LearnedStateError("expected sums of squares in the state") from error
        return bandit

    def _row_for(self, arm: str) -> int:
        """Give the arm's row; a new arm gets a new one, or that of the arm it replaces."""
        if arm in self._rows:
            return self._rows[arm]
        if len(self._rows) < self._max_arms:
            row = len(self._rows) + 1
            if row >= len(self._table.answers):
                self._table = self._table.grown(min(2 * row, self._max_arms + 1))
        else:
            oldest = min(self._rows, key=lambda kept: int(self._table.latest[self._rows[kept]]))
            row = self._rows.pop(oldest)
        self._rows[arm] = row
        table = self._table
        table.answers[row] = table.latest[row] = 0
        table.own_a[row] = table.own_b[row] = 0.0
        self._solve(row, arm)
        return row

    def _solve(self, row: int, arm: str) -> None:
        """Compute an arm's inverse and weights anew: O(d^3).

        Raises:
            numpy.linalg.LinAlgError: what was seen of it is no sum of x x'.
        """
        precision = self._table.own_a[row] + self._ridge * np.eye(self._d)
        if self._priors is not None and arm in self._prior_row:
            precision += self._priors.precision[self._prior_row[arm]]
        half = np.linalg.inv(np.linalg.cholesky(precision))
        self._table.inverse[row] = half.T @ half
        self._table.weights[row] = self._table.inverse[row] @ self._response(row, arm)

    def _response(self, row: int, arm: str) -> FloatArray:
        """Give b: the prior's and what was seen."""
        own: FloatArray = self._table.own_b[row]
        if self._priors is None or arm not in self._prior_row:
            return own
        total: FloatArray = own + self._priors.response[self._prior_row[arm]]
        return total


def _unit(features: NDArray[Any]) -> FloatArray:
    """Cut each row to a norm of at most 1; the largest entry is taken out against overflow."""
    x = np.asarray(features, np.float64)
    if x.ndim not in (1, 2) or not np.isfinite(x).all():
        raise ValueError("features: expected float[d] or float[n, d], all finite; got others")
    largest = np.maximum(np.abs(x).max(axis=-1, keepdims=True, initial=0.0), 1.0)
    norms = np.linalg.norm(x / largest, axis=-1, keepdims=True) * largest
    return np.asarray(x / np.maximum(norms, 1.0))
