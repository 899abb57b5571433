"""Every person is in one bin, and the bins are the same everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signals.features import STANDARD, FeatureDefinition, bins_of, histogram

SHARE = FeatureDefinition(
    name="share",
    meaning="A share.",
    sources=(),
    window="ever",
    mode="batch",
    unit="share",
    bins=(0.0, 0.5, 1.0),
)


@pytest.mark.parametrize(
    ("value", "known", "place"),
    [
        (-0.1, True, 0),
        (-np.inf, True, 0),
        (0.0, True, 1),
        (0.49, True, 1),
        (0.5, True, 2),
        (1.0, True, 2),
        (1.01, True, 3),
        (np.inf, True, 3),
        (0.2, False, 4),
        (np.nan, False, 4),
    ],
)
def test_histogram_of_one_value_is_one_in_its_bin(
    value: float,
    known: bool,
    place: int,
) -> None:
    """The table of edge cases: edges, both ends, and unknown."""
    counts = histogram(value, known, SHARE)
    assert counts.tolist() == [int(bin_ == place) for bin_ in range(5)]
    assert bins_of(SHARE) == ("below 0", "0 to 0.5", "0.5 to 1", "above 1", "unknown")


@given(
    people=st.lists(st.tuples(st.floats(-1e3, 1e3), st.booleans()), max_size=50),
    split=st.integers(0, 50),
)
def test_histograms_of_parts_add_up_to_that_of_all(
    people: list[tuple[float, bool]], split: int
) -> None:
    """Which is what makes them a bounded sum; and nobody is lost."""
    values = np.array([value for value, _ in people])
    known = np.array([is_known for _, is_known in people], np.bool_)
    for definition in STANDARD:
        whole = histogram(values, known, definition)
        parts = [histogram(values[part], known[part], definition) for part in _halves(split)]
        assert whole.tolist() == (parts[0] + parts[1]).tolist()
        assert whole.sum() == len(people)
        assert len(whole) == len(bins_of(definition))


def _halves(split: int) -> tuple[slice, slice]:
    return slice(0, split), slice(split, None)


def test_histogram_of_nan_or_of_two_lengths_is_refused() -> None:
    """A feature that is not a number is a bug, not a bin."""
    with pytest.raises(ValueError, match="got NaN"):
        histogram([np.nan], [True], SHARE)
    with pytest.raises(ValueError, match="one length"):
        histogram([0.1, 0.2], [True], SHARE)
