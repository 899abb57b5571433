"""What an order says of its run and of clipping: round trip, bounds, and who can read it."""

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.testing import FakeAggregator
from client_sdk.wire import (
    Catalogue,
    ClippingTerms,
    Layer,
    Order,
    RunTerms,
    TaskKind,
    WireFormatError,
    read_frame,
)
from client_sdk.wire.frame import ORDER_VERSION, FrameKind, write_frame

TERMS = RunTerms(
    run_id="ab" * 16, started_at_s=100, rounds=10, min_separation=3, max_participations=4
)


@given(
    rounds=st.integers(1, 1_000_000),
    separation=st.integers(1, 1_000_000),
    participations=st.integers(1, 1_000_000),
)
def test_run_terms_written_and_read_are_the_same(
    rounds: int, separation: int, participations: int
) -> None:
    """Every run in bounds survives its own values."""
    terms = replace(
        TERMS, rounds=rounds, min_separation=separation, max_participations=participations
    )
    assert RunTerms.from_values(terms.to_values()) == terms


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 0},
        {"min_separation": 0},
        {"max_participations": 0},
        {"max_participations": 1_000_001},
        {"run_id": "ab"},
        {"started_at_s": 1.5},
        {"more": 1},
        {"rounds": True},
    ],
)
def test_run_terms_out_of_shape_are_refused(changes: dict[str, Any]) -> None:
    """A run that says nothing sensible is a format error, not an exception of another kind."""
    with pytest.raises(WireFormatError):
        RunTerms.from_values({**TERMS.to_values(), **changes})


@pytest.mark.parametrize(
    "clipping",
    [
        ClippingTerms(),
        ClippingTerms(count_share=0.25),
        ClippingTerms(layers=(Layer(entries=5, share=0.6), Layer(entries=3, share=0.8))),
    ],
)
def test_order_of_a_run_written_and_read_is_the_same(
    clipping: ClippingTerms, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Run and clipping are signed with the order and the invitation."""
    order = aggregator.order(TaskKind.ITEM_COUNTS, catalogue, round=9, run=TERMS, clipping=clipping)
    for frame in (aggregator.ask(order), aggregator.invite(order)):
        read = Order.from_frame(read_frame(frame))
        assert (read.run, read.round, read.clipping) == (TERMS, 9, clipping)


def test_order_without_a_run_has_none(aggregator: FakeAggregator, catalogue: Catalogue) -> None:
    """A task of one round belongs to no run."""
    order = aggregator.order(TaskKind.ITEM_COUNTS, catalogue)
    assert Order.from_frame(read_frame(aggregator.ask(order))).run is None


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 10, "run": TERMS},
        {"clipping": ClippingTerms(layers=(Layer(entries=7, share=1.0),))},
    ],
)
def test_order_that_contradicts_itself_is_a_mistake(
    changes: dict[str, Any], aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A round after the last, or layers of another vector."""
    with pytest.raises(ValueError, match=r"round 10 of a run of 10|as many entries"):
        aggregator.order(TaskKind.ITEM_COUNTS, catalogue, **changes)


@pytest.mark.parametrize(
    "values",
    [
        {"layers": [[1, 0.5]]},
        {"layers": [[0, 1.0]]},
        {"layers": [[1.5, 1.0]]},
        {"layers": [1.0]},
        {"layers": [[1, 1.0]], "count_share": 0.5},
        {"count_share": 1.0},
        {"count_share": -0.1},
        {"colour": "blue"},
    ],
)
def test_clipping_terms_out_of_shape_are_refused(values: dict[str, Any]) -> None:
    """Shares whose squares do not sum to 1 would break the bound on the whole norm."""
    with pytest.raises(WireFormatError):
        ClippingTerms.from_values(values)


def test_order_of_version_1_is_refused(aggregator: FakeAggregator, catalogue: Catalogue) -> None:
    """It cannot say how often a person may be in its run; receipts of version 1 stay readable."""
    order = aggregator.order(TaskKind.ITEM_COUNTS, catalogue)
    frame = bytearray(aggregator.ask(order))
    assert struct.unpack_from(">2sB", frame)[1] == ORDER_VERSION == 2
    frame[2] = 1
    with pytest.raises(WireFormatError, match="expected version 2 of kind order; got 1"):
        read_frame(bytes(frame))
    receipt = write_frame(FrameKind.RECEIPT, {}, b"", aggregator.key.sign)
    assert receipt[2] == 1
