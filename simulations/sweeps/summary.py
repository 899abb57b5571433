"""A sweep in plain values, for ``--json``, the terminal and the page.

``goals``: one for each ε and population, with the settings that were ``chosen`` ``of`` how many,
what they were worth on ``validation`` and on ``test``. ``tried``: every setting, on validation.
``arms``: what stands beside, on test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from simulations.evaluation.metrics import Measured, summarise
from simulations.sweeps.cell import TOGETHER
from simulations.sweeps.choosing import PROTOCOL
from simulations.sweeps.plan import Cell, Goal
from simulations.sweeps.running import Swept, assumed_words
from simulations.sweeps.table import Finding


def summarise_sweep(swept: Swept) -> dict[str, Any]:
    """Put a sweep into plain values."""
    sweep, people = swept.sweep, swept.people
    by_split = {
        split: [each for each in swept.findings if each.job.split == split]
        for split in ("validation", "test")
    }
    goals = []
    for choice in swept.choices:
        mine = [
            each
            for each in by_split["test"]
            if choice.cell is not None and each.job.cell == choice.cell
        ]
        goals.append(
            {
                **_goal(choice.goal, people),
                "delta": sweep.base.privacy.delta if choice.goal.is_private else None,
                "of": choice.of,
                "chosen": None if choice.cell is None else dict(choice.cell.settings),
                "validation": choice.value,
                **_worth(mine),
                "spent": next((each.found.get("spent") for each in mine), None),
                "course": next(
                    (each.found["course"] for each in mine if each.found.get("course")), []
                ),
                "answers": _answers(mine[:1]),
            }
        )
    return {
        "name": sweep.name,
        "choose_by": sweep.search.choose_by,
        "kind": sweep.search.kind,
        "seeds": {
            "validation": sweep.search.validation_seeds,
            "test": sweep.search.test_seeds,
        },
        "task": sweep.base.task.kind,
        "people": people,
        "synthetic": swept.synthetic,
        "knobs": list(sweep.knobs),
        "goals": goals,
        "arms": _arms(by_split["test"], people),
        "tried": _tried(by_split["validation"], people, sweep.search.choose_by),
        "segments": [dict(each) for each in swept.segments],
        "runs": {"all": len(swept.findings), "done_before": swept.done_before},
    }


def _goal(goal: Goal, people: int) -> dict[str, Any]:
    population = (goal.population or people) if goal.is_private else None
    return {
        "epsilon": goal.epsilon if goal.is_private else None,
        "population": population,
        "assumed": assumed_words(population, people),
    }


def _arms(found: Sequence[Finding], people: int) -> list[dict[str, Any]]:
    """Give each arm to compare with, in the order of the file."""
    groups: dict[tuple[str, Goal | None], list[Finding]] = {}
    for each in found:
        if each.job.arm != TOGETHER:
            groups.setdefault((each.job.arm, each.job.goal), []).append(each)
    nothing = {"epsilon": None, "population": None, "assumed": ""}
    return [
        {
            "arm": arm,
            **(nothing if goal is None else _goal(goal, people)),
            **_worth(each),
            "spent": each[0].found.get("spent"),
            "trusted": each[0].found.get("trusted") or "",
        }
        for (arm, goal), each in groups.items()
    ]


def _tried(found: Sequence[Finding], people: int, metric: str) -> list[dict[str, Any]]:
    """Give each setting, over its validation seeds."""
    groups: dict[int, list[Finding]] = {}
    cells: dict[int, Cell] = {}
    for one in found:
        if one.job.cell is not None:
            cells[one.job.cell.number] = one.job.cell
            groups.setdefault(one.job.cell.number, []).append(one)
    rows = []
    for number, each in groups.items():
        cell, worth = cells[number], _worth(each)
        means = worth["test"].get(PROTOCOL, {}).get(metric, {})
        rows.append(
            {
                "cell": number,
                **_goal(cell.goal, people),
                "settings": dict(cell.settings),
                "validation": means.get("mean"),
                "chosen": each[0].chosen,
                "failed": worth["failed"],
            }
        )
    return rows


def _worth(found: Sequence[Finding]) -> dict[str, Any]:
    """Fold seeds; the key ``test`` is a name here, whatever the split."""
    failed = next((str(each.found["failed"]) for each in found if each.found.get("failed")), "")
    if failed or not found:
        return {"test": {}, "segments": {}, "failed": failed}
    return {
        "test": summarise([_known(each.found["metrics"]) for each in found]),
        "segments": summarise([_known(each.found["segments"]) for each in found]),
        "failed": "",
    }


def _known(values: Mapping[str, Mapping[str, float | None]]) -> Measured:
    """Put numbers that JSON has no name for back."""
    return {
        where: {name: math.nan if value is None else value for name, value in each.items()}
        for where, each in values.items()
    }


def _answers(found: Sequence[Finding]) -> dict[str, Any]:
    """Add up who was in the sums, over all tasks."""
    invited = accepted = 0
    rejected: Counter[str] = Counter()
    for each in found:
        for task in each.found.get("tasks", ()):
            invited += task["invited"]
            accepted += task["accepted"]
            rejected.update(task["rejected"])
    return {"invited": invited, "accepted": accepted, "rejected": dict(rejected.most_common())}
