"""Which settings are best for a goal: decided on the validation split, and on nothing else.

Rules a reader can check line by line:

1. What was found on any other split than validation is refused, whatever it says.
2. Settings are compared by the mean of one metric of ``discover`` over the validation seeds.
3. Settings that failed with any seed, or whose metric is unknown, are not chosen.
4. Of equal settings, the first in the file's order is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulations.sweeps.cell import Job
from simulations.sweeps.plan import Cell, Goal

PROTOCOL = "discover"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The settings for a goal.

    Attributes:
        goal: What for.
        cell: The chosen settings; None where all of them failed.
        of: How many settings were tried.
        value: What the chosen were worth on validation.
    """

    goal: Goal
    cell: Cell | None
    of: int
    value: float | None


class TestLookedAtError(ValueError):
    """Settings were about to be chosen by something else than validation."""

    __test__ = False


def choose(
    found: Sequence[tuple[Job, Mapping[str, Any]]], *, goals: Sequence[Goal], metric: str
) -> list[Choice]:
    """Choose the settings of each goal.

    Args:
        found: Jobs on validation, and what they found.
        goals: What for.
        metric: What is compared.

    Raises:
        TestLookedAtError: one of the jobs was on another split.
    """
    values: dict[Goal, dict[int, list[float | None]]] = {goal: {} for goal in goals}
    cells: dict[int, Cell] = {}
    for job, told in found:
        if job.split != "validation" or job.cell is None:
            raise TestLookedAtError(f"settings are chosen on validation; got {job.split}")
        cells[job.cell.number] = job.cell
        worth = told.get("metrics", {}).get(PROTOCOL, {}).get(metric)
        values[job.cell.goal].setdefault(job.cell.number, []).append(
            None if told.get("failed") else worth
        )
    chosen = []
    for goal, tried in values.items():
        means = {number: _mean(each) for number, each in tried.items()}
        known = {number: mean for number, mean in means.items() if mean is not None}
        best = max(sorted(known), key=lambda number: known[number], default=None)
        chosen.append(
            Choice(
                goal=goal,
                cell=None if best is None else cells[best],
                of=len(tried),
                value=None if best is None else known[best],
            )
        )
    return chosen


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
