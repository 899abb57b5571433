"""The bounded sum: the exact bound, the table of edge cases, and one release."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from client_sdk.wire import Refusal, SparseVector
from privacy.bounded_sum import MAX_CONTRIBUTIONS, STEPS, BoundedSum, to_lattice
from privacy.discrete import DiscreteLaplaceMechanism
from privacy.errors import (
    AlreadyReleasedError,
    ContributionRejectedError,
    SumOverflowError,
)
from privacy.events import MechanismName, NoiseSource
from privacy.mechanisms import GaussianMechanism, UnsafeNoNoise
from privacy.noise import GaussianNoise

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = hnp.arrays(np.float32, st.integers(1, 40), elements=finite32)
clip_norms = st.floats(1e-6, 1e6)


def sparse(*values: float) -> SparseVector:
    """A vector with these entries."""
    return SparseVector.from_dense(np.array(values, np.float32))


class BrokenMechanism:
    """A mechanism that fails when it should draw."""

    name = MechanismName.GAUSSIAN
    noise_source = NoiseSource.OPERATING_SYSTEM

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:
        """Fail."""
        raise OSError("no entropy")


class TestLattice:
    """`to_lattice`: the bound is exact, the error is one step."""

    @given(values=vectors, clip_norm=clip_norms)
    def test_integer_norm_never_exceeds_the_clip_norm(
        self, values: NDArray[np.float32], clip_norm: float
    ) -> None:
        """In Python's unbounded integers, so that no rounding helps the test."""
        steps = to_lattice(values, clip_norm=clip_norm)
        assert sum(int(step) ** 2 for step in steps) <= STEPS**2

    @given(size=st.integers(1, 400), exponent=st.integers(-20, 20))
    def test_integer_norm_at_the_bound_never_exceeds_it(self, size: int, exponent: int) -> None:
        """Vectors whose norm is the clip norm, up to rounding, are the hard ones."""
        values = np.full(size, 2.0**exponent / math.sqrt(size), np.float32)
        clip_norm = float(np.linalg.norm(values.astype(np.float64)))
        for clip in (clip_norm, np.nextafter(clip_norm, 0), np.nextafter(clip_norm, np.inf)):
            steps = to_lattice(values, clip_norm=float(clip))
            assert sum(int(step) ** 2 for step in steps) <= STEPS**2

    @pytest.mark.parametrize("small", [1.0, 3.0, 11.0])
    def test_norm_that_float64_rounds_down_to_the_bound_is_still_bounded(
        self, small: float
    ) -> None:
        """√(2⁶⁰ + 1) is 2³⁰ in float64: only the check in integers sees that it is too long."""
        values = np.array([2.0**30, small], np.float32)
        assert float(np.linalg.norm(values.astype(np.float64))) == 2.0**30
        steps = to_lattice(values, clip_norm=2.0**30)
        assert sum(int(step) ** 2 for step in steps) <= STEPS**2
        assert steps.tolist() == pytest.approx([STEPS, small], abs=1)

    @given(values=vectors, clip_norm=clip_norms)
    def test_vector_is_clipped_as_a_whole_to_within_one_step(
        self, values: NDArray[np.float32], clip_norm: float
    ) -> None:
        """The direction stays; each entry loses at most a step, toward zero."""
        wide = values.astype(np.float64)
        norm = float(np.linalg.norm(wide))
        exact = wide * min(1.0, clip_norm / norm if norm else 1.0) / clip_norm * STEPS
        steps = to_lattice(values, clip_norm=clip_norm)
        slack = 1.0 + STEPS * 2.0**-36
        assert np.all(np.abs(steps - exact) <= slack)
        assert np.all(np.abs(steps) <= np.abs(exact) + STEPS * 2.0**-36)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_value_that_is_not_finite_is_refused(self, bad: float) -> None:
        """One such value would poison everyone's sum."""
        with pytest.raises(ContributionRejectedError) as caught:
            to_lattice(np.array([0.5, bad], np.float32), clip_norm=1.0)
        assert caught.value.reason is Refusal.NOT_FINITE

    def test_largest_float32_is_clipped(self) -> None:
        """Its square overflows float32, not float64."""
        largest = np.finfo(np.float32).max
        steps = to_lattice(np.full(100, largest, np.float32), clip_norm=1.0)
        assert steps.tolist() == pytest.approx([STEPS / 10] * 100, abs=2)


