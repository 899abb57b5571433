"""Settings are chosen on validation, by the mean over its seeds, and on nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from simulations.evaluation.split import Part
from simulations.sweeps.cell import Job
from simulations.sweeps.choosing import TestLookedAtError, choose
from simulations.sweeps.plan import Cell, Goal

NOW, LATER = Goal(epsilon=1.0, population=None), Goal(epsilon=8.0, population=None)


def found(
    number: int, value: float | None, *, goal: Goal = NOW, seed: int = 0, split: Part = "validation"
) -> tuple[Job, dict[str, Any]]:
    """One cell and what it is worth."""
    cell = Cell(number=number, goal=goal, settings={"clip": float(number)})
    told = {"metrics": {"discover": {"hr@10": value, "ndcg@10": 1.0 - (value or 0.0)}}}
    return Job(arm="together", split=split, seed=seed, cell=cell), told


def test_choose_takes_the_best_mean_of_each_goal() -> None:
    """One lucky seed is not enough, and goals do not compete."""
    seeds = [found(0, 0.9, seed=1), found(0, 0.1, seed=2), found(1, 0.6, seed=1)]
    rows = [*seeds, found(1, 0.6, seed=2), found(2, 0.2, goal=LATER)]
    first, second = choose(rows, goals=[NOW, LATER], metric="hr@10")
    assert (first.cell and first.cell.number, first.of, first.value) == (1, 2, 0.6)
    assert (second.cell and second.cell.number, second.of) == (2, 1)
    other = choose(rows, goals=[NOW, LATER], metric="ndcg@10")[0]
    assert other.cell is not None
    assert other.cell.number == 0


def test_choose_equal_settings_take_the_first() -> None:
    """The order in which cells finish decides nothing."""
    rows = [found(2, 0.5), found(1, 0.5)]
    (chosen,) = choose(rows, goals=[NOW], metric="hr@10")
    assert chosen.cell is not None
    assert chosen.cell.number == 1


def test_choose_failed_settings_are_never_chosen() -> None:
    """Neither what failed with one seed, nor what has no number; all failed is no choice."""
    job, told = found(0, 0.9, seed=1)
    rows = [found(0, 0.9), (job, {**told, "failed": "no quorum"}), found(1, None), found(2, 0.1)]
    (chosen,) = choose(rows, goals=[NOW], metric="hr@10")
    assert chosen.cell is not None
    assert chosen.cell.number == 2
    (none,) = choose(rows[1:3], goals=[NOW], metric="hr@10")
    assert (none.cell, none.value, none.of) == (None, None, 2)


def test_choose_by_test_is_refused() -> None:
    """What was found on test may not decide anything."""
    with pytest.raises(TestLookedAtError, match="chosen on validation; got test"):
        choose([found(0, 0.5), found(1, 0.6, split="test")], goals=[NOW], metric="hr@10")
