"""What attacks do to quality, bounded and not: ``python -m simulations.scenarios.harm``.

The bundled sample's people learn without noise, so that nothing but the attack is seen; three seeds
draw who attacks, and what is asked for. Beside our bounded sum stands an unbounded mean: the same
people, the same updates, nobody clipped, nothing refused.

Rules a reader can check line by line:

1. Everyone consents and is there. Devices keep to the protocol; only what they send is hostile.
2. Judged are the people who are honest in every row, the same ones in each: on something new that
   they really took next (full ranking). A share's attackers are among those of a larger share.
3. ``promoted`` is the share of the ten places on honest people's lists that the sybils' items take.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from aggregator.admission import MayTakePart
from aggregator.collection import CollectionPlan
from aggregator.strategy import Collected, TaskPlan, TaskResult, TaskStrategy
from client_sdk.wire.table import RankerTable
from privacy.bounded_sum import STEPS
from simulations.data.bundled import load_bundled
from simulations.engines.holdings import Holdings
from simulations.engines.pool import ONE_THREAD
from simulations.evaluation.metrics import measure
from simulations.evaluation.split import Targets
from simulations.scenarios.attacks import Attack, Attackers
from simulations.scenarios.play import NO_NOISE, Play
from simulations.scenarios.scenario import Hostile, People, Privacy, Scenario, Task
from simulations.studies import EventStudy

SEEDS: Final = (1, 2, 3)
ROUNDS: Final = 20
TOP_ITEMS: Final = 300
PLACES: Final = 10
# So far above every update's norm that nothing is clipped.
_WIDE: Final = 1_024.0
_KINDS: Final = ("label_flipping", "boosting", "not_a_number", "sybils")
_SHARES: Final = (0.01, 0.05, 0.2)
ATTACKS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("nobody", {}),
    *((f"{name} {share:.0%}", {name: share}) for name in _KINDS for share in _SHARES),
)


@dataclass(frozen=True, kw_only=True)
class UnsafeUnboundedMean:
    """Replaces an engine's sum by that of unclipped updates, NaN included; for comparison alone.

    Attributes:
        inner: The engine, with the attackers in it; says how many took part.
        holdings: What the same devices hold.
        attackers: Who attacks.
        boost_factor: How many times a boosted update is sent.
        profile: What each sybil holds.
    """

    inner: TaskStrategy
    holdings: Holdings
    attackers: Attackers
    boost_factor: float
    profile: Holdings | None

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Run one task, and swap the sum."""
        found = self.inner.start(grid, plan, node_ids=node_ids)
        people = np.arange(self.holdings.people, dtype=np.int64)
        if node_ids is not None:
            people = np.asarray(node_ids, np.int64) - 1
        kinds = self.attackers.attacks(people, round_number=plan.order.round)
        if (kinds == Attack.NOT_A_NUMBER).any():
            return replace(found, noisy_sum=np.full(plan.order.dimension, np.nan))
        total = self._sum(plan, self.holdings, people[kinds == Attack.NONE])
        total -= self._sum(plan, self.holdings, people[kinds == Attack.LABEL_FLIPPING])
        boosted = self._sum(plan, self.holdings, people[kinds == Attack.BOOSTING])
        total += self.boost_factor * boosted
        if self.profile is not None:
            one = self._sum(plan, self.profile, np.zeros(1, np.int64))
            total += np.count_nonzero(kinds == Attack.SYBIL) * one
        return replace(found, noisy_sum=total)

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Refuse: a run with noise has no unbounded form."""
        raise NotImplementedError("an unbounded mean has no noise, and so no run")

    def _sum(
        self, plan: TaskPlan, holdings: Holdings, people: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        order = replace(plan.order, clip_norm=plan.order.clip_norm * _WIDE)
        steps = ONE_THREAD.add_up(order, holdings, people).steps
        return steps.astype(np.float64) * (order.clip_norm / STEPS)


def measure_attack(
    study: EventStudy, task: Task, hostile: Hostile, *, seed: int, bounded: bool
) -> dict[str, float | None]:
    """Learn under one attack, and judge what honest people get.

    Returns:
        ``hr@10``, ``ndcg@10`` and ``promoted``; None where there is no model.
    """
    scenario = Scenario(
        seed=seed,
        people=People(source="bundled"),
        task=task,
        privacy=Privacy(epsilon=(1.0,)),
        hostile=hostile,
    )
    with tempfile.TemporaryDirectory() as workspace:
        play = Play(scenario=scenario, study=study, workspace=Path(workspace))
        if not bounded:
            play = replace(play, around=lambda engine: _unbounded(play, engine))
        table, _ = _learned(play)
    nothing: dict[str, float | None] = {"hr@10": None, "ndcg@10": None, "promoted": None}
    if table is None:
        return nothing
    everyone = np.arange(play.people, dtype=np.int64)
    worst = replace(play.conditions, hostile=Hostile(label_flipping=max(_SHARES)))
    honest = everyone[worst.attacks(everyone, round_number=0) == Attack.NONE]
    scorer = study.together(table)
    found = measure(scorer, study.split, _among(study.targets(seed), honest))["discover"]
    scores = np.array(scorer(honest.astype(np.int32)), np.float64)
    held = study.histories.of(honest)
    scores[np.repeat(np.arange(len(honest)), held.lengths), held.items] = -np.inf
    shown = np.argpartition(-scores, PLACES, axis=1)[:, :PLACES]
    return {**found, "promoted": float(np.isin(shown, _promoted(play)).mean())}


def _learned(play: Play) -> tuple[RankerTable | None, Any]:
    """Learn, or find that nothing can be made of the sum."""
    try:
        return play.learn(NO_NOISE)
    except (ValueError, np.linalg.LinAlgError):
        # A decoder refuses a sum that is not finite, each in its own words.
        return None, None


def _unbounded(play: Play, engine: TaskStrategy) -> TaskStrategy:
    holdings = play.holdings()
    profile = None
    if play.scenario.hostile.sybils:
        profile = Holdings(release=holdings.release, histories=play.profile())
    return UnsafeUnboundedMean(
        inner=engine,
        holdings=holdings,
        attackers=play.conditions,
        boost_factor=play.scenario.hostile.boost_factor,
        profile=profile,
    )


def _promoted(play: Play) -> NDArray[np.int32]:
    return play.profile().items


def _among(targets: Targets, people: NDArray[np.int64]) -> Targets:
    follows = np.isin(targets.next_people, people)
    new = np.isin(targets.discover_people, people)
    return replace(
        targets,
        next_people=targets.next_people[follows],
        next_items=targets.next_items[follows],
        negatives=targets.negatives[follows],
        discover_people=targets.discover_people[new],
        discover_items=targets.discover_items[new],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table for each task, and write what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m simulations.scenarios.harm", description=__doc__
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    study = EventStudy(data=load_bundled())
    tasks = (
        Task(kind="item-statistics", top_items=TOP_ITEMS),
        Task(kind="item-training", rounds=ROUNDS),
    )
    rows: list[dict[str, Any]] = []
    for task in tasks:
        print(f"\n{task.kind}: HR@10 on new items; mean of {len(SEEDS)} seeds (least to most)")
        print(f"{'attack':22}{'bounded':>26}{'promoted':>10}{'unbounded':>26}{'promoted':>10}")
        for name, shares in ATTACKS:
            row: dict[str, Any] = {"task": task.kind, "attack": name}
            for kind in ("bounded", "unbounded"):
                row[kind] = [
                    measure_attack(
                        study, task, Hostile(**shares), seed=seed, bounded=kind == "bounded"
                    )
                    for seed in SEEDS
                ]
            rows.append(row)
            cells = (_cells(row[kind]) for kind in ("bounded", "unbounded"))
            print(f"{name:22}" + "".join(f"{hr:>26}{part:>10}" for hr, part in cells), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


def _cells(found: Sequence[dict[str, float | None]]) -> tuple[str, str]:
    hits = [each["hr@10"] for each in found]
    parts = [each["promoted"] for each in found]
    if None in hits or None in parts:
        return "no model", "-"
    values = np.array(hits, np.float64)
    said = f"{values.mean():.4f} ({values.min():.4f} to {values.max():.4f})"
    return said, f"{np.mean(np.array(parts, np.float64)):.2%}"


if __name__ == "__main__":
    sys.exit(main())
