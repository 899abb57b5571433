"""A device's own count of runs: separation, maximum, clock, lost and damaged memory."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk import Homebody
from client_sdk.federation.participations import (
    MAX_ATTEMPTS,
    PARTICIPATION_STREAM,
    Participations,
    RunMemory,
)
from client_sdk.signals.vault import Record, Vault
from client_sdk.testing import START_S, FakeAggregator, FixedClock, MemoryKeyStore
from client_sdk.wire import (
    Catalogue,
    Contribution,
    Declined,
    Order,
    Refusal,
    RunTerms,
    TaskKind,
    read_answer,
    read_frame,
)

OpenHome = Callable[..., Homebody]
TERMS = RunTerms(
    run_id="ab" * 16, started_at_s=int(START_S), rounds=20, min_separation=4, max_participations=3
)


class Asker:
    """Asks one device for rounds of a run."""

    def __init__(self, home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue) -> None:
        self.home, self.aggregator, self.catalogue = home, aggregator, catalogue

    def ask(self, number: int, terms: RunTerms = TERMS, **changes: Any) -> Refusal | None:
        """Ask under a fresh task; give the reason of a refusal, None for a contribution."""
        order = self.aggregator.order(
            TaskKind.ITEM_COUNTS,
            self.catalogue,
            round=number,
            run=terms,
            **{"closes_at_s": int(START_S) + 10**6, **changes},
        )
        invited = read_answer(read_frame(self.home.answer(self.aggregator.invite(order))))
        answer = read_answer(read_frame(self.home.answer(self.aggregator.ask(order))))
        if isinstance(answer, Declined):
            assert isinstance(invited, Declined)
            assert invited.reason is answer.reason
            return answer.reason
        assert isinstance(answer, Contribution)
        return None


@pytest.fixture
def asker(home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue) -> Asker:
    """A device that agreed to everything, and who asks it."""
    return Asker(home, aggregator, catalogue)


def test_device_keeps_separation_and_maximum(asker: Asker) -> None:
    """Rounds 0, 4 and 9 are fine; what lies nearer, and a fourth, are refused for their reasons."""
    said = {number: asker.ask(number) for number in (0, 1, 3, 4, 7, 9, 19)}
    assert said == {
        0: None,
        1: Refusal.TOO_SOON,
        3: Refusal.TOO_SOON,
        4: None,
        7: Refusal.TOO_SOON,
        9: None,
        19: Refusal.PARTICIPATIONS_SPENT,
    }


def test_device_round_before_its_last_is_too_soon(asker: Asker) -> None:
    """An aggregator does not get around the separation by asking backwards."""
    assert asker.ask(10) is None
    assert asker.ask(2) is Refusal.TOO_SOON


def test_device_keeps_count_after_reopening(
    open_home: OpenHome, asker: Asker, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """The memory is in the vault, durable before the contribution left."""
    assert asker.ask(0) is None
    asker.home.close()
    again = Asker(open_home(), aggregator, catalogue)
    assert again.ask(3) is Refusal.TOO_SOON
    assert again.ask(4) is None


def test_device_counts_each_run_by_itself(asker: Asker) -> None:
    """Another run has a budget of its own, and says so by another id."""
    assert asker.ask(0) is None
    assert asker.ask(0, replace(TERMS, run_id="cd" * 16)) is None


@pytest.mark.parametrize(
    "changes", [{"min_separation": 1}, {"max_participations": 9}, {"rounds": 21}]
)
def test_device_terms_that_change_on_the_way_are_refused(
    asker: Asker, changes: dict[str, int]
) -> None:
    """A run does not loosen its promise after the first round."""
    assert asker.ask(0) is None
    assert asker.ask(8, replace(TERMS, **changes)) is Refusal.OUT_OF_BOUNDS_ORDER


def test_device_last_round_again_is_answered_a_few_times(asker: Asker) -> None:
    """A crash of the aggregator loses an answer; a replay of one task is refused as ever."""
    assert [asker.ask(0) for _ in range(MAX_ATTEMPTS)] == [None] * MAX_ATTEMPTS
    assert asker.ask(0) is Refusal.ALREADY_CONTRIBUTED
    assert asker.ask(4, task_id="11" * 16) is None
    assert asker.ask(4, task_id="11" * 16) is Refusal.ALREADY_CONTRIBUTED


def test_device_clock_put_back_refuses(asker: Asker, clock: FixedClock) -> None:
    """Before the last contribution, or before the run's start, no end of anything can be judged."""
    clock.set(START_S + 5_000)
    assert asker.ask(0) is None
    clock.set(START_S + 4_000)
    assert asker.ask(8) is Refusal.CLOCK_ROLLED_BACK
    clock.set(START_S + 4_800)
    assert asker.ask(8) is None
    clock.set(START_S + 5_001)
    later = replace(TERMS, run_id="cd" * 16, started_at_s=int(START_S) + 9_000)
    assert asker.ask(0, later) is Refusal.CLOCK_ROLLED_BACK


