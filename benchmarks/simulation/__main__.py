"""Our simulation beside pfl-research and Flower's: ``python -m benchmarks.simulation``.

One workload (`benchmarks.simulation.workload`), one thread, whole rounds: choose the cohort,
everyone's update, clip, sum, noise on every entry, the server's step. Engines take turns, each in a
fresh process. All first rounds are compared, before noise, with a plain numpy sum; where one is
further away than 1e-4 the run fails. Ratios are of seconds an update, of the same repetition.

`make bench-simulation` makes the peers' environments and runs this. Goals are printed, met or not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aggregator.item_training import TrainingRecipe
from benchmarks.simulation.ours import histories_of
from benchmarks.simulation.processes import (
    Engine,
    EngineFailedError,
    check_present,
    run_engine,
)
from benchmarks.simulation.update import clipped_sum
from benchmarks.simulation.workload import (
    ITEMS,
    PEOPLE,
    RANK,
    Settings,
    Workload,
    draw_cohorts,
    draw_people,
)
from models.item_training import initial_state
from simulations.experiment import TRAINED

COHORT: Final = 500
FLOWER_COHORT: Final = 100
MOST_APART: Final = 1e-4
BUSY: Final = 1.5
NOISE_MULTIPLIER: Final = 1.0
# About two of three people are clipped, so that clipping counts in what is compared.
CLIP_NORM: Final = 0.3
_OURS: Final = "benchmarks.simulation.ours"
_PFL: Final = "benchmarks.simulation.pfl_peer"
_FLOWER: Final = "benchmarks.simulation.flower_peer"
_NEEDS: Final = {_PFL: ("pfl", "torch", "numpy"), _FLOWER: ("flwr", "ray", "numpy")}
# Peer: beside which of our runs, smallest ratio wanted, median wanted.
_PEERS: Final[Mapping[str, tuple[str, float, float]]] = {
    "pfl_tuned": ("ours", 60.0, 100.0),
    "pfl_autograd": ("ours", 150.0, 200.0),
    "flower": ("ours_at_100", 500.0, 500.0),
    "pfl_dense": ("ours", 0.0, 0.0),
    "ours_by_rows": ("ours", 0.0, 0.0),
}
_MOST_MB: Final = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--pfl", type=Path, default=Path(".venv-pfl/bin/python"))
    parser.add_argument("--flower", type=Path, default=Path(".venv-flower/bin/python"))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a round or two each, to try it out")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.repetitions < 1 or options.seed < 0:
        parser.error("repetitions must be at least 1, and the seed at least 0")
    engines = _engines(options)
    try:
        check_present(engines, _NEEDS)
        found = measure(engines, repetitions=options.repetitions, seed=options.seed)
    except EngineFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _print(found)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    apart = {name: gap for name, gap in found["aggregate_error"].items() if not gap <= MOST_APART}
    if apart:
        print(f"error: not the same aggregate (at most {MOST_APART}): {apart}", file=sys.stderr)
        return 1
    return 0


def _engines(options: argparse.Namespace) -> list[Engine]:
    """Give all engines, in the order in which they take turns."""
    own, pfl, flower = Path(sys.executable), options.pfl.absolute(), options.flower.absolute()
    few: bool = options.quick
    return [
        Engine(
            name="ours",
            python=own,
            module=_OURS,
            rounds=3 if few else 60,
            arguments=("--form", "shortcut"),
        ),
        Engine(
            name="pfl_tuned",
            python=pfl,
            module=_PFL,
            rounds=2 if few else 12,
            arguments=("--form", "tuned"),
        ),
        Engine(
            name="ours_by_rows",
            python=own,
            module=_OURS,
            rounds=3 if few else 60,
            arguments=("--form", "by_rows"),
        ),
        Engine(
            name="pfl_autograd",
            python=pfl,
            module=_PFL,
            rounds=1 if few else 4,
            arguments=("--form", "autograd"),
        ),
        Engine(
            name="pfl_dense",
            python=pfl,
            module=_PFL,
            rounds=1 if few else 6,
            arguments=("--form", "dense"),
        ),
        Engine(
            name="ours_at_100",
            python=own,
            module=_OURS,
            rounds=3 if few else 60,
            arguments=("--form", "shortcut"),
        ),
        Engine(
            name="flower",
            python=flower,
            module=_FLOWER,
            rounds=1 if few else 5,
            is_tree=True,
        ),
    ]


def make_workload(*, seed: int, cohort: int = COHORT, rounds: int = 1) -> Workload:
    """Make the workload; the protocol's defaults, but for the clip norm.

    Args:
        seed: Of everything.
        cohort: People in a round.
        rounds: For how many rounds cohorts are drawn.
    """
    recipe = TrainingRecipe(rounds=rounds, seed=seed)
    people = draw_people(seed=seed)
    workload = Workload(
        settings=Settings(
            seed=seed,
            cohort=cohort,
            steps=recipe.steps,
            learning_rate=recipe.device_learning_rate,
            negatives=recipe.negatives,
            ridge=recipe.ridge,
            clip_norm=CLIP_NORM,
            noise_multiplier=NOISE_MULTIPLIER,
            server_learning_rate=recipe.optimizer.learning_rate,
            momentum=recipe.optimizer.momentum,
        ),
        offsets=people.offsets,
        items=people.items,
        weights=np.zeros(len(people.items), np.float32),
        last_time_s=people.last_time_s,
        now_s=np.array([people.now_s]),
        factors=initial_state(n_items=ITEMS, rank=RANK, seed=seed).factors,
        cohorts=draw_cohorts(people=PEOPLE, cohort=cohort, rounds=rounds, seed=seed),
    )
    return replace(workload, weights=histories_of(workload).weigh(TRAINED).weights)


def at_cohort(workload: Workload, cohort: int) -> Workload:
    """Take the first people of each cohort alone."""
    return replace(
        workload,
        settings=replace(workload.settings, cohort=cohort),
        cohorts=np.ascontiguousarray(workload.cohorts[:, :cohort]),
    )


def measure(engines: Sequence[Engine], *, repetitions: int, seed: int) -> dict[str, Any]:
    """Let the engines take turns.

    Raises:
        EngineFailedError: one of them did not finish.
    """
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: the machine is busy (load {load:.1f}); ratios will be noisy", flush=True)
    rounds = 1 + max(engine.rounds for engine in engines)
    workload = make_workload(seed=seed, rounds=rounds)
    small = at_cohort(workload, FLOWER_COHORT)
    lengths = np.diff(workload.offsets)
    rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
    peaks: dict[str, float] = {}
    kernel: dict[str, list[float]] = {}
    versions: dict[str, str] = {"python": platform.python_version()}
    apart: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="homebody-bench-") as name:
        folder = Path(name)
        judges: dict[int, NDArray[np.float64]] = {}
        for each in (workload, small):
            cohort = each.settings.cohort
            each.save(folder / f"{cohort}.npz")
            judges[cohort] = clipped_sum(each, each.cohorts[0], seed=seed)
        for repetition in range(repetitions):
            for engine in engines:
                beside_flower = engine.name in ("flower", "ours_at_100")
                cohort = FLOWER_COHORT if beside_flower else COHORT
                total = folder / "sum.npy" if repetition == 0 else None
                done = run_engine(
                    engine, workload=folder / f"{cohort}.npz", scratch=folder, total=total
                )
                if total is not None:
                    apart[engine.name] = _distance(np.load(total), judges[cohort])
                rates[engine.name].append(cohort * engine.rounds / sum(done["seconds"]))
                if "kernel_seconds" in done:
                    kernel.setdefault(engine.name, []).append(
                        cohort * engine.rounds / sum(done["kernel_seconds"])
                    )
                if done.get("peak_rss_mb") is not None:
                    peak = float(done["peak_rss_mb"])
                    peaks[engine.name] = max(peaks.get(engine.name, 0.0), round(peak, 1))
                versions.update(done["versions"])
                print(
                    f"repetition {repetition + 1}  {engine.name:14}"
                    f"{rates[engine.name][-1]:10,.0f} updates/s",
                    flush=True,
                )
    return {
        "ratios": {
            peer: [
                round(ours / theirs, 2)
                for ours, theirs in zip(rates[beside], rates[peer], strict=True)
            ]
            for peer, (beside, _, _) in _PEERS.items()
        },
        "updates_per_second": _rounded(rates),
        "updates_per_second_of_the_kernel_alone": _rounded(kernel),
        "peak_rss_mb": peaks,
        "aggregate_error": apart,
        "workload": {
            "people": len(lengths),
            "items": ITEMS,
            "rank": RANK,
            "mean_events": round(float(lengths.mean()), 1),
            "most_events": int(lengths.max()),
            "cohort": COHORT,
            "cohort_beside_flower": FLOWER_COHORT,
            "timed_rounds": {engine.name: engine.rounds for engine in engines},
            **{key: value for key, value in vars(workload.settings).items() if key != "cohort"},
        },
        "versions": versions,
        "machine": {
            "cores": os.cpu_count(),
            "load_at_the_start": round(load, 2),
            "system": platform.system(),
            "processor": platform.machine(),
        },
    }


def _distance(total: NDArray[np.float64], judge: NDArray[np.float64]) -> float:
    if total.shape != judge.shape:
        return float("inf")
    return float(np.linalg.norm(total - judge) / np.linalg.norm(judge))


def _rounded(rates: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [round(each, 1) for each in values] for name, values in rates.items()}


def _print(found: Mapping[str, Any]) -> None:
    """Print what was measured beside what was wanted, also where it is less."""
    print()
    for name, rates in found["updates_per_second"].items():
        memory = found["peak_rss_mb"].get(name)
        print(
            f"{name:14}{median(rates):10,.0f} updates/s (median)"
            f"{'' if memory is None else f'{memory:10,.0f} MB'}"
            f"   aggregate off by {found['aggregate_error'][name]:.1e}"
        )
    for name, rates in found["updates_per_second_of_the_kernel_alone"].items():
        print(f"{name:14}{median(rates):10,.0f} updates/s in the kernel alone")
    print()
    for peer, (beside, least, middle) in _PEERS.items():
        ratios = found["ratios"][peer]
        line = f"{beside} / {peer}: {min(ratios):,.1f} to {max(ratios):,.1f}, median "
        line += f"{median(ratios):,.1f}"
        if least:
            met = min(ratios) >= least and median(ratios) >= middle
            line += f"; goal {least:,.0f} each and {middle:,.0f} median: "
            line += _met(met)
        print(line)
    ours = found["peak_rss_mb"].get("ours")
    if ours is not None:
        print(f"ours: {ours:,.0f} MB; goal {_MOST_MB:,.0f}: {_met(ours < _MOST_MB)}")


def _met(holds: bool) -> str:
    return "met" if holds else "NOT met"


if __name__ == "__main__":
    sys.exit(main())
