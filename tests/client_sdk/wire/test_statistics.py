"""Surveys: one bounded vector, whatever a person did and however many questions there are."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client_sdk.signals.features import FeatureDefinition, bins_of, histogram
from client_sdk.wire import WireFormatError
from client_sdk.wire.statistics import Binning, Measure, MeasureForm, Question, Survey, spreads_of

EDGES = (0.0, 1.0, 5.0)
BINS = Binning(feature="a", edges=EDGES)
SURVEY = Survey(
    name="basics",
    questions=(
        Question(name="cells", by=BINS),
        Question(name="mean", measures=(Measure(feature="b", low=10.0, high=20.0),)),
        Question(
            name="share by a",
            by=BINS,
            measures=(Measure(feature="b", low=0.0, high=15.0, form=MeasureForm.SHARE),),
        ),
        Question(name="answered"),
    ),
)

NUMBERS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
SURVEYS = st.builds(
    lambda edges, spans, questions, form: Survey(
        name="s",
        questions=tuple(
            Question(
                name=f"q{number}",
                by=Binning(feature="a", edges=tuple(sorted(edges))) if number % 2 else None,
                measures=tuple(
                    Measure(feature="b", low=low, high=low + span, form=form)
                    for low, span in spans[: number % 4]
                ),
            )
            for number in range(questions)
        ),
    ),
    st.sets(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 1e6)), max_size=3),
    st.integers(1, 12),
    st.sampled_from(MeasureForm),
)


@given(survey=SURVEYS, a=NUMBERS, b=NUMBERS, clip_norm=st.floats(1e-3, 10.0))
@example(survey=SURVEY, a=1.0, b=16.18, clip_norm=1.0)
@settings(max_examples=200, deadline=None)
def test_pack_any_person_keeps_the_clip_norm(
    survey: Survey, a: float | None, b: float | None, clip_norm: float
) -> None:
    """The whole vector, over all questions, is bounded: that is the sensitivity of the sum."""
    vector = survey.pack({"a": a, "b": b}, clip_norm=clip_norm)
    assert vector.dimension == survey.dimension
    assert np.isfinite(vector.values).all()
    assert vector.norm() <= clip_norm
    if survey.one_entry:
        assert vector.indices.size <= 1


def test_pack_uses_the_whole_clip_norm_where_a_person_says_all() -> None:
    """The bound is not idle: a person with full measures fills it."""
    vector = SURVEY.pack({"a": 0.5, "b": 10.0}, clip_norm=2.0)
    assert vector.norm() > 0.85 * 2.0
    assert SURVEY.pack({"a": 0.5, "b": 20.0}, clip_norm=2.0).norm() > 0.9 * 2.0


def test_pack_more_questions_give_less_of_each() -> None:
    """Asking more never gets more out of a person."""
    one = Survey(name="one", questions=(Question(name="cells", by=BINS),))
    alone = one.pack({"a": 0.5}, clip_norm=1.0).to_dense()[1]
    together = SURVEY.pack({"a": 0.5}, clip_norm=1.0).to_dense()[1]
    assert alone == 1.0
    assert together == pytest.approx(0.5)


def test_unpack_sum_of_people_gives_counts_sums_and_spreads_back() -> None:
    """Three people by hand."""
    people: list[dict[str, float | None]] = [
        {"a": 0.5, "b": 12.0},
        {"a": 0.7, "b": 30.0},
        {"a": None, "b": None},
    ]
    total = np.sum([SURVEY.pack(who, clip_norm=1.0).to_dense() for who in people], axis=0)
    blocks = SURVEY.unpack(total.astype(np.float64), clip_norm=1.0)
    assert blocks["cells"][:, 0] == pytest.approx([0, 2, 0, 0, 1], abs=1e-6)
    assert blocks["mean"][0, :2] == pytest.approx([2.0, 0.2 + 1.0], abs=1e-6)
    assert spreads_of(blocks["mean"])[0] == pytest.approx([0.16], abs=1e-6)
    assert blocks["share by a"][:, 0] == pytest.approx([0, 2, 0, 0, 1], abs=1e-6)
    assert blocks["share by a"][:, 1] == pytest.approx([0, 1, 0, 0, 0], abs=1e-6)
    assert blocks["answered"].tolist() == [[pytest.approx(3.0, abs=1e-6)]]


@given(
    value=st.one_of(st.none(), st.floats(-2, 8), st.sampled_from(EDGES)),
    edges=st.sets(st.floats(-2, 8), min_size=2, max_size=8),
)
def test_cells_are_those_of_the_features_histogram(value: float | None, edges: set[float]) -> None:
    """One rule of bins in the whole house, by an oracle that was there before."""
    bins = Binning(feature="a", edges=tuple(sorted(edges)))
    definition = FeatureDefinition(
        name="a", meaning="A.", sources=(), window="now", mode="batch", unit="", bins=bins.edges
    )
    counts = histogram(0.0 if value is None else value, value is not None, definition)
    assert np.flatnonzero(counts).tolist() == [bins.cell_of(value)]
    assert bins.names() == bins_of(definition)


def test_survey_bytes_read_back_equal() -> None:
    """What is signed is what is answered."""
    assert Survey.from_bytes(SURVEY.to_bytes()) == SURVEY


@given(st.binary(max_size=200))
def test_survey_any_bytes_are_refused_or_sound(data: bytes) -> None:
    """Reading is total."""
    try:
        Survey.from_bytes(data)
    except WireFormatError:
        return
    raise AssertionError("random bytes are no survey")


def broken(**changes: Any) -> bytes:
    """Give the survey's bytes with a field changed."""
    values = json.loads(SURVEY.to_bytes())
    values.update(changes)
    return json.dumps(values).encode()


