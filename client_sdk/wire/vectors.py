"""How a vector travels: dense or sparse float32, and the isometric packing of a symmetric matrix.

What is decoded is what the bound holds for: a receiver checks shape, finiteness and norm of the
decoded vector, never of what the sender meant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.frame import WireFormatError

DENSE: Final = "dense-f32"
SPARSE: Final = "sparse-f32"

_SQRT_2: Final = float(np.sqrt(2.0))


@dataclass(frozen=True, kw_only=True)
class SparseVector:
    """A float32 vector of which only some entries are stored; the others are zero.

    Attributes:
        dimension: Length of the vector.
        indices: int32[m], strictly increasing, in ``[0, dimension)``.
        values: float32[m].
    """

    dimension: int
    indices: NDArray[np.int32]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.indices.dtype != np.int32 or self.values.dtype != np.float32:
            raise ValueError("indices must be int32 and values float32")
        if self.indices.ndim != 1 or self.indices.shape != self.values.shape:
            raise ValueError("indices and values must be one-dimensional and of one length")
        if self.indices.size:
            increasing = bool(np.all(np.diff(self.indices.astype(np.int64)) > 0))
            inside = self.indices[0] >= 0 and int(self.indices[-1]) < self.dimension
            if not (increasing and inside):
                raise ValueError("indices must be strictly increasing and inside the vector")

    @classmethod
    def from_dense(cls, vector: NDArray[np.float32]) -> SparseVector:
        """Keep the non-zero entries of a dense vector (NaN is not zero, so it stays)."""
        indices = np.flatnonzero(vector).astype(np.int32)
        return cls(
            dimension=int(vector.size),
            indices=indices,
            values=np.ascontiguousarray(vector[indices], dtype=np.float32),
        )

    def to_dense(self) -> NDArray[np.float32]:
        """Return float32[dimension]."""
        dense = np.zeros(self.dimension, dtype=np.float32)
        dense[self.indices] = self.values
        return dense

    def norm(self) -> float:
        """L2 norm, computed in float64."""
        squares = np.square(self.values, dtype=np.float64)
        # A sum, not a BLAS dot: starting BLAS threads costs more than these few numbers.
        return math.sqrt(float(squares.sum()))


def encode_vector(vector: SparseVector) -> tuple[str, bytes]:
    """Choose the shorter encoding; return its name and the bytes (little-endian)."""
    if 8 * vector.indices.size < 4 * vector.dimension:
        body = vector.indices.astype("<i4").tobytes() + vector.values.astype("<f4").tobytes()
        return SPARSE, body
    return DENSE, vector.to_dense().astype("<f4").tobytes()


def decode_vector(*, encoding: str, dimension: int, body: bytes) -> SparseVector:
    """Decode what `encode_vector` wrote.

    Args:
        encoding: ``"dense-f32"`` or ``"sparse-f32"``.
        dimension: The length that the receiver expects.
        body: 4 x dimension bytes (dense), or 8 bytes an entry (sparse).

    Raises:
        WireFormatError: unknown encoding, wrong length, or indices that are out of order or range.
    """
    if encoding == DENSE:
        if len(body) != 4 * dimension:
            raise WireFormatError(f"expected {4 * dimension} bytes; got {len(body)}")
        return SparseVector.from_dense(np.frombuffer(body, dtype="<f4").astype(np.float32))
    if encoding == SPARSE:
        if len(body) % 8:
            raise WireFormatError(f"a sparse body has 8 bytes an entry; got {len(body)}")
        half = len(body) // 2
        try:
            return SparseVector(
                dimension=dimension,
                indices=np.frombuffer(body[:half], dtype="<i4").astype(np.int32),
                values=np.frombuffer(body[half:], dtype="<f4").astype(np.float32),
            )
        except ValueError as error:
            raise WireFormatError(str(error)) from error
    raise WireFormatError("unknown vector encoding")


def packed_length(size: int) -> int:
    """Length of a packed symmetric ``size`` x ``size`` matrix.

    >>> packed_length(3)
    6
    """
    return size * (size + 1) // 2


def pack_outer_product(
    *, positions: NDArray[np.int32], values: NDArray[np.float32], size: int
) -> SparseVector:
    """Pack v v' of a sparse vector v so that the L2 norm is that of the whole matrix.

    Row-major upper triangle (the order of ``numpy.triu_indices``); entries off the diagonal are
    multiplied by the square root of 2, so that packed norm = Frobenius norm = ||v||².

    Args:
        positions: int32[m], strictly increasing, in ``[0, size)``.
        values: float32[m], the non-zero entries of v.
        size: Length of v.

    Returns:
        A vector of dimension ``size * (size + 1) / 2`` with ``m * (m + 1) / 2`` entries.

    >>> pack_outer_product(
    ...     positions=np.array([0, 2], np.int32), values=np.array([0.6, 0.8], np.float32), size=3
    ... ).indices.tolist()
    [0, 2, 5]
    """
    upper_i, upper_j = np.triu_indices(positions.size)
    rows = positions[upper_i].astype(np.int64)
    columns = positions[upper_j].astype(np.int64)
    wide = values.astype(np.float64)
    products = wide[upper_i] * wide[upper_j] * np.where(upper_i == upper_j, 1.0, _SQRT_2)
    flat = rows * size - rows * (rows - 1) // 2 + (columns - rows)
    return SparseVector(
        dimension=packed_length(size),
        indices=flat.astype(np.int32),
        values=products.astype(np.float32),
    )


def unpack_symmetric(packed: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Undo the packing of `pack_outer_product` for a (noisy) sum.

    Args:
        packed: float64[size * (size + 1) / 2].
        size: Side of the matrix.

    Returns:
        float64[size, size], symmetric.
    """
    if packed.shape != (packed_length(size),):
        raise ValueError(f"expected {packed_length(size)} entries; got shape {packed.shape}")
    upper = np.triu_indices(size)
    matrix = np.zeros((size, size), dtype=np.float64)
    matrix[upper] = packed
    diagonal = np.diag(matrix).copy()
    matrix = (matrix + matrix.T) / _SQRT_2
    np.fill_diagonal(matrix, diagonal)
    return matrix