class TestBoundedSum:
    """The table of edge cases in `privacy.bounded_sum`."""

    def test_sum_adds_what_is_small_and_clips_what_is_large(self) -> None:
        """Norm 0.5 is kept, norm 50 becomes 1."""
        total = BoundedSum(dimension=2, clip_norm=1.0)
        total.add(sparse(0.3, 0.4))
        total.add(sparse(30.0, -40.0))
        assert total.release(UnsafeNoNoise()).tolist() == pytest.approx([0.9, -0.4], abs=1e-7)

    def test_zero_vector_counts_and_changes_nothing(self) -> None:
        """Somebody with nothing to say took part all the same."""
        total = BoundedSum(dimension=3, clip_norm=1.0)
        total.add(sparse(0.0, 0.0, 0.0))
        assert total.count == 1
        assert total.release(UnsafeNoNoise()).tolist() == [0.0, 0.0, 0.0]

    @pytest.mark.parametrize(
        ("vector", "reason"),
        [
            (sparse(1.0, 2.0), Refusal.WRONG_SHAPE),
            (sparse(1.0, 2.0, 3.0, 4.0), Refusal.WRONG_SHAPE),
            (sparse(1.0, math.nan, 3.0), Refusal.NOT_FINITE),
            (sparse(1.0, 2.0, math.inf), Refusal.NOT_FINITE),
        ],
    )
    def test_refused_contribution_leaves_the_sum_as_it_was(
        self, vector: SparseVector, reason: Refusal
    ) -> None:
        """The refusal names its reason, and the next one is added."""
        total = BoundedSum(dimension=3, clip_norm=10.0)
        total.add(sparse(1.0, 0.0, 0.0))
        with pytest.raises(ContributionRejectedError) as caught:
            total.add(vector)
        assert caught.value.reason is reason
        assert total.count == 1
        assert total.release(UnsafeNoNoise()).tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)

    @given(
        rows=hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(5)), elements=finite32),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_order_of_arrival_changes_no_bit(self, rows: NDArray[np.float32], seed: int) -> None:
        """Integers commute; floats would not."""
        order = np.random.default_rng(seed).permutation(len(rows))
        sums = []
        for arrival in (range(len(rows)), order):
            total = BoundedSum(dimension=5, clip_norm=3.0)
            for row in arrival:
                total.add(SparseVector.from_dense(rows[row]))
            sums.append(total.release(UnsafeNoNoise()))
        assert sums[0].tobytes() == sums[1].tobytes()

    @given(rows=hnp.arrays(np.float32, (6, 4), elements=finite32), leave=st.integers(0, 5))
    def test_one_person_more_changes_the_sum_by_at_most_the_clip_norm(
        self, rows: NDArray[np.float32], leave: int
    ) -> None:
        """The sensitivity, measured between neighbours, in integers."""
        with_person, without = (BoundedSum(dimension=4, clip_norm=0.7) for _ in range(2))
        for index, row in enumerate(rows):
            with_person.add(SparseVector.from_dense(row))
            if index != leave:
                without.add(SparseVector.from_dense(row))
        change = with_person._sum - without._sum
        assert sum(int(step) ** 2 for step in change) <= STEPS**2

    def test_sparse_and_dense_contribution_add_the_same(self) -> None:
        """Both ways of adding agree."""
        total = BoundedSum(dimension=4, clip_norm=2.0)
        total.add(sparse(0.0, 0.5, 0.0, 0.25))
        total.add(sparse(0.1, 0.5, 0.1, 0.25))
        expected = [0.1, 1.0, 0.1, 0.5]
        assert total.release(UnsafeNoNoise()).tolist() == pytest.approx(expected, abs=1e-7)

    def test_second_release_is_refused(self) -> None:
        """A retried round never draws again: two draws of one sum average the noise away."""
        total = BoundedSum(dimension=1, clip_norm=1.0)
        total.release(UnsafeNoNoise())
        with pytest.raises(AlreadyReleasedError):
            total.release(UnsafeNoNoise())
        with pytest.raises(AlreadyReleasedError):
            total.add(sparse(1.0))

    def test_release_that_failed_half_way_counts_as_released(self) -> None:
        """Fail closed: nobody knows how far it came."""
        total = BoundedSum(dimension=1, clip_norm=1.0)
        with pytest.raises(OSError, match="no entropy"):
            total.release(BrokenMechanism())
        with pytest.raises(AlreadyReleasedError):
            total.release(UnsafeNoNoise())

    def test_full_sum_takes_nothing_more(self) -> None:
        """Before int64 could overflow: 2^32 contributions of at most 2^30 steps, and the noise."""
        assert MAX_CONTRIBUTIONS * STEPS + 2**53 < 2**63
        total = BoundedSum(dimension=1, clip_norm=1.0)
        total._count = MAX_CONTRIBUTIONS
        with pytest.raises(SumOverflowError):
            total.add(sparse(1.0))

    @pytest.mark.parametrize("clip_norm", [0.0, -1.0, math.nan, math.inf, 1e-200])
    def test_clip_norm_that_bounds_nothing_is_refused(self, clip_norm: float) -> None:
        """A bound is a positive number."""
        with pytest.raises(ValueError, match="clip_norm"):
            BoundedSum(dimension=1, clip_norm=clip_norm)

    def test_empty_dimension_is_refused(self) -> None:
        """A sum has at least one entry."""
        with pytest.raises(ValueError, match="dimension"):
            BoundedSum(dimension=0, clip_norm=1.0)

    def test_released_noise_is_in_units_of_the_clip_norm(self) -> None:
        """σ = 3 at clip norm 0.5 is a deviation of 1.5; half and double are rejected."""
        total = BoundedSum(dimension=50_000, clip_norm=0.5)
        noise = GaussianNoise.from_seed_for_simulation(3)
        released = total.release(GaussianMechanism(noise_multiplier=3.0, noise=noise))
        deviation = float(np.std(released))
        error = 6 * 1.5 / math.sqrt(2 * released.size)
        assert abs(deviation - 1.5) < error
        assert abs(deviation - 0.75) > error
        assert abs(deviation - 3.0) > error