def test_device_whose_store_is_younger_than_the_run_refuses(
    open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue, clock: FixedClock
) -> None:
    """Lost or erased: it can't know what was sent before. The next run is fine."""
    clock.advance(60.0)
    home = open_home("fresh")
    home.consent.grant("personalise", "statistics")
    home.track("purchase", item="mug")
    fresh = Asker(home, aggregator, catalogue)
    assert fresh.ask(5) is Refusal.PARTICIPATION_UNKNOWN
    later = replace(TERMS, run_id="cd" * 16, started_at_s=int(clock.now_s()))
    assert fresh.ask(5, later) is None


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A vault of its own."""
    return Vault.open(tmp_path / "vault", MemoryKeyStore())


def order_of(aggregator: FakeAggregator, catalogue: Catalogue, number: int) -> Order:
    """An order of the run."""
    return aggregator.order(TaskKind.ITEM_COUNTS, catalogue, round=number, run=TERMS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("since", {}),
        ("since", {"time_s": "yesterday"}),
        ("latest", {"time_s": None}),
        (f"run/{TERMS.run_id}", {}),
        (f"run/{TERMS.run_id}", {"terms": {}, "rounds": [], "attempts": 0}),
        (f"run/{TERMS.run_id}", {"terms": TERMS.to_values(), "rounds": [4, 4], "attempts": 1}),
        (f"run/{TERMS.run_id}", {"terms": TERMS.to_values(), "rounds": [1], "attempts": 0}),
        (f"run/{TERMS.run_id}", {"terms": TERMS.to_values(), "rounds": "1", "attempts": 1}),
    ],
)
def test_participations_damaged_memory_refuses(
    vault: Vault, key: str, value: dict[str, Any], aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """What does not read is not taken for "never"."""
    memory = Participations(vault, now_s=START_S)
    order = order_of(aggregator, catalogue, 0)
    assert memory.refusal(order, now_s=START_S) is None
    vault.write(Record(stream=PARTICIPATION_STREAM, key=key, value=value))
    assert memory.refusal(order, now_s=START_S) is Refusal.PARTICIPATION_UNKNOWN
    vault.close()


def test_participations_without_a_beginning_refuses(
    vault: Vault, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Records that vanish under an open store leave no memory to trust."""
    memory = Participations(vault, now_s=START_S)
    vault.forget_records(PARTICIPATION_STREAM, "since")
    order = order_of(aggregator, catalogue, 0)
    assert memory.refusal(order, now_s=START_S) is Refusal.PARTICIPATION_UNKNOWN
    vault.close()


@given(
    asked=st.lists(st.integers(0, 59), max_size=60),
    separation=st.integers(1, 12),
    most=st.integers(1, 8),
)
def test_run_memory_never_lets_the_terms_be_broken(
    asked: list[int], separation: int, most: int
) -> None:
    """Whatever is asked in whatever order: the rounds it was in keep (b, k)."""
    terms = replace(TERMS, rounds=60, min_separation=separation, max_participations=most)
    plain = FakeAggregator(bytes(range(32))).order(
        TaskKind.ITEM_COUNTS, Catalogue(items=()), dimension=1
    )
    memory = RunMemory(terms=terms)
    for number in asked:
        if memory.refusal(replace(plain, run=terms, round=number)) is None:
            memory = memory.with_round(number)
        assert RunMemory.from_values(memory.to_values()) == memory
    assert len(memory.rounds) <= most
    assert all(later - earlier >= separation for earlier, later in pairwise(memory.rounds))
