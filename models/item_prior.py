"""What a public catalogue says before anybody is asked: a prior for noisy item statistics.

Items of one genre, one brand or one year tend to be liked by the same people. That is public, costs
no privacy, and says in which directions a noisy Gram matrix may be believed. Rules a reader can
check line by line:

1. The prior covariance of an item factor is D (1 1' c + A A' + I) D: what all items share, what
   attributes A share, and each item's own; D holds the released counts to a small power. It is
   scaled to a mean diagonal of 1.
2. The estimate is the minimiser, over positive semi-definite M, of |G - M|^2 / 2 + t tr(S^-1 M):
   the trace norm in the prior's metric (Abernethy, Bach, Evgeniou, Vert 2009). In closed form it is
   the positive part of G - t S^-1, one eigendecomposition. t follows the noise: without noise it
   is 0 and the estimate is the positive part of G.
3. To that, the attributes' own A A' is added with a weight, as if a few people more had liked by
   attribute alone (Jeunen, Van Balen, Goethals 2020, "collective EASE").
4. Items of which no statistics were asked get the factors that the prior expects, given the
   others': the mean of a Gaussian process (Rasmussen, Williams 2006, equation 2.23).
5. Public attributes, released counts and the noisy sum are all that is used: post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ItemPrior", "PriorSettings", "strength_of"]

_LOWEST_STRENGTH = 0.01


@dataclass(frozen=True, kw_only=True)
class PriorSettings:
    """How far attributes are believed.

    The defaults were chosen on validation, see ``benchmarks/epsilon_quality.py``.

    Attributes:
        penalty_edges: t of rule 2, in noise edges, >= 0.
        common: c of rule 1, the part that all items share, >= 0.
        own: what is added to the own part in the penalty, > 0: it bounds the penalty.
        popularity_power: power of the counts in D, in [0, 1].
        added: the weight of rule 3, in mean eigenvalues, >= 0.
        outside: how much of the expected factors an item without statistics gets, in [0, 1].
    """

    penalty_edges: float = 0.4
    common: float = 1.0
    own: float = 0.05
    popularity_power: float = 0.25
    added: float = 0.3
    outside: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what can't be a setting."""
        if not (self.penalty_edges >= 0 and self.common >= 0 and self.added >= 0):
            raise ValueError("penalty_edges, common and added must be >= 0")
        if not self.own > 0:
            raise ValueError(f"own must be > 0, got {self.own}")
        if not (0 <= self.popularity_power <= 1 and 0 <= self.outside <= 1):
            raise ValueError("popularity_power and outside must be in [0, 1]")


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemPrior:
    """The attributes of every item of a catalogue.

    Attributes:
        attributes: float64[n_items, m], public; a row's squared norm says how much of an item its
            attributes are, beside 1 for what is its own. One unit-norm row each is a good start.
        settings: how far they are believed.

    Raises:
        ValueError: when the attributes are not a finite matrix.

    Example:
        >>> prior = ItemPrior(attributes=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        >>> expected = prior.expected(np.array([[1.0], [-1.0]]), np.array([0, 2]), np.ones(3))
        >>> [round(float(v), 2) for v in expected[:, 0]]
        [0.25, 0.25, -0.25]
    """

    attributes: NDArray[np.float64]
    settings: PriorSettings = PriorSettings()

    def __post_init__(self) -> None:
        """Check the matrix once."""
        attributes = np.asarray(self.attributes, np.float64)
        if attributes.ndim != 2 or not np.all(np.isfinite(attributes)):
            raise ValueError(
                f"attributes must be a finite float64[n_items, m], got shape {attributes.shape}"
            )
        object.__setattr__(self, "attributes", attributes)

    @property
    def n_items(self) -> int:
        """The size of the catalogue."""
        return len(self.attributes)

    def clean(
        self,
        gram: NDArray[np.float64],
        rows: NDArray[np.int32],
        strength: NDArray[np.float64],
        edge: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Estimate the Gram matrix below the noise; rules 2 and 3.

        Args:
            gram: float64[K, K], the unpacked noisy sum.
            rows: int32[K], the items that it covers.
            strength: float64[n_items] > 0, from `strength_of`.
            edge: the noise edge of ``gram``, >= 0.

        Returns:
            Its positive eigenvalues float64[m], descending, and eigenvectors float64[K, m].
        """
        chosen, size = self.settings, self._sizes(strength)[rows]
        if edge > 0 and chosen.penalty_edges > 0:
            covariance = self._shared(rows, rows)
            covariance[np.diag_indices_from(covariance)] += 1.0
            covariance *= size[:, None] * size
            covariance *= len(rows) / np.trace(covariance)
            covariance[np.diag_indices_from(covariance)] += chosen.own
            gram = gram - chosen.penalty_edges * edge * np.linalg.inv(covariance)
            values, vectors = _positive_part(gram)
            gram = (vectors * values) @ vectors.T
        if chosen.added > 0 and len(rows):
            alike = self.attributes[rows] * (size / size.mean())[:, None]
            gram = gram + chosen.added * np.trace(gram) / len(rows) * (alike @ alike.T)
        return _positive_part(gram)

    def expected(
        self,
        factors: NDArray[np.float64],
        rows: NDArray[np.int32],
        strength: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Give the factors that the prior expects of every item, given some items'; rule 4.

        Args:
            factors: float64[K, r] of the items ``rows``.
            rows: int32[K].
            strength: float64[n_items] > 0.

        Returns:
            float64[n_items, r], times ``outside``. Rows that were given are smoothed, too.
        """
        if not len(rows):
            return np.zeros((self.n_items, factors.shape[1]))
        size = self._sizes(strength)
        among = self._shared(rows, rows)
        among[np.diag_indices_from(among)] += 1.0
        weights = np.linalg.solve(among, factors / size[rows, None])
        everything = np.arange(self.n_items, dtype=np.int32)
        found: NDArray[np.float64] = self._shared(everything, rows) @ weights
        found *= self.settings.outside * size[:, None]
        return found

    def _shared(self, rows: NDArray[np.int32], columns: NDArray[np.int32]) -> NDArray[np.float64]:
        """Give c + A A' between two lists of items, a new matrix."""
        shared: NDArray[np.float64] = self.attributes[rows] @ self.attributes[columns].T
        shared += self.settings.common
        return shared

    def _sizes(self, strength: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the diagonal of D."""
        if strength.shape != (self.n_items,):
            raise ValueError(f"strength must be float64[{self.n_items}], got {strength.shape}")
        size: NDArray[np.float64] = strength**self.settings.popularity_power
        return size


def strength_of(noisy_counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each item's share of the largest count, at least 1 %: what noise hides isn't nothing.

    Example:
        >>> strength_of(np.array([50.0, -3.0, 25.0])).tolist()
        [1.0, 0.01, 0.5]
    """
    top = float(noisy_counts.max(initial=0.0))
    if top <= 0:
        return np.ones(len(noisy_counts))
    strength: NDArray[np.float64] = np.maximum(noisy_counts / top, _LOWEST_STRENGTH)
    return strength


def _positive_part(
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the positive eigenvalues, descending, and their eigenvectors."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    values, vectors = values[::-1], vectors[:, ::-1]
    # Rounding leaves eigenvalues of a singular matrix near, not at, zero.
    kept = int(np.count_nonzero(values > 1e-10 * max(float(values.max(initial=0.0)), 0.0)))
    return values[:kept], vectors[:, :kept]