class TestOneEntry:
    """Sums for a mechanism whose sensitivity is in L1."""

    def test_add_of_two_entries_is_refused_and_changes_nothing(self) -> None:
        """However short the vector is."""
        total = BoundedSum(dimension=3, clip_norm=1.0, one_entry=True)
        total.add(SparseVector.from_dense(np.array([0.0, 7.0, 0.0], np.float32)))
        total.add(SparseVector.from_dense(np.zeros(3, np.float32)))
        with pytest.raises(ContributionRejectedError) as caught:
            total.add(SparseVector.from_dense(np.array([0.1, 0.0, 0.1], np.float32)))
        assert caught.value.reason is Refusal.WRONG_SHAPE
        assert total.count == 2
        assert total.release(UnsafeNoNoise()).tolist() == [0.0, 1.0, 0.0]

    def test_release_by_laplace_needs_one_entry_a_person(self) -> None:
        """Fails closed: the sum is still there for a mechanism that fits."""
        laplace = DiscreteLaplaceMechanism(noise_multiplier=1e-9)
        total = BoundedSum(dimension=2, clip_norm=1.0)
        total.add(SparseVector.from_dense(np.array([0.6, 0.6], np.float32)))
        with pytest.raises(ValueError, match="one entry a person"):
            total.release(laplace)
        narrow = BoundedSum(dimension=2, clip_norm=1.0, one_entry=True)
        narrow.add(SparseVector.from_dense(np.array([0.0, 1.0], np.float32)))
        assert narrow.release(laplace) == pytest.approx([0.0, 1.0], abs=1e-6)
