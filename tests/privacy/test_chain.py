"""The ledger's chain: any change of the past is found, and named by its row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.wire import TaskKind
from privacy.chain import (
    EMPTY_HEAD,
    Head,
    LedgerRow,
    RowKind,
    head_of,
    next_row,
    reservations_of,
    verify_chain,
)
from privacy.errors import LedgerTamperedError
from privacy.events import ReleaseEvent

EVENT = ReleaseEvent(
    kind=TaskKind.ITEM_COUNTS,
    task_id="01" * 16,
    population="shop",
    noise_multiplier=9.0,
    clip_norm=1.0,
    dimension=5,
    report_goal=10,
)


def event_body() -> dict[str, Any]:
    """The body of a reservation."""
    return {"event": json.loads(EVENT.to_json()), "budget": {"epsilon": 2.0, "delta": 1e-6}}


def chain(*steps: tuple[RowKind, str]) -> list[LedgerRow]:
    """Rows of these kinds for these reservations."""
    bodies = {
        RowKind.RESERVE: event_body(),
        RowKind.COMMIT: {"accepted": 3},
        RowKind.VOID: {"reason": "quorum"},
        RowKind.NOTE: {"round": 7},
    }
    rows: list[LedgerRow] = []
    for at_ms, (kind, reservation) in enumerate(steps):
        rows.append(
            next_row(rows, kind=kind, reservation=reservation, at_ms=at_ms, body=bodies[kind])
        )
    return rows


# What the code of version 0.1.0 wrote for `EVENT`: a reservation and its commit.
FIRST_VERSION = json.loads(
    (Path(__file__).parent / "oracles" / "ledger_rows_0.1.0.json").read_text(encoding="utf-8")
)

ROWS = chain(
    (RowKind.RESERVE, "a"),
    (RowKind.RESERVE, "b"),
    (RowKind.COMMIT, "a"),
    (RowKind.VOID, "b"),
    (RowKind.RESERVE, "c"),
)


class TestVerifyChain:
    """Rules 1 and 2."""

    def test_empty_chain_is_valid(self) -> None:
        """Its head is the genesis."""
        assert verify_chain([]) == EMPTY_HEAD == head_of([])

    def test_untouched_chain_is_valid_from_each_of_its_heads(self) -> None:
        """Whenever the head was noted."""
        for length in range(len(ROWS) + 1):
            noted = head_of(ROWS[:length])
            assert verify_chain(ROWS, noted=noted) == head_of(ROWS)

    @given(
        index=st.integers(0, len(ROWS) - 1),
        change=st.sampled_from(
            [
                {"kind": "void"},
                {"reservation": "z"},
                {"at_ms": 99},
                {"body": "{}"},
                {"previous": "0" * 64},
                {"hash": "0" * 64},
                {"seq": 77},
            ]
        ),
    )
    def test_changed_row_is_named(self, index: int, change: dict[str, Any]) -> None:
        """Each field of each row."""
        rows = list(ROWS)
        rows[index] = replace(rows[index], **change)
        if rows[index] == ROWS[index]:
            return
        with pytest.raises(LedgerTamperedError) as caught:
            verify_chain(rows)
        assert caught.value.row == index + 1

    @given(index=st.integers(0, len(ROWS) - 1))
    def test_rehashed_row_is_found_at_the_next_one(self, index: int) -> None:
        """A forger who computes hashes must rewrite everything after."""
        forged = replace(ROWS[index], at_ms=99)
        rows = [*ROWS[:index], replace(forged, hash=forged.computed_hash()), *ROWS[index + 1 :]]
        noted = head_of(ROWS)
        with pytest.raises(LedgerTamperedError) as caught:
            verify_chain(rows, noted=noted)
        assert caught.value.row == min(index + 2, len(ROWS))

    @given(index=st.integers(0, len(ROWS) - 2))
    def test_removed_or_swapped_row_is_named(self, index: int) -> None:
        """A gap, or an order that never was."""
        with pytest.raises(LedgerTamperedError) as caught:
            verify_chain([*ROWS[:index], *ROWS[index + 1 :]])
        assert caught.value.row == index + 1
        swapped = list(ROWS)
        swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
        with pytest.raises(LedgerTamperedError):
            verify_chain(swapped)

    def test_cut_off_tail_is_noticed_against_a_noted_head(self) -> None:
        """Without one a shorter chain is valid: that is why the registry notes heads."""
        assert verify_chain(ROWS[:3]).seq == 3
        with pytest.raises(LedgerTamperedError):
            verify_chain(ROWS[:3], noted=head_of(ROWS))
        with pytest.raises(LedgerTamperedError):
            verify_chain(ROWS, noted=Head(seq=2, hash="0" * 64))


class TestReservations:
    """Rules 3 and 4."""

    def test_reservation_counts_until_it_is_voided(self) -> None:
        """Committed and open ones count."""
        found = {each.id: each for each in reservations_of(ROWS)}
        assert {name: each.counts for name, each in found.items()} == {
            "a": True,
            "b": False,
            "c": True,
        }
        assert (found["a"].accepted, found["a"].row, found["a"].event) == (3, 1, EVENT)
        assert found["c"].accepted is None

    def test_notes_are_kept_in_order_and_change_nothing(self) -> None:
        """Before and after the commit; the state is that of the settling row."""
        rows = chain(
            (RowKind.RESERVE, "a"),
            (RowKind.NOTE, "a"),
            (RowKind.COMMIT, "a"),
            (RowKind.NOTE, "a"),
        )
        (found,) = reservations_of(rows)
        assert found.notes == ({"round": 7}, {"round": 7})
        assert (found.state, found.accepted, found.supplements) == (RowKind.COMMIT, 3, None)

    def test_supplement_names_what_it_supplements(self) -> None:
        """An auditor can tell a second price from a second release."""
        body = {**event_body(), "supplements": "a"}
        rows = chain((RowKind.RESERVE, "a"))
        rows.append(next_row(rows, kind=RowKind.RESERVE, reservation="b", at_ms=9, body=body))
        assert [each.supplements for each in reservations_of(rows)] == [None, "a"]

    def test_chain_written_by_the_first_version_still_reads(self) -> None:
        """Bytes of version 0.1.0, with its event of version 1: same hashes, same meaning."""
        rows = [LedgerRow(**values) for values in FIRST_VERSION]
        assert verify_chain(rows).seq == 2
        (found,) = reservations_of(rows)
        assert (found.state, found.accepted, found.notes) == (RowKind.COMMIT, 3, ())
        assert (found.event.noise_multiplier, found.event.population) == (9.0, "shop")
        assert (found.event.window, found.event.factorisation) == ("all time", None)

    @pytest.mark.parametrize(
        "steps",
        [
            [(RowKind.NOTE, "a")],
            [(RowKind.RESERVE, "a"), (RowKind.VOID, "a"), (RowKind.NOTE, "a")],
            [(RowKind.COMMIT, "a")],
            [(RowKind.VOID, "a")],
            [(RowKind.RESERVE, "a"), (RowKind.RESERVE, "a")],
            [(RowKind.RESERVE, "a"), (RowKind.COMMIT, "a"), (RowKind.VOID, "a")],
            [(RowKind.RESERVE, "a"), (RowKind.VOID, "a"), (RowKind.COMMIT, "a")],
        ],
    )
    def test_history_that_cannot_have_been_is_tampering(
        self, steps: list[tuple[RowKind, str]]
    ) -> None:
        """However well it is hashed."""
        rows = chain(*steps)
        verify_chain(rows)
        with pytest.raises(LedgerTamperedError) as caught:
            reservations_of(rows)
        assert caught.value.row == len(steps)

    @pytest.mark.parametrize("body", [{}, {"event": {}}, {"event": 3}])
    def test_body_that_is_no_event_is_tampering(self, body: dict[str, Any]) -> None:
        """An event that cannot be priced must not be skipped."""
        row = next_row([], kind=RowKind.RESERVE, reservation="a", at_ms=0, body=body)
        with pytest.raises(LedgerTamperedError):
            reservations_of([row])
