"""What devices learn of arms together: one bounded vector each, and the priors made of its sum.

Rules a reader can check line by line:

1. The vector of a device is, arm by arm in the order that the task names, ``[upper triangle of sum
   x x', sum r x]``. Entries off the diagonal count √2, so the vector's L2 norm is that of the whole
   matrices and vectors, and clipping it clips nothing twice.
2. It is scaled as a whole, so clipping changes how much a device says and not what: b and A keep
   their ratio. Its norm is at most the clip norm, exactly: that of its float32 entries, in float64.
3. What it holds does not depend on anybody's prior.
4. `prior_from_sum` is post-processing of a released sum and costs no privacy. Eigenvalues under the
   noise's edge are dropped (Wigner's semicircle: s √(2 d) for packed noise of deviation s), and the
   part of b that lies in their directions with them. What stays counts as at most ``max_weight``
   answers, so that a person's own answers outweigh the crowd in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.vectors import packed_length, unpack_symmetric

MAX_ID_CHARS: Final = 128
_ROUNDING: Final = 1e-9

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmPriors:
    """Where arms start: evidence in the form of A and b, without the ridge.

    Attributes:
        arms: Their ids, each once.
        precision: float64[k, d, d], symmetric, no eigenvalue below 0.
        response: float64[k, d].

    Raises:
        ValueError: another shape, not finite, or no such matrix.
    """

    arms: tuple[str, ...]
    precision: FloatArray
    response: FloatArray

    def __post_init__(self) -> None:
        check_arms(self.arms)
        shape = self.response.shape
        if len(shape) != 2 or shape[0] != len(self.arms) or shape[1] < 1:
            raise ValueError("response: expected float64[k, d] for k arms; got another shape")
        if self.precision.shape != (*shape, shape[1]):
            raise ValueError("precision: expected float64[k, d, d]; got another shape")
        if not (np.isfinite(self.precision).all() and np.isfinite(self.response).all()):
            raise ValueError("precision and response: expected finite numbers; got others")
        if not np.array_equal(self.precision, self.precision.transpose(0, 2, 1)):
            raise ValueError("precision: expected symmetric matrices; got others")
        values = np.linalg.eigvalsh(self.precision)
        if values.size and values.min() < -_ROUNDING * max(values.max(), 1.0):
            raise ValueError("precision: expected no eigenvalue below 0; got one")

    @property
    def n_features(self) -> int:
        """d, the numbers that describe a moment."""
        return int(self.response.shape[1])


def contribution_length(*, n_arms: int, n_features: int) -> int:
    """Say how long the vector of a device is.

    >>> contribution_length(n_arms=2, n_features=3)
    18
    """
    return n_arms * (packed_length(n_features) + n_features)


def pack_contribution(
    precision: FloatArray, response: FloatArray, *, clip_norm: float
) -> NDArray[np.float32]:
    """Pack what one device saw of k arms, and clip it.

    Args:
        precision: float64[k, d, d], symmetric, the sums of x x'.
        response: float64[k, d], the sums of r x.
        clip_norm: Largest L2 norm, finite and above 0.

    Returns:
        float32[k (d (d + 1) / 2 + d)], of norm at most ``clip_norm``.

    Raises:
        ValueError: a clip norm out of range.
    """
    if not (math.isfinite(clip_norm) and clip_norm > 0):
        raise ValueError("clip_norm: expected a finite number above 0; got another")
    rows, columns = np.triu_indices(response.shape[1])
    upper = precision[:, rows, columns] * np.where(rows == columns, 1.0, math.sqrt(2.0))
    vector = np.concatenate([upper, response], axis=1).ravel()
    norm = _norm(vector)
    clipped = (vector * min(1.0, clip_norm / norm) if norm else vector).astype(np.float32)
    # Rounding to float32 may go up; a step takes every entry one float32 closer to zero.
    while _norm(clipped) > clip_norm:
        clipped = np.nextafter(clipped, np.float32(0))
    return clipped


def prior_from_sum(
    total: NDArray[np.float64],
    *,
    arms: Sequence[str],
    n_features: int,
    noise_std: float,
    max_weight: float = 20.0,
) -> ArmPriors:
    """Make priors of the (noisy) sum of contributions.

    Args:
        total: float64[k (d (d + 1) / 2 + d)], finite.
        arms: The k arms, in the order of the task.
        n_features: d.
        noise_std: Deviation of the noise in each entry, 0 or more.
        max_weight: How many answers an arm's prior may count as, above 0.

    Raises:
        ValueError: another length, not finite, or out of range.
    """
    length = contribution_length(n_arms=len(arms), n_features=n_features)
    if n_features < 1 or total.shape != (length,) or not np.isfinite(total).all():
        raise ValueError(f"total: expected {length} finite numbers; got others")
    if not (math.isfinite(noise_std) and noise_std >= 0):
        raise ValueError("noise_std: expected a finite number of 0 or more; got another")
    if not (math.isfinite(max_weight) and max_weight > 0):
        raise ValueError("max_weight: expected a finite number above 0; got another")
    edge = noise_std * math.sqrt(2.0 * n_features)
    precision = np.zeros((len(arms), n_features, n_features))
    response = np.zeros((len(arms), n_features))
    width = packed_length(n_features)
    for at, part in enumerate(total.reshape(len(arms), width + n_features)):
        values, vectors = np.linalg.eigh(unpack_symmetric(part[:width], n_features))
        kept = values > edge
        values, vectors = values[kept], vectors[:, kept]
        weight = float(values.sum())
        if weight == 0.0:
            continue
        share = min(1.0, max_weight / weight)
        matrix = (vectors * (values * share)) @ vectors.T
        precision[at] = (matrix + matrix.T) / 2.0
        response[at] = vectors @ (vectors.T @ part[width:]) * share
    return ArmPriors(arms=tuple(arms), precision=precision, response=response)


def check_arms(arms: Sequence[str]) -> None:
    """Refuse ids that are no ids, or twice the same.

    Raises:
        ValueError: one is not 1 to 128 characters, or is there twice.
    """
    if len(set(arms)) != len(arms):
        raise ValueError("arms: expected each once; got one twice")
    for arm in arms:
        if not isinstance(arm, str) or not 0 < len(arm) <= MAX_ID_CHARS:
            raise ValueError(f"arms: expected ids of 1 to {MAX_ID_CHARS} characters; got another")


def _norm(vector: NDArray[np.floating[Any]]) -> float:
    """Give the L2 norm in float64; the largest entry is taken out, so that nothing overflows."""
    wide = vector.astype(np.float64)
    largest = float(np.abs(wide).max(initial=0.0))
    if not largest:
        return 0.0
    return largest * math.sqrt(float(np.square(wide / largest).sum()))
