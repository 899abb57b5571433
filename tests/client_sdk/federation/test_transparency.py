"""The transparency log in plain words."""

import pytest

from client_sdk.federation import TransparencyEntry
from client_sdk.federation.transparency import _REASONS, _TASKS
from client_sdk.wire import Refusal, TaskKind

PROMISE = {"epsilon": 2.0, "delta": 1e-6, "adjacency": "add or remove one device"}


def an_entry(**changes: object) -> TransparencyEntry:
    """A contribution to item statistics."""
    fields: dict[str, object] = {
        "time_s": 1_800_000_000.0,
        "sent": "contribution",
        "bytes_sent": 1_062,
        "task_id": "ab" * 16,
        "task": "item-statistics",
        "purpose": "train",
        "norm": 1.0,
        "clip_norm": 1.0,
        "entries": 3,
        "promise": PROMISE,
        **changes,
    }
    return TransparencyEntry(**fields)  # type: ignore[arg-type]


def test_entry_written_and_read_is_the_same() -> None:
    """An entry survives its record."""
    assert TransparencyEntry.from_json(an_entry().to_record().value) == an_entry()


def test_entry_of_a_contribution_says_what_and_under_which_promise() -> None:
    """A person can read what left, how much of it, and what was promised."""
    words = an_entry().sentence()
    assert words.startswith("2027-01-15 08:00 UTC: sent one bounded summary of your history")
    for part in ("which items go together", "1062 bytes", "ε = 2.0", "δ = 1e-06", "one device"):
        assert part in words


def test_entry_without_a_promise_says_so() -> None:
    """Silence about the guarantee is said, not hidden."""
    assert "No privacy guarantee was stated" in an_entry(promise={}).sentence()


@pytest.mark.parametrize("sent", ["acceptance", "refusal", "unverified"])
def test_entry_of_anything_else_says_that_no_history_left(sent: str) -> None:
    """Only a contribution holds something of the history."""
    words = an_entry(sent=sent, reason="no-consent", norm=None).sentence()
    assert "Nothing about your history was sent" in words


def test_words_are_there_for_every_task_and_every_refusal_of_a_device() -> None:
    """No word of the protocol reaches a person untranslated."""
    assert {kind.value for kind in TaskKind} == set(_TASKS)
    ours = list(Refusal)[: list(Refusal).index(Refusal.NO_ANSWER)]
    assert {reason.value for reason in ours} - {"untrusted-order"} <= set(_REASONS)
