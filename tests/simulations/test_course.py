"""How training goes, seen without looking at anything that was held out."""

from __future__ import annotations

import numpy as np
import pytest

from client_sdk.wire.table import RankerSettings
from simulations.course import MOST_PEOPLE, Course
from simulations.engines.columns import HistoryColumns
from simulations.kernel.compiled import KernelUnavailableError

SETTINGS = RankerSettings(form="ridge", ridge=1.0)


def columns(*histories: dict[int, float]) -> HistoryColumns:
    """Make columns of item to when it was taken last."""
    rows = [sorted(each.items()) for each in histories]
    pairs = [pair for row in rows for pair in row]
    return HistoryColumns(
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        items=np.array([item for item, _ in pairs], np.int32),
        counts=np.ones(len(pairs), np.float32),
        last_time_s=np.array([time_s for _, time_s in pairs], np.float64),
        now_s=1_000.0,
    )


def test_course_takes_the_latest_item_out_of_each_history() -> None:
    """Who has one item is not asked; of the others the newest is what is asked for."""
    course = Course.of(
        columns({3: 10.0, 5: 90.0, 8: 20.0}, {1: 5.0}, {2: 70.0, 4: 60.0}),
        settings=SETTINGS,
        rounds=4,
        seed=0,
    )
    assert course is not None
    assert course.targets.tolist() == [5, 2]
    assert course.histories.items.tolist() == [3, 8, 4]
    assert course.histories.offsets.tolist() == [0, 2, 3]


def test_course_look_sees_whether_a_table_ranks_the_item_first() -> None:
    """A table that knows who goes together finds it; one that says the opposite does not."""
    course = Course.of(
        columns({0: 1.0, 1: 2.0}, {2: 1.0, 3: 2.0}), settings=SETTINGS, rounds=2, seed=0
    )
    assert course is not None
    together = np.zeros((40, 2), np.float32)
    together[:2, 0] = together[2:4, 1] = 1.0
    good = course.look(together, done=2)
    assert good == {"round": 2, "hr@10": 1.0, "ndcg@10": 1.0}
    apart = together.copy()
    apart[[1, 3]] *= -1
    assert course.look(apart, done=2)["hr@10"] == 0.0


@pytest.mark.parametrize(
    ("rounds", "looks"), [(2, [0, 1, 2]), (20, list(range(21))), (100, list(range(0, 101, 5)))]
)
def test_course_is_due_at_both_ends_and_evenly_between(rounds: int, looks: list[int]) -> None:
    """A long run is looked at some twenty times."""
    course = Course.of(columns({0: 1.0, 1: 2.0}), settings=SETTINGS, rounds=rounds, seed=0)
    assert course is not None
    assert [done for done in range(rounds + 1) if course.is_due(done)] == looks


def test_course_many_people_are_a_sample_by_seed() -> None:
    """So that a look costs the same for any population."""
    many = columns(*({0: float(n), n % 30 + 1: float(n + 1)} for n in range(2 * MOST_PEOPLE)))
    first, again, other = (
        Course.of(many, settings=SETTINGS, rounds=2, seed=seed) for seed in (1, 1, 2)
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.histories.people == MOST_PEOPLE
    assert (first.targets == again.targets).all()
    assert (first.histories.last_time_s != other.histories.last_time_s).any()


def test_course_of_nothing_to_see_is_none() -> None:
    """One round, people of one item, or no compiler."""

    def nothing() -> None:
        raise KernelUnavailableError("none")

    two = columns({0: 1.0, 1: 2.0})
    assert Course.of(two, settings=SETTINGS, rounds=1, seed=0) is None
    assert Course.of(columns({0: 1.0}), settings=SETTINGS, rounds=5, seed=0) is None
    assert Course.of(two, settings=SETTINGS, rounds=5, seed=0, compiled=nothing) is None
