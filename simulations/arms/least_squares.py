"""iALS: matrix factorisation of who had what, by the library ``implicit`` (extra ``peers``, MIT).

Hu, Koren and Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets": every pair is
fitted, ones with a higher weight than zeros, by alternating least squares. One thread, so that a
seed gives the same factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.arms.errors import LibraryMissingError
from simulations.arms.matrices import Matrix


@dataclass(frozen=True, kw_only=True)
class LeastSquaresSettings:
    """How iALS learns; the defaults were chosen by ``python -m benchmarks.arms --tune``.

    Attributes:
        factors: Length of a vector, at least 1.
        regularisation: Ridge penalty on every vector, above 0.
        positive_weight: Weight of a pair that was, beside 1 for one that was not; above 0.
        sweeps: How often both sides are solved, at least 1.
    """

    factors: int = 128
    regularisation: float = 30.0
    positive_weight: float = 4.0
    sweeps: int = 15

    def __post_init__(self) -> None:
        if self.factors < 1 or self.sweeps < 1:
            raise ValueError("factors and sweeps must be at least 1")
        if not (self.regularisation > 0.0 and self.positive_weight > 0.0):
            raise ValueError("regularisation and positive_weight must be above 0")


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """What iALS found.

    Attributes:
        people: float32[people, factors].
        items: float32[items, factors].
    """

    people: NDArray[np.float32]
    items: NDArray[np.float32]


def factorise(held: Matrix, settings: LeastSquaresSettings, *, seed: int) -> Factors:
    """Factorise who had what.

    Args:
        held: float64[people, items] of ones.
        settings: How.
        seed: >= 0, of the first factors.

    Returns:
        Both sides; scores are ``people @ items.T``.

    Raises:
        LibraryMissingError: ``implicit`` is not installed.
    """
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise LibraryMissingError("iALS", library="implicit", extra="peers") from error
    # The library spreads people over threads of its own, and warns of a BLAS that does too.
    with threadpool_limits(limits=1, user_api="blas"):
        model = AlternatingLeastSquares(
            factors=settings.factors,
            regularization=settings.regularisation,
            alpha=settings.positive_weight,
            iterations=settings.sweeps,
            num_threads=1,
            random_state=seed,
        )
        model.fit(held.astype(np.float32), show_progress=False)
    return Factors(people=np.asarray(model.user_factors), items=np.asarray(model.item_factors))
