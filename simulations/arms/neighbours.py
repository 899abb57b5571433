"""Item-kNN: items are alike when the same people have them (Deshpande and Karypis 2004).

Similarity is the cosine of two columns of the matrix of ones, damped where few people have both:
``n_ij / (√(n_i n_j) + shrink)`` (as in Ferrari Dacrema, Cremonesi and Jannach 2019, "Are We Really
Making Much Progress?"). Each item keeps its nearest neighbours; a person's score for an item is
the similarity-weighted sum over what they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulations.arms.matrices import Matrix

_BLOCK: Final = 512


@dataclass(frozen=True, kw_only=True)
class NeighbourSettings:
    """How neighbours are chosen; the defaults by ``python -m benchmarks.arms --tune``.

    Attributes:
        neighbours: How many an item keeps, at least 1; ties go to the lower row.
        shrink: Damping, in people, >= 0.
    """

    neighbours: int = 200
    shrink: float = 10.0

    def __post_init__(self) -> None:
        if self.neighbours < 1 or not 0.0 <= self.shrink < np.inf:
            raise ValueError("neighbours must be at least 1 and shrink finite and >= 0")


def similarities(held: Matrix, settings: NeighbourSettings) -> Matrix:
    """Find each item's nearest neighbours.

    Args:
        held: float64[people, items] of ones.
        settings: How.

    Returns:
        csr float64[items, items], row i: what having item i says of the others; an item is not its
        own neighbour, and one that shares nobody with it is none.

    >>> from scipy.sparse import csr_matrix
    >>> held = csr_matrix(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]))
    >>> similarities(held, NeighbourSettings(neighbours=1, shrink=0.0)).toarray().round(3).tolist()
    [[0.0, 1.0, 0.707], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    from scipy.sparse import csr_matrix, vstack

    n_items = held.shape[1]
    roots = np.sqrt(np.asarray(held.sum(axis=0)).ravel())
    kept = min(settings.neighbours, n_items)
    by_item = held.T.tocsr()
    blocks = []
    for first in range(0, n_items, _BLOCK):
        both = np.asarray((by_item[first : first + _BLOCK] @ held).todense())
        rows = np.arange(len(both))
        both[rows, first + rows] = 0.0
        scale = roots[first + rows][:, None] * roots + settings.shrink
        alike = np.divide(both, scale, out=np.zeros_like(both), where=both > 0.0)
        best = np.argsort(-alike, axis=1, kind="stable")[:, :kept]
        nearest = np.zeros_like(alike)
        np.put_along_axis(nearest, best, np.take_along_axis(alike, best, axis=1), axis=1)
        blocks.append(csr_matrix(nearest))
    # Row i of the stack holds the neighbours of i; a score sums over those of whom i is one.
    return vstack(blocks).T.tocsr() if blocks else csr_matrix((0, 0))