def measuring(**changes: Any) -> bytes:
    """Give a survey's bytes with a field of its measure changed."""
    measure = {"feature": "a", "low": 0.0, "high": 1.0, "form": "mean", **changes}
    return broken(questions=[{"name": "a", "by": {}, "measures": [measure]}])


@pytest.mark.parametrize(
    "data",
    [
        broken(version=2),
        broken(name=""),
        broken(extra=1),
        broken(questions=[]),
        broken(questions=[3]),
        broken(questions=[{"name": "a", "by": {}, "measures": []}] * 2),
        broken(questions=[{"name": "a", "by": {"feature": "a", "edges": []}, "measures": []}]),
        broken(questions=[{"name": "a", "by": {"feature": "a", "edges": [2, 1]}, "measures": []}]),
        broken(
            questions=[{"name": "a", "by": {"feature": "a", "edges": [10**400]}, "measures": []}]
        ),
        broken(questions=[{"name": "a", "by": {"feature": "a", "edges": ["1"]}, "measures": []}]),
        measuring(high=math.nan),
        measuring(high=0.0),
        measuring(form="median"),
        measuring(high=True),
        b"[" * 5000,
    ],
)
def test_survey_that_is_none_is_refused(data: bytes) -> None:
    """A device checks the payload as strictly as the rest of an order."""
    with pytest.raises(WireFormatError):
        Survey.from_bytes(data)


def test_unpack_of_what_does_not_fit_is_refused() -> None:
    """A sum belongs to its survey."""
    for total in (np.ones(3), np.full(SURVEY.dimension, math.nan)):
        with pytest.raises(ValueError, match="finite numbers"):
            SURVEY.unpack(total, clip_norm=1.0)


def test_question_of_more_cells_than_measures_allow_is_refused() -> None:
    """A rate in 300 segments is noise."""
    many = Binning(feature="a", edges=tuple(map(float, range(40))))
    with pytest.raises(ValueError, match="cells beside measures"):
        Question(name="q", by=many, measures=(Measure(feature="b", low=0.0, high=1.0),))
