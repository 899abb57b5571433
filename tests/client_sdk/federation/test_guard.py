"""The outbound guard: one test for each row of its table, and the promise for any vector."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from client_sdk.federation import OutboundGuardError, guard
from client_sdk.wire import ClippingTerms, Layer, SparseVector

# Down to less than any float32: an order may name such a bound, and the guard has to end.
CLIPS = st.floats(1e-6, 10.0) | st.floats(1e-60, 1e-6)


def vector(*values: float) -> SparseVector:
    """A vector with just these entries, zeros too."""
    return SparseVector(
        dimension=len(values),
        indices=np.arange(len(values), dtype=np.int32),
        values=np.array(values, np.float32),
    )


@given(
    values=hnp.arrays(
        np.float32,
        st.integers(1, 50),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    clip_norm=CLIPS,
)
def test_guard_any_finite_vector_norm_is_at_most_clip(values: np.ndarray, clip_norm: float) -> None:
    """The promise: the norm of the float32 entries, in float64, is at most the clip norm."""
    sent = guard(vector(*values.tolist()), dimension=values.size, clip_norm=clip_norm)
    assert sent.values.dtype == np.float32
    assert sent.norm() <= clip_norm


def test_guard_small_unchanged() -> None:
    """What is within the bound is not touched, not even by rounding."""
    small = vector(0.6, -0.8)
    assert guard(small, dimension=2, clip_norm=1.1) is small


def test_guard_large_clipped() -> None:
    """What is above keeps its direction and loses no more than rounding."""
    sent = guard(vector(30.0, 40.0), dimension=2, clip_norm=1.0)
    assert sent.to_dense() == pytest.approx([0.6, 0.8], rel=1e-6)
    assert 1.0 - 1e-6 < sent.norm() <= 1.0


def test_guard_zero_unchanged() -> None:
    """A zero says nothing; neither does a vector without entries."""
    assert guard(vector(0.0, 0.0), dimension=2, clip_norm=1.0).norm() == 0
    empty = SparseVector.from_dense(np.zeros(3, np.float32))
    assert guard(empty, dimension=3, clip_norm=1.0) is empty


def test_guard_huge_clipped() -> None:
    """Entries whose squares no float32 holds are clipped all the same."""
    largest = float(np.finfo(np.float32).max)
    sent = guard(vector(largest, -largest), dimension=2, clip_norm=1.0)
    assert sent.to_dense() == pytest.approx([0.5**0.5, -(0.5**0.5)], rel=1e-6)
    assert sent.norm() <= 1.0


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_guard_not_finite_raises(bad: float) -> None:
    """Infinity and NaN are refused, never repaired."""
    with pytest.raises(OutboundGuardError, match="not finite"):
        guard(vector(0.1, bad), dimension=2, clip_norm=1.0)


def test_guard_dimension_raises() -> None:
    """The order says how long the vector is."""
    with pytest.raises(OutboundGuardError, match="expected 3"):
        guard(vector(0.1), dimension=3, clip_norm=1.0)


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, float("inf"), float("nan")])
def test_guard_clip_norm_raises(clip_norm: float) -> None:
    """Without a bound there is nothing to promise."""
    with pytest.raises(ValueError, match="clip_norm"):
        guard(vector(0.1), dimension=1, clip_norm=clip_norm)


@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=6, max_size=6),
    clip_norm=st.floats(1e-3, 10.0),
)
def test_guard_layers_clipped_each_to_its_share(values: list[float], clip_norm: float) -> None:
    """Each layer keeps its share, the whole the clip norm, and what fits is not touched."""
    clipping = ClippingTerms(
        layers=(
            Layer(entries=1, share=0.48),
            Layer(entries=3, share=0.6),
            Layer(entries=2, share=0.64),
        )
    )
    made = SparseVector.from_dense(np.array(values, np.float32))
    out = guard(made, dimension=6, clip_norm=clip_norm, clipping=clipping)
    dense, before = out.to_dense().astype(np.float64), made.to_dense().astype(np.float64)
    assert out.norm() <= clip_norm
    for start, stop, share in ((0, 1, 0.48), (1, 4, 0.6), (4, 6, 0.64)):
        norm = np.linalg.norm(before[start:stop])
        assert np.linalg.norm(dense[start:stop]) <= share * clip_norm * (1 + 1e-12)
        if norm <= share * clip_norm * (1 - 1e-6):
            assert (dense[start:stop] == before[start:stop]).all()


@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=6),
    clip_norm=st.floats(1e-3, 10.0),
    share=st.floats(0.001, 0.5),
)
def test_guard_counts_clipped_inside_one_norm(
    values: list[float], clip_norm: float, share: float
) -> None:
    """The entry that says whether it fitted costs no norm beyond the clip: one sensitivity."""
    made = SparseVector.from_dense(np.array(values, np.float32))
    out = guard(
        made,
        dimension=len(values) + 1,
        clip_norm=clip_norm,
        clipping=ClippingTerms(count_share=share),
    )
    dense = out.to_dense().astype(np.float64)
    assert out.norm() <= clip_norm
    fitted = made.norm() <= clip_norm
    assert dense[-1] == pytest.approx(np.sqrt(share) * clip_norm * (1 if fitted else -1), rel=1e-5)
    kept = np.sqrt(1 - share) * min(made.norm(), clip_norm)
    assert np.linalg.norm(dense[:-1]) == pytest.approx(kept, rel=1e-5, abs=1e-30)


def test_guard_counting_vector_of_the_whole_length_raises() -> None:
    """The encoder gives the update; the entry that counts is the guard's alone."""
    vector = SparseVector.from_dense(np.ones(3, np.float32))
    with pytest.raises(OutboundGuardError, match="expected 2 entries"):
        guard(vector, dimension=3, clip_norm=1.0, clipping=ClippingTerms(count_share=0.1))
