"""Measure rows, in a process of their own.

Rules a reader can check line by line:

1. A process measures the rows of one `Job` one after another, on one thread; two processes run side
   by side where there are two cores. A row's seconds are wall clock for one seed: learn and ask
   everybody. Loading data and libraries isn't in them.
2. Peak memory is the process's high-water mark, set back before each row (Linux; elsewhere, where
   it can't be set back, that of the process so far). Data and libraries are in it.
3. Nothing is kept from an earlier run; within a process, only what no seed changes is made once.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import epsilon_quality, movielens, movielens_goals
from benchmarks.arms_data import DELTA, Workload, forecast_of, metrics_of, request_for
from benchmarks.leaderboard.data import load
from benchmarks.leaderboard.entries import (
    MOVIELENS,
    OURS,
    OURS_ATTRIBUTES,
    OURS_ROUNDS_ATTRIBUTES,
    Entry,
)
from benchmarks.movielens_attributes import attributes_of
from benchmarks.simulation.memory import peak_rss_mb
from client_sdk.intelligence import RankerTable
from models.item_prior import ItemPrior, PriorSettings
from privacy.events import ADJACENCY, TRUSTED
from simulations.arms import ARMS, Request, make_arm

SEEDS: Final = 3
PROCESSES: Final = 2
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_RENAMED: Final = {
    "full HR@10": "discover hr@10",
    "full NDCG@10": "discover ndcg@10",
    "sampled HR@10": "sampled hr@10",
    "sampled NDCG@10": "sampled ndcg@10",
}
_LIBRARIES: Final = {"central-dp-sgd": "opacus", "central-ials": "implicit"}
_UNNOISED: Final = "ours without noise"
_SLOWEST_FIRST: Final = ("central-dp-sgd", _UNNOISED, OURS_ATTRIBUTES, OURS, "local-dp")

KNOWS: Final = "one round of item statistics, summed and noised; the person's own history"
KNOWS_ATTRIBUTES: Final = "; genres, years and words of titles, which no other arm here has"
KNOWS_ROUNDS: Final = (
    f"; {movielens_goals.ROUNDS.rounds} bounded rounds of factors, which are no task of the product"
)

Row = dict[str, Any]
Run = dict[str, float]
"""Protocol and metric to value, of one seed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process measures.

    Attributes:
        entries: Rows of one data set.
        seeds: How many seeds a row rests on; at least 1.
        folder: Where the data is; None for the default.
    """

    entries: tuple[Entry, ...]
    seeds: int
    folder: Path | None


def jobs_of(entries: Sequence[Entry], *, seeds: int, folder: Path | None) -> list[Job]:
    """Group rows into jobs, the slowest first.

    The rows of one private arm share a process; so do ours without noise, and the rest.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        ours = entry.arm not in ARMS and entry.epsilon is None
        shared = entry.arm if entry.arm in _SLOWEST_FIRST else ""
        groups.setdefault((entry.data, _UNNOISED if ours else shared), []).append(entry)
    rank = {arm: at for at, arm in enumerate(_SLOWEST_FIRST)}
    order = sorted(groups, key=lambda key: (rank.get(key[1], len(rank)), key[0]))
    return [Job(entries=tuple(groups[key]), seeds=seeds, folder=folder) for key in order]


