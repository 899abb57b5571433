"""What is held out, and what is asked: no leak from the future, every draw fair and repeatable."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.data.interactions import EVENT_KINDS, Interactions
from simulations.evaluation.split import (
    NEGATIVES,
    NO_ITEM,
    Targets,
    draw_targets,
    had_items,
    hold_out,
    item_pairs,
)

Row = tuple[int, int, float, int, str]


def events(rows: list[Row], *, n_people: int = 3, n_items: int = 200) -> Interactions:
    """Build interactions from (person, item, time, occasion, kind), already in order."""
    users, items, times, occasions, kinds = zip(*rows, strict=True) if rows else [()] * 5
    return Interactions(
        n_people=n_people,
        n_items=n_items,
        users=np.array(users, np.int32),
        items=np.array(items, np.int32),
        times_s=np.array(times, np.float64),
        quantities=np.ones(len(rows)),
        prices=np.full(len(rows), np.nan),
        kinds=np.array([EVENT_KINDS.index(kind) for kind in kinds], np.int8),
        occasions=np.array(occasions, np.int32),
    )


def bought(*rows: tuple[int, int, float, int]) -> list[Row]:
    """Purchases."""
    return [(*row, "purchase") for row in rows]


HISTORY = bought(
    (0, 10, 1.0, 0),
    (0, 11, 1.0, 0),
    (0, 12, 2.0, 1),
    (0, 10, 3.0, 2),
    (0, 13, 3.0, 2),
    (1, 10, 5.0, 3),
    (1, 14, 6.0, 4),
    (2, 15, 7.0, 5),
)


def test_hold_out_test_takes_the_last_occasion_of_those_who_have_two() -> None:
    """A person with a single occasion has no target and still trains."""
    split = hold_out(events(HISTORY))
    assert split.train.items.tolist() == [10, 11, 12, 10, 15]
    assert split.held_out.items.tolist() == [10, 13, 14]
    assert split.now_s.tolist() == [3.0, 6.0, 7.0]


def test_hold_out_validation_takes_the_one_before_and_drops_what_follows() -> None:
    """The last occasion is in neither part; with two occasions one trains without a target."""
    split = hold_out(events(HISTORY), part="validation")
    assert split.train.items.tolist() == [10, 11, 10, 15]
    assert split.held_out.items.tolist() == [12]


def test_hold_out_later_rows_of_an_earlier_session_do_not_train() -> None:
    """A session that goes on after the held-out one began would tell what comes."""
    rows = bought((0, 1, 1.0, 0), (0, 2, 5.0, 1), (0, 3, 9.0, 0))
    split = hold_out(events(rows))
    assert split.train.items.tolist() == [1]
    assert split.held_out.items.tolist() == [2]


def test_hold_out_occasion_without_taste_is_never_the_target() -> None:
    """After the last purchase someone contacts support and returns it: the purchase is held out."""
    rows: list[Row] = [
        (0, 1, 1.0, 0, "purchase"),
        (0, 2, 2.0, 1, "purchase"),
        (0, 2, 2.0, 1, "message_shown"),
        (0, 2, 3.0, 2, "support"),
        (0, 2, 4.0, 3, "return"),
    ]
    split = hold_out(events(rows))
    assert split.train.items.tolist() == [1]
    assert split.held_out.items.tolist() == [2]


def test_hold_out_unknown_part_is_refused() -> None:
    """A typing mistake must not become the test."""
    with pytest.raises(ValueError, match="part must be"):
        hold_out(events(HISTORY), part="train")  # type: ignore[arg-type]


def test_hold_out_nobody_with_two_occasions_gives_no_target() -> None:
    """An empty question is answered with empty lists, not with an error."""
    targets = draw_targets(hold_out(events(bought((0, 1, 1.0, 0)))), seed=0)
    assert len(targets.next_people) == len(targets.discover_people) == len(targets.negatives) == 0


@st.composite
def histories(draw: st.DrawFn) -> Interactions:
    """Any small population with any mix of kinds."""
    rows: list[Row] = []
    occasion = 0
    for person in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(0, 4))):
            kinds = st.sampled_from(["purchase", "product_view", "return", "support"])
            for _ in range(draw(st.integers(1, 3))):
                item = draw(st.integers(0, 6))
                rows.append((person, item, float(occasion), occasion, draw(kinds)))
            occasion += 1
    return events(rows, n_people=4, n_items=draw(st.sampled_from([7, 150])))


@given(histories(), st.sampled_from(["test", "validation"]))
def test_hold_out_any_history_trains_only_on_the_past(everything: Interactions, part: str) -> None:
    """Whoever has something held out has no training row from then on; nobody else loses a row."""
    split = hold_out(everything, part=part)  # type: ignore[arg-type]
    for person in range(everything.n_people):
        held = split.held_out.of_person(person)
        train = split.train.of_person(person)
        if len(held):
            assert len(set(held.occasions.tolist())) == 1
            assert held.taste.all()
            assert train.taste.any()
            assert train.occasions.max() < held.occasions[0]
            assert train.times_s.max() <= held.times_s.min() == split.now_s[person]
        elif part == "test":
            assert len(train) == len(everything.of_person(person))


@given(histories(), st.integers(0, 5))
def test_draw_targets_any_history_asks_for_what_was_taken(
    everything: Interactions, seed: int
) -> None:
    """One target each; `discover` never had; negatives neither had nor taken, each once."""
    split = hold_out(everything)
    targets = draw_targets(split, seed=seed)
    taken = set(item_pairs(split.held_out).tolist())
    had = set(item_pairs(split.train).tolist())
    n_items = everything.n_items
    assert set(targets.next_people.tolist()) == set(split.held_out.users.tolist())
    for person, item in zip(targets.next_people, targets.next_items, strict=True):
        assert int(person) * n_items + int(item) in taken
    for person, item in zip(targets.discover_people, targets.discover_items, strict=True):
        assert int(person) * n_items + int(item) in taken - had
    for person, row in zip(targets.next_people, targets.negatives, strict=True):
        drawn = [int(item) for item in row if item != NO_ITEM]
        assert len(set(drawn)) == len(drawn)
        assert not {int(person) * n_items + item for item in drawn} & (taken | had)
        free = n_items - sum(pair // n_items == person for pair in taken | had)
        assert len(drawn) == min(NEGATIVES, free)


def test_draw_targets_same_seed_same_targets_other_seed_others() -> None:
    """A run can be repeated to the last item."""
    split = hold_out(events(HISTORY))
    first, again = draw_targets(split, seed=1), draw_targets(split, seed=1)
    others = [draw_targets(split, seed=seed) for seed in range(2, 12)]

    def content(targets: Targets) -> list[list[int]]:
        return [targets.next_items.tolist(), targets.negatives.ravel().tolist()]

    assert content(first) == content(again)
    assert any(content(first) != content(other) for other in others)


def test_draw_targets_many_seeds_draw_every_item_alike() -> None:
    """Each distinct item of an occasion has the same chance, however often it stands there."""
    rows = bought((0, 1, 1.0, 0), *((0, item, 2.0, 1) for item in (5, 5, 5, 5, 6, 7, 8)))
    split = hold_out(events(rows))
    drawn = Counter(int(draw_targets(split, seed=seed).next_items[0]) for seed in range(800))
    assert set(drawn) == {5, 6, 7, 8}
    # Four items, 800 draws: 200 each, standard deviation 12.2; six of them either way.
    assert all(abs(number - 200) < 74 for number in drawn.values())


def test_had_items_gives_each_persons_row() -> None:
    """Asked in any order; what was only returned was not taken."""
    rows = [*HISTORY[:5], (1, 9, 1.0, 3, "return")]
    had = had_items(events(rows), np.array([1, 0, 2], np.int32))
    assert [np.flatnonzero(row).tolist() for row in had] == [[], [10, 11, 12, 13], []]
