"""The server half of bandit statistics: from a noisy sum to the priors from which devices start.

Each device sends one vector (`client_sdk.wire.bandit`): of each arm A = sum of x x' and b = sum of
r x, clipped together. The aggregator adds Gaussian noise of one deviation s to each entry of the
sum. Rules a reader can check line by line:

1. Of each arm's A only the eigenvalues above the noise's edge stay (Wigner's semicircle: s √(2 d)
   for packed noise), so A is positive semidefinite; the part of b in the other directions goes with
   them. Where nothing stays, the arm has no prior.
2. What stays is shrunk: a direction with eigenvalue e counts as e² / (e + 4 s²) answers. Its
   estimate b / e has the variance 1 / (4 e) of rewards in [0, 1] (at most 1/4 each) and that of the
   noise in b, (s / e)²: together that of as many answers. A and b shrink alike, so what is believed
   stays and only how firmly changes.
3. An arm counts as at most ``max_weight`` answers, so that a person's own outweigh the crowd's.
4. Nothing but the noisy sum and public settings is used: this is post-processing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.bandit import ArmEvidence, unpack_sum

MAX_WEIGHT: Final = 20.0
_PRECISION_OF_A_REWARD: Final = 4.0


def decode_bandit_priors(
    noisy_sum: NDArray[np.float64],
    *,
    arms: Sequence[str],
    n_features: int,
    noise_std: float,
    max_weight: float = MAX_WEIGHT,
) -> ArmEvidence:
    """Turn the noisy sum of contributions into priors.

    Args:
        noisy_sum: float64[k (d (d + 1) / 2 + d)], the sum over devices (not the mean).
        arms: The k arms, in the order of the task.
        n_features: d.
        noise_std: Deviation s of the noise on each entry of the sum, 0 or more.
        max_weight: How many answers an arm's prior may count as, above 0.

    Raises:
        ValueError: another length, not finite, or out of range.

    >>> seen = ArmEvidence(arms=("tea",), precision=np.array([[[80.0]]]),
    ...                    response=np.array([[40.0]]))
    >>> total = seen.pack(["tea"], clip_norm=1e3).astype(np.float64)
    >>> prior = decode_bandit_priors(total, arms=["tea"], n_features=1, noise_std=1.0)
    >>> prior.precision.ravel().tolist(), prior.response.ravel().tolist()
    ([20.0], [10.0])
    """
    if not (math.isfinite(noise_std) and noise_std >= 0):
        raise ValueError("noise_std: expected a finite number of 0 or more; got another")
    if not (math.isfinite(max_weight) and max_weight > 0):
        raise ValueError("max_weight: expected a finite number above 0; got another")
    total = np.asarray(noisy_sum, np.float64)
    noisy, answered = unpack_sum(total, n_arms=len(arms), n_features=n_features)
    edge = noise_std * math.sqrt(2.0 * n_features)
    precision, response = np.zeros_like(noisy), np.zeros_like(answered)
    for at in range(len(arms)):
        values, vectors = np.linalg.eigh(noisy[at])
        kept = values > edge
        values, vectors = values[kept], vectors[:, kept]
        if not values.size:
            continue
        shrunk = values / (values + _PRECISION_OF_A_REWARD * noise_std**2)
        shrunk *= min(1.0, max_weight / float(values @ shrunk))
        matrix = (vectors * (values * shrunk)) @ vectors.T
        precision[at] = (matrix + matrix.T) / 2.0
        response[at] = vectors @ (shrunk * (vectors.T @ answered[at]))
    return ArmEvidence(arms=tuple(arms), precision=precision, response=response)
