"""EASE: every item explained by all others in one closed form, on raw histories (Steck 2019).

``B = argmin |X - XB|² + λ|B|²`` with a zero diagonal; with ``P = (X'X + λI)⁻¹`` it is
``B = -P / diag(P)``, off the diagonal (Steck, "Embarrassingly Shallow Autoencoders for Sparse
Data", 2019, equation 8). Memory and time are those of one inverse of items × items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulations.arms.matrices import Matrix
from simulations.data.interactions import FloatArray


@dataclass(frozen=True, kw_only=True)
class EaseSettings:
    """How EASE learns; the defaults were chosen by ``python -m simulations.tune``.

    Attributes:
        ridge: λ > 0.
        length_power: Each person's unit-norm row counts ``(length / longest) ** length_power``
            times: 0 gives everybody the same say, 0.5 is the raw matrix of ones; in [0, 1].
    """

    ridge: float = 8.0
    length_power: float = 0.0

    def __post_init__(self) -> None:
        if not (self.ridge > 0.0 and 0.0 <= self.length_power <= 1.0):
            raise ValueError("ridge must be above 0 and length_power in [0, 1]")


def ease_weights(rows: Matrix, settings: EaseSettings) -> FloatArray:
    """Learn what each item says of each other.

    Args:
        rows: float64[people, items], unit-norm rows.
        settings: How.

    Returns:
        float64[items, items], B; the diagonal is 0. Scores are ``rows @ B``.
    """
    lengths = np.diff(rows.indptr).astype(np.float64)
    say = (lengths / max(1.0, lengths.max(initial=0.0))) ** (2.0 * settings.length_power)
    gram = np.asarray((rows.T @ rows.multiply(say[:, None])).todense())
    inverse = np.linalg.inv(gram + settings.ridge * np.eye(rows.shape[1]))
    weights: FloatArray = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights
