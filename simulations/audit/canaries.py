"""Canaries: people who were made up for the audit, each with a direction of their own.

Their vectors are random and orthonormal, so that no canary's score holds anything of another's:
random orthogonal blocks of `BLOCK` entries, or for a histogram one bucket each. The noise is the
same in all directions, so none hides a leak better than another.

Who is in is decided by independent fair coins, as the one-run bound needs it
(`privacy.audit.one_run_p_value`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import SparseVector

BLOCK: Final = 64
# Entries that nobody touches, where what is published is noise alone: half of them to learn the
# noise from, half to score as directions of people who never were.
NOISE_ENTRIES: Final = 8192

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Canaries:
    """Who could be in, who is, and what each would send.

    The entries are: the canaries' blocks, one block of the bystanders, `NOISE_ENTRIES` of nobody.

    Attributes:
        inside: bool[m], the coins.
        directions: float64[blocks, BLOCK, BLOCK], orthonormal rows, a canary each.
    """

    inside: NDArray[np.bool_]
    directions: Floats

    def __len__(self) -> int:
        return int(self.inside.size)

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return self._touched + BLOCK + NOISE_ENTRIES

    @property
    def _touched(self) -> int:
        return len(self.directions) * BLOCK

    def vector(self, number: int) -> SparseVector:
        """Give a canary's vector, of norm 1 but for the rounding to float32."""
        block, row = divmod(number, BLOCK)
        values = self.directions[block, row]
        at = np.flatnonzero(values)
        return SparseVector(
            dimension=self.dimension,
            indices=(at + block * BLOCK).astype(np.int32),
            values=values[at].astype(np.float32),
        )

    def bystander(self) -> SparseVector:
        """Give the vector of somebody who is in the sum and of no interest."""
        return SparseVector(
            dimension=self.dimension,
            indices=np.array([self._touched], np.int32),
            values=np.ones(1, np.float32),
        )

    def project(self, rounds: Floats) -> Floats:
        """Project what was published on each canary.

        Args:
            rounds: float64[r, dimension].

        Returns:
            float64[r, m].
        """
        blocks = rounds[:, : self._touched].reshape(len(rounds), -1, BLOCK)
        found = np.einsum("rbe,bce->rbc", blocks, self.directions)
        projected: Floats = found.reshape(len(rounds), -1)[:, : len(self)]
        return projected

    def noise(self, rounds: Floats) -> tuple[Floats, Floats]:
        """Give the entries that nobody touched, in two halves: float64[r, NOISE_ENTRIES / 2]."""
        alone = rounds[:, -NOISE_ENTRIES:]
        return alone[:, : NOISE_ENTRIES // 2], alone[:, NOISE_ENTRIES // 2 :]


def plant(count: int, *, rng: np.random.Generator, buckets: bool = False) -> Canaries:
    """Draw canaries and throw their coins.

    Args:
        count: m, at least 1.
        rng: Draws everything.
        buckets: Give each one bucket of a histogram in place of a random direction.

    >>> drawn = plant(100, rng=np.random.default_rng(1))
    >>> len(drawn), drawn.dimension, 30 < int(drawn.inside.sum()) < 70
    (100, 8384, True)
    """
    blocks = -(-count // BLOCK)
    if buckets:
        directions = np.broadcast_to(np.eye(BLOCK), (blocks, BLOCK, BLOCK))
    else:
        # The signs make the factor of a normal matrix uniform on the orthogonal group.
        q, r = np.linalg.qr(rng.standard_normal((blocks, BLOCK, BLOCK)))
        directions = q * np.sign(np.einsum("bii->bi", r))[:, None, :]
    return Canaries(inside=rng.random(count) < 0.5, directions=directions)
