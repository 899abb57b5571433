"""Run a sweep: try everything on validation, choose, report the chosen on test, keep what is done.

Rules a reader can check line by line:

1. A finished job is a file, and is never done again; a job that was interrupted leaves nothing.
2. The test split is asked for the chosen settings and the arms to compare with, after choosing.
3. Rows come in the order of the file, not in that in which jobs finish: the Parquet has the same
   bytes whatever the workers.
4. Processes end with the one that started them, also where that one was killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from privacy.events import AssumedPopulation
from simulations.arms.registry import ARMS
from simulations.code_version import code_sha256
from simulations.kernel.compiled import KernelUnavailableError, load
from simulations.progress import Progress
from simulations.scenarios.forms import ScenarioError
from simulations.settings import SettingsError
from simulations.sweeps.cell import TOGETHER, Bench, Job
from simulations.sweeps.choosing import Choice, choose
from simulations.sweeps.plan import Sweep
from simulations.sweeps.reading import FileMistakeError, read_sweep
from simulations.sweeps.store import CellStore
from simulations.sweeps.table import Finding, require_parquet, write_table
from simulations.workspace import temporary_workspace

TABLE_FILE: Final = "results.parquet"
Find = Callable[[Job], dict[str, Any]]
_BENCHES: dict[str, Bench] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Swept:
    """What a sweep found.

    Attributes:
        sweep: What was asked.
        people: How many there are.
        synthetic: Whether nobody is real.
        segments: Who has how much history.
        choices: The settings of each goal.
        findings: Everything, in the order of the table.
        done_before: How many of them an earlier run had finished.
        table: The Parquet.
    """

    sweep: Sweep
    people: int
    synthetic: bool
    segments: Sequence[Mapping[str, Any]]
    choices: Sequence[Choice]
    findings: Sequence[Finding]
    done_before: int
    table: Path


def run_sweep(
    file: Path,
    folder: Path,
    progress: Progress,
    *,
    workers: int = 1,
    code: str | None = None,
    find: Callable[[Bench], Find] | None = None,
) -> Swept:
    """Run a sweep, or go on where its folder stands.

    Args:
        file: The sweep.
        folder: Where finished cells and the table go; made where it is not there.
        progress: Told the stages and the steps.
        workers: Processes; the result does not depend on it.
        code: Digest of the code; by default this process'.
        find: What does a job, in this process, in place of `simulations.sweeps.cell.Bench.find`.

    Raises:
        FileMistakeError: the file cannot be used; it names file, line and remedy.
        SettingsError, DataError: what it asks for cannot be had.
        CellDamagedError, OutputError: the folder cannot be used.
        OSError: a file cannot be read.
    """
    sweep = read_sweep(file)
    require_parquet()
    try:
        load()
    except KernelUnavailableError as error:
        raise SettingsError(str(error)) from error
    with temporary_workspace() as workspace:
        progress.stage("putting the people together")
        bench = Bench.of(sweep, workspace)
        try:
            _check(sweep, bench, file.name)
        except ScenarioError as error:
            raise FileMistakeError(str(error), file=file.name) from error
        run = _Run(
            sweep=sweep,
            bench=bench,
            store=CellStore(folder),
            progress=progress,
            workers=workers,
            people=bench.people_sha256(),
            code=code_sha256() if code is None else code,
            find=None if find is None else find(bench),
        )
        tried = run.do(_validation_jobs(sweep), "tried on validation")
        choices = choose(tried, goals=sweep.goals, metric=sweep.search.choose_by)
        reported = run.do(_test_jobs(sweep, choices), "reported on test")
        study = bench.test
        chosen = {each.cell.number for each in choices if each.cell is not None}
        findings = [
            Finding(
                job=job,
                found=found,
                chosen=job.cell is not None and job.cell.number in chosen,
                people=study.histories.people,
                delta=sweep.base.privacy.delta,
                task=None if job.cell is None else job.cell.scenario(sweep.base, seed=0).task,
            )
            for job, found in (*tried, *reported)
        ]
        progress.stage("writing the table")
        table = folder / TABLE_FILE
        write_table(findings, table, name=sweep.name)
        return Swept(
            sweep=sweep,
            people=study.histories.people,
            synthetic=bool(study.facts.get("synthetic")),
            segments=study.segments.to_json(),
            choices=choices,
            findings=findings,
            done_before=run.done_before,
            table=table,
        )


def _check(sweep: Sweep, bench: Bench, file: str) -> None:
    """Check every cell against who is there, before anything is run."""
    people, n_items = bench.test.histories.people, len(bench.test.catalogue.items)
    for cell in sweep.cells:
        task = cell.scenario(sweep.base, seed=0).task
        population = cell.goal.population
        for key, value, most, what in (
            ("cohort", task.cohort, people, "people there are"),
            ("top_items", task.top_items, n_items, "items there are"),
        ):
            if value is not None and value > most:
                raise FileMistakeError(
                    f"{key}: expected at most the {most:,} {what}; got {value:,}: lower it",
                    file=file,
                    line=sweep.lines.get(key, 1),
                )
        if population is not None and population < people:
            raise FileMistakeError(
                f"population: expected at least the {people:,} people there are; got "
                f"{population:,}: raise it",
                file=file,
                line=sweep.lines.get("population", 1),
            )


def _validation_jobs(sweep: Sweep) -> list[Job]:
    seeds = sweep.seeds(sweep.search.validation_seeds)
    return [
        Job(arm=TOGETHER, split="validation", seed=seed, cell=cell)
        for cell in sweep.cells
        for seed in seeds
    ]


def _test_jobs(sweep: Sweep, choices: Sequence[Choice]) -> list[Job]:
    seeds = sweep.seeds(sweep.search.test_seeds)
    jobs = [
        Job(arm=TOGETHER, split="test", seed=seed, cell=each.cell, watched=seed == seeds[0])
        for each in choices
        if each.cell is not None
        for seed in seeds
    ]
    for name in sweep.arms:
        goals = [goal for goal in sweep.goals if goal.is_private] if ARMS[name].private else [None]
        jobs += [
            Job(arm=name, split="test", seed=seed, goal=goal) for goal in goals for seed in seeds
        ]
    return jobs


@dataclass(kw_only=True)
class _Run:
    """Does jobs, each once."""

    sweep: Sweep
    bench: Bench
    store: CellStore
    progress: Progress
    workers: int
    people: str
    code: str
    find: Find | None
    done_before: int = 0

    def do(self, jobs: Sequence[Job], what: str) -> list[tuple[Job, dict[str, Any]]]:
        """Do what is not finished, and give everything in the order of the jobs."""
        names = [job.identity(self.sweep.base, people=self.people, code=self.code) for job in jobs]
        found = {name: self.store.load(name) for name in names}
        waiting = {name: job for name, job in zip(names, jobs, strict=True) if found[name] is None}
        before = len(jobs) - len(waiting)
        self.done_before += before
        self.progress.stage(
            f"{len(jobs):,} runs {what}, {before:,} of them done before", total=len(jobs)
        )
        self.progress.step(before)
        for name, told in self._each(waiting):
            self.store.save(name, told)
            found[name] = told
            self.progress.step()
        return [(job, found[name] or {}) for name, job in zip(names, jobs, strict=True)]

    def _each(self, waiting: Mapping[str, Job]) -> Iterator[tuple[str, dict[str, Any]]]:
        find = self.find or (self.bench.find if self.workers == 1 else None)
        if find is not None or not waiting:
            for name, job in waiting.items():
                yield name, (find or self.bench.find)(job)
            return
        with _processes(min(self.workers, len(waiting)), self.bench) as pool:
            asked: dict[Future[dict[str, Any]], str] = {
                pool.submit(_find, job): name for name, job in waiting.items()
            }
            for done in as_completed(asked):
                yield asked[done], done.result()


@contextmanager
def _processes(workers: int, bench: Bench) -> Iterator[ProcessPoolExecutor]:
    """Start processes; they are gone when the block is left, whatever the reason."""
    pool = ProcessPoolExecutor(
        max_workers=workers,
        # A copy of this process would have its threads' locks, and not its threads.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        # Without the people that this process has opened: each opens them once, by itself.
        initargs=(replace(bench),),
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(bench: Bench) -> None:
    """Make a process ready: it ignores Ctrl-C, and ends when the one that started it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
    _BENCHES["bench"] = bench


def _find(job: Job) -> dict[str, Any]:
    return _BENCHES["bench"].find(job)


def assumed_words(population: int | None, people: int) -> str:
    """Say what was assumed, to stand beside a number; nothing where nothing was.

    >>> assumed_words(None, 798), assumed_words(100_000, 798)
    ('', 'simulation: noise as if 100,000 people took part (798 simulated)')
    """
    if population is None or population == people:
        return ""
    return AssumedPopulation(simulated_people=people, people=population).label
