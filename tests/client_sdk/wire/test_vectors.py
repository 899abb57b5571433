"""Vectors on the wire: codecs, and the isometry of the packed outer product."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from client_sdk.wire import (
    SparseVector,
    WireFormatError,
    decode_vector,
    encode_vector,
    pack_outer_product,
    packed_length,
    unpack_symmetric,
)

FLOATS = st.floats(-1e3, 1e3, width=32)


@given(dense=hnp.arrays(np.float32, st.integers(1, 40), elements=FLOATS | st.just(0.0)))
def test_vector_encoded_and_decoded_is_the_same(dense: np.ndarray) -> None:
    """Whichever encoding is shorter, the same vector comes out."""
    encoding, body = encode_vector(SparseVector.from_dense(dense))
    assert len(body) <= 4 * dense.size
    decoded = decode_vector(encoding=encoding, dimension=dense.size, body=body)
    assert np.array_equal(decoded.to_dense(), dense)


@given(data=st.binary(max_size=64), encoding=st.sampled_from(["dense-f32", "sparse-f32", "x"]))
def test_vector_any_bytes_give_a_vector_or_a_format_error(data: bytes, encoding: str) -> None:
    """Decoding is total, and what it gives has the asked dimension and indices in range."""
    try:
        vector = decode_vector(encoding=encoding, dimension=4, body=data)
    except WireFormatError:
        return
    assert vector.to_dense().shape == (4,)


@pytest.mark.parametrize("indices", [[1, 0], [1, 1], [-1, 0], [0, 4]])
def test_vector_indices_out_of_order_or_range_are_refused(indices: list[int]) -> None:
    """An index counts once, in order, inside the vector."""
    body = np.array(indices, "<i4").tobytes() + bytes(4 * len(indices))
    with pytest.raises(WireFormatError, match="strictly increasing"):
        decode_vector(encoding="sparse-f32", dimension=4, body=body)


def test_vector_of_another_type_is_refused() -> None:
    """The types are part of the promise."""
    with pytest.raises(ValueError, match="int32"):
        SparseVector(dimension=2, indices=np.array([0]), values=np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="one length"):
        SparseVector(dimension=2, indices=np.array([0], np.int32), values=np.zeros(2, np.float32))


@given(
    values=hnp.arrays(np.float32, st.integers(1, 8), elements=st.floats(0.0625, 10, width=32)),
    extra=st.integers(0, 5),
)
def test_packed_outer_product_unpacks_and_keeps_the_norm(values: np.ndarray, extra: int) -> None:
    """Packing is an isometry: norm = ||v||^2, and unpacking gives v v' back."""
    size = values.size + extra
    positions = np.sort(np.random.default_rng(extra).permutation(size)[: values.size])
    packed = pack_outer_product(positions=positions.astype(np.int32), values=values, size=size)
    assert packed.dimension == packed_length(size)
    squared = float(np.sum(values.astype(np.float64) ** 2))
    assert packed.norm() == pytest.approx(squared, rel=1e-6)
    dense = np.zeros(size)
    dense[positions] = values
    matrix = unpack_symmetric(packed.to_dense().astype(np.float64), size)
    assert np.allclose(matrix, np.outer(dense, dense), rtol=1e-5, atol=1e-9)


def test_unpack_of_another_length_is_refused() -> None:
    """The length belongs to the size."""
    with pytest.raises(ValueError, match="expected 6"):
        unpack_symmetric(np.zeros(5), 3)