def measure_all(
    jobs: Sequence[Job], *, processes: int, on_rows: Callable[[list[Row]], None]
) -> None:
    """Measure jobs in fresh processes of one thread each; an error in one of them is raised.

    Args:
        jobs: From `jobs_of`.
        processes: How many run side by side; at least 1.
        on_rows: Called here with the rows of each job as it ends.
    """
    # Fresh interpreters read these before they load numpy.
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        with ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), max_tasks_per_child=1
        ) as pool:
            waiting = [pool.submit(measure_job, job) for job in jobs]
            try:
                for done in as_completed(waiting):
                    on_rows(done.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def measure_job(job: Job) -> list[Row]:
    """Load the job's data set and measure its rows.

    Raises:
        DataMissingError: the data is not there.
        LibraryMissingError: an arm needs an extra that is not installed.
    """
    work = load(job.entries[0].data, job.folder)
    extras = Extras(job)
    return [measure_entry(entry, work, extras, seeds=job.seeds) for entry in job.entries]


def measure_entry(entry: Entry, work: Workload, extras: Extras, *, seeds: int) -> Row:
    """Measure one row on a loaded data set."""
    with suppress(ImportError):
        # Ten seconds of importing are no part of a row; where it can't be done, the arm says so.
        importlib.import_module(_LIBRARIES.get(entry.arm, "numpy"))
    reset_peak_memory()
    run, about = _arm_of(entry, work) if entry.arm in ARMS else _ours(entry, work, extras)
    once, before = about.pop("once"), about.pop("before", None)
    started = time.perf_counter()
    runs = [run(seed) for seed in range(1 if once else seeds)]
    seconds = (time.perf_counter() - started) / len(runs)
    peak = peak_rss_mb()
    if before is not None:
        seconds, peak = seconds + before.seconds, max(peak, before.peak_mib)
    return {
        "name": entry.name,
        "data": entry.data,
        "arm": entry.arm,
        "epsilon": entry.epsilon,
        "delta": None if entry.epsilon is None else DELTA,
        "times": entry.times,
        "people": work.people,
        "population": entry.times * work.people,
        "forecast": forecast_of(work, entry.times),
        "seeds": len(runs),
        "metrics": {name: _spread([run[name] for run in runs]) for name in runs[0]},
        "seconds": seconds,
        "peak_mib": peak,
        "chosen": entry.chosen,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load": _load(),
        **about,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """A release that several rows share, and what it cost.

    Attributes:
        table: What was learned.
        seconds: Wall clock.
        peak_mib: The process's peak while it was learned.
    """

    table: RankerTable
    seconds: float
    peak_mib: float


class Extras:
    """What rows of MovieLens need beside the workload, made when first asked for."""

    def __init__(self, job: Job) -> None:
        self._folder = movielens.data_folder(job.folder)
        self.people = cache(lambda: movielens.Population(movielens.load(self._folder)))
        self.statistics = cache(self._learn_statistics)

    def prior(self, settings: PriorSettings) -> ItemPrior:
        """What the films' attributes say, believed so far."""
        return ItemPrior(attributes=attributes_of(self._folder), settings=settings)

    def _learn_statistics(self, *, attributes: bool) -> Learned:
        """Learn the release of `benchmarks.movielens_goals`, with the films' attributes or not."""
        people = self.people()
        reset_peak_memory()
        started = time.perf_counter()
        prior = self.prior(movielens_goals.PRIOR) if attributes else None
        table = movielens_goals.learn_statistics(people, prior)
        seconds = time.perf_counter() - started
        return Learned(table=table, seconds=seconds, peak_mib=peak_rss_mb())


def reset_peak_memory() -> None:
    """Set the process's high-water mark back to what it holds now, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _arm_of(entry: Entry, work: Workload) -> tuple[Callable[[int], Run], Row]:
    """Give a peer's run by seed, and what is said of it."""
    arm = ARMS[entry.arm]
    if arm.private:
        settings = work.settings_for(entry.times)

        def request(seed: int) -> Request:
            return request_for(work, seed, settings, entry.epsilon, entry.times)
    else:

        def request(seed: int) -> Request:
            return Request(seed=seed, settings=work.settings)

    # Where neither arm nor targets change with the seed there is one run, and no spread.
    fixed = not arm.seeded and work.targets(0) is work.targets(1)
    about: Row = {"knows": arm.knows, "trusted": arm.trusted, "once": fixed}

    def run(seed: int) -> Run:
        made = make_arm(entry.arm, work.arms, request(seed))
        if made.claim is not None:
            about.update(claimed=made.claim.epsilon, adjacency=made.claim.adjacency)
            about["trusted"] = made.claim.trusted
        return metrics_of(work, made.scorer, work.targets(seed))

    return run, about


def _ours(entry: Entry, work: Workload, extras: Extras) -> tuple[Callable[[int], Run], Row]:
    """Give our own run by seed, and what is said of it; recipes by the names of their modules."""
    about: Row = {"trusted": TRUSTED, "adjacency": ADJACENCY, "once": False, "knows": KNOWS}
    if entry.data != MOVIELENS:

        def release(seed: int) -> Run:
            table = work.together(entry.epsilon, entry.times, seed)
            return metrics_of(work, work.arms.together(table), work.targets(seed))

        return release, about
    attributes = entry.arm in {OURS_ATTRIBUTES, OURS_ROUNDS_ATTRIBUTES}
    about["knows"] += KNOWS_ATTRIBUTES if attributes else ""
    epsilon = entry.epsilon
    if epsilon is not None:
        prior = extras.prior(movielens.PRIOR) if attributes else None

        def private(seed: int) -> Run:
            row = epsilon_quality.movielens_row(
                extras.people(), prior, epsilon=epsilon, times=entry.times, seeds=(seed,)
            )
            return {name: row[name] for name in _RENAMED.values()}

        return private, about
    learned = extras.statistics(attributes=attributes)
    about["before"] = learned
    if entry.arm in {OURS, OURS_ATTRIBUTES}:
        about["once"] = True
        return lambda _: _judge(extras, learned.table), about
    about["knows"] += KNOWS_ROUNDS
    weight = movielens_goals.ROUNDS_WEIGHT if attributes else movielens_goals.BARE_WEIGHT
    begin = extras.statistics(attributes=False)
    if attributes:
        about["before"] = Learned(
            table=learned.table,
            seconds=learned.seconds + begin.seconds,
            peak_mib=max(learned.peak_mib, begin.peak_mib),
        )

    def rounds(seed: int) -> Run:
        refined = movielens_goals.learn_rounds(extras.people(), begin.table, seed=seed)
        pair = movielens_goals.Together(statistics=learned.table, rounds=refined, weight=weight)
        return _judge(extras, pair)

    return rounds, about


def _judge(extras: Extras, scorer: RankerTable | movielens.Scorer) -> Run:
    """Ask everybody, and call the metrics as `simulations.evaluation` does."""
    found = movielens.evaluate(extras.people(), scorer)
    return {_RENAMED[name]: value for name, value in found.items()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Give mean and sample standard deviation, 0 for a single run."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std}


def _load() -> float | None:
    """Give how many processes wanted a core in the last minute, where the system says."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
