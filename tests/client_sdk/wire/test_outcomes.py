"""The layout of experiment outcomes: its bound, and that nothing is lost on the way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.wire.outcomes import (
    MAX_GROUPS,
    MAX_METRICS,
    SPREAD_FACTOR,
    ExperimentOutcome,
    OutcomeLayout,
)

PARTS = st.floats(0.0, 1.0)


@given(
    outcomes=st.lists(PARTS, min_size=1, max_size=MAX_METRICS),
    group=st.integers(0, MAX_GROUPS - 1),
    clip_norm=st.floats(1e-6, 1e6),
)
def test_pack_norm_is_at_most_the_clip_norm(
    outcomes: list[float], group: int, clip_norm: float
) -> None:
    """Whatever the outcomes: the bound holds for the float32 entries, exactly."""
    layout = OutcomeLayout(groups=MAX_GROUPS, metrics=len(outcomes), clip_norm=clip_norm)
    vector = layout.pack(ExperimentOutcome(group=group, outcomes=tuple(outcomes)))
    assert vector.dimension == layout.dimension
    assert vector.norm() <= clip_norm


def test_spread_is_free_up_to_the_largest_factor_and_not_above() -> None:
    """The spread adds nothing to the largest norm; 3.34 instead of 3 would."""
    parts = np.linspace(0.0, 1.0, 100_001)

    def largest(factor: float) -> float:
        return float(np.max(parts**2 + (factor * parts * (1.0 - parts)) ** 2))

    golden = (1.0 + math.sqrt(5.0)) / 2.0
    assert largest(SPREAD_FACTOR) == 1.0
    assert largest(golden**2.5 - 1e-3) == 1.0
    assert largest(golden**2.5 + 1e-2) > 1.0


@given(st.lists(st.tuples(st.integers(0, 2), PARTS, PARTS), min_size=1, max_size=20))
def test_unpack_gives_back_what_was_packed_and_added(
    people: list[tuple[int, float, float]],
) -> None:
    """Counts, sums and spreads by group, to the rounding of float32."""
    layout = OutcomeLayout(groups=3, metrics=2, clip_norm=1.0)
    total = np.zeros(layout.dimension)
    for group, one, other in people:
        total += layout.pack(ExperimentOutcome(group=group, outcomes=(one, other))).to_dense()
    counts, sums, spreads = layout.unpack(total)
    for group in range(3):
        mine = np.array([each[1:] for each in people if each[0] == group]).reshape(-1, 2)
        assert counts[group] == pytest.approx(len(mine), abs=1e-5)
        assert sums[group] == pytest.approx(mine.sum(axis=0), abs=1e-5)
        assert spreads[group] == pytest.approx((mine * (1 - mine)).sum(axis=0), abs=1e-5)


def test_layout_or_outcome_out_of_bounds_is_refused() -> None:
    """Groups, metrics, clip norm and outcomes are bounded."""
    for groups, metrics, clip_norm in (
        (0, 1, 1.0), (33, 1, 1.0), (1, 0, 1.0), (1, 17, 1.0), (1, 1, 0.0), (1, 1, math.nan),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="expected"):
            OutcomeLayout(groups=groups, metrics=metrics, clip_norm=clip_norm)
    for group, outcomes in ((-1, (0.5,)), (0, (1.1,)), (0, (-0.1,)), (0, (math.nan,))):
        with pytest.raises(ValueError, match="expected"):
            ExperimentOutcome(group=group, outcomes=outcomes)


def test_layout_refuses_what_does_not_fit() -> None:
    """Another group, another number of metrics, a sum of another length or with a NaN."""
    layout = OutcomeLayout(groups=2, metrics=1, clip_norm=1.0)
    for outcome in (
        ExperimentOutcome(group=2, outcomes=(0.5,)),
        ExperimentOutcome(group=0, outcomes=(0.5, 0.5)),
    ):
        with pytest.raises(ValueError, match="expected a group below 2"):
            layout.pack(outcome)
    for total in (np.zeros(5), np.full(6, np.nan), np.zeros((2, 3))):
        with pytest.raises(ValueError, match="6 finite numbers"):
            layout.unpack(total)
