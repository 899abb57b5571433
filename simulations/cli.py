"""``homebody demo`` and ``homebody simulate``: words in, settings checked, a run, results out.

A mistake is told in one line on stderr with exit code 2, before the long work begins and without
leaving a file behind. Results are written whole or not at all. Exit code 1: the run itself failed
for a reason it could name. Exit code 130: Ctrl-C in a sweep, whose finished cells are kept.

More than 400 lines: the words of both commands and what they lead to are read together.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from simulations.progress import Progress
from simulations.settings import (
    DEFAULT_DELTA,
    DEFAULT_EPSILONS,
    DEFAULT_POPULATION,
    DEFAULT_SEEDS,
    ENGINES,
    MOST_SEED,
    MOST_WORKERS,
    TASKS,
    DemoSettings,
    SettingsError,
    SimulationSettings,
)

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
DEMO_FOLDER: Final = "out"
REPORT_FILE: Final = "report.html"

Settings = DemoSettings | SimulationSettings
Run = Callable[..., Mapping[str, Any]]
"""From settings and progress, and a ``pool`` where one was asked for, to what was found."""


_SIMULATE: Final = """\
The demo's experiment on anyone's events, or on people made up to be like them.

For each seed: consent is asked, the task runs once without noise and once for each epsilon, and
everyone's list is judged on what they took next. Same settings, same numbers, on every engine."""

_WITH_SCENARIO: Final = frozenset(
    {"--scenario", "--seed", "--ray", "--workers", "--json", "--out", "--quiet"}
)
_WITH_SWEEP: Final = frozenset({"--sweep", "--workers", "--json", "--out", "--quiet"})

_EXAMPLES: Final = """\
engines (without --engine: kernel where this machine has a C compiler, else devices):
  kernel     people are rows of columns; 100,000 and more, no device is made
  devices    the real SDK for each person, in this process; hundreds; rolls the release out
  superlink  real devices over TLS through a real SuperLink; up to 64 people

examples:
  homebody simulate --events events.csv --epsilon 2 8 --out report
  homebody simulate --events events.csv --task item-training --rounds 20 --cohort 500
  homebody population fit events.csv --out model.json
  homebody population make model.json --people 100000 --seed 1 --out town
  homebody simulate --people town --task item-training --rounds 100 --cohort 2000 --workers 2
  homebody simulate --scenario examples/scenarios/everyday.toml --ray local:2
  homebody simulate --sweep examples/sweeps/small.toml --out small --workers 2"""


class UsageError(ValueError):
    """The words on the command line cannot be used; the message is one line."""


def main(
    argv: Sequence[str],
    *,
    run_demo: Run | None = None,
    run_simulation: Run | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Run ``demo`` or ``simulate``.

    Args:
        argv: The command's name and its words.
        run_demo: What the demo runs; `simulations.experiment.run_demo` when left out.
        run_simulation: What a simulation runs; `simulations.experiment.run_simulation`.
        stdout: Where the table goes.
        stderr: Where progress and errors go.

    Returns:
        The exit code.
    """
    out, err = stdout or sys.stdout, stderr or sys.stderr
    try:
        options = _parser(argv[0]).parse_args(list(argv[1:]))
        _check_words(argv, options)
    except UsageError as error:
        return _complain(err, error, USAGE)
    except SystemExit as leaving:  # argparse has shown --help
        return int(leaving.code or DONE)
    progress = Progress(err, quiet=options.quiet)
    # Not before the words are understood: the answer to --help waits for nothing.
    from aggregator.errors import AggregatorError, PortInUseError
    from client_sdk.errors import HomebodyError
    from client_sdk.experience.toml_file import FileMistakeError
    from privacy.errors import PrivacyError
    from simulations.data.interactions import DataError
    from simulations.engines.packed_holdings import MappedFileError
    from simulations.engines.ray_pool import RayPoolError
    from simulations.report.files import OutputError, check_writable
    from simulations.scenarios.forms import ScenarioError
    from simulations.sweeps.store import CellDamagedError

    given = (UsageError, SettingsError, DataError, OutputError, PortInUseError)
    in_file = (FileMistakeError, ScenarioError, CellDamagedError)
    try:
        check_writable(json_path=options.json, folder=options.out)
        told = _sweep(options, progress) if _asks(options, "sweep") else None
        if told is None:
            told = _run(argv[0], options, progress, run_demo, run_simulation)
    except (*given, *in_file) as error:
        progress.close()
        return _complain(err, error, USAGE)
    except (HomebodyError, AggregatorError, PrivacyError, RayPoolError, MappedFileError) as error:
        progress.close()
        return _complain(err, error, FAILED)
    except KeyboardInterrupt:
        progress.close()
        if not _asks(options, "sweep"):
            raise
        stopped = UsageError("stopped; finished cells are kept, and the same command goes on")
        return _complain(err, stopped, INTERRUPTED)
    _write(out, told)
    return DONE


def _run(
    command: str,
    options: argparse.Namespace,
    progress: Progress,
    run_demo: Run | None,
    run_simulation: Run | None,
) -> str:
    """Run the demo, a simulation or a scenario; give what is to be printed."""
    from simulations.report.files import write_results
    from simulations.report.text import format_report

    if _asks(options, "scenario"):
        _check_file(options.scenario)
        with _pool(options) as pool:
            result = _play(options, progress, pool)
    else:
        settings = _settings(command, options)
        _check_inputs(settings)
        run = _runner(command, run_demo, run_simulation)
        if _asks(options, "ray"):
            with _pool(options) as pool:
                result = run(settings, progress, pool=pool)
        else:
            result = run(settings, progress)
    progress.close()
    report_path = None if options.out is None else options.out / REPORT_FILE
    written = write_results(result, json_path=options.json, report_path=report_path)
    return format_report(result) + "".join(f"written: {path}\n" for path in written)


def _play(options: argparse.Namespace, progress: Progress, pool: Any) -> Mapping[str, Any]:
    """Play a scenario."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from simulations.scenario_run import run_scenario

    seed = options.seed if options.seed is None else _checked_seed(options.seed)
    return run_scenario(options.scenario, progress, seed=seed, pool=pool)


def _sweep(options: argparse.Namespace, progress: Progress) -> str:
    """Run a sweep; give what is to be printed."""
    _check_file(options.sweep)
    if options.out is None:
        raise UsageError("a sweep keeps its finished cells: give --out DIR")
    workers = _checked_workers(options.workers)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from simulations.report.files import write_plain, write_whole
    from simulations.report.sweep_page import format_sweep, render_sweep
    from simulations.sweeps.running import run_sweep
    from simulations.sweeps.summary import summarise_sweep

    swept = run_sweep(options.sweep, options.out, progress, workers=workers)
    result = summarise_sweep(swept)
    progress.close()
    written = [swept.table]
    if options.json is not None:
        write_plain(result, options.json)
        written.append(options.json)
    write_whole(options.out / REPORT_FILE, render_sweep(result))
    written.append(options.out / REPORT_FILE)
    return format_sweep(result) + "".join(f"written: {path}\n" for path in written)


def _pool(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """Give who adds up."""
    from simulations.engines.ray_pool import pool_of

    if options.ray is not None and options.engine not in {None, "kernel"}:
        raise UsageError(f"--ray is for the engine kernel; with {options.engine} leave it out")
    try:
        return pool_of(options.ray, workers=_checked_workers(options.workers))
    except ValueError as error:
        raise UsageError(f"--ray: {error}") from error


def _asks(options: argparse.Namespace, name: str) -> bool:
    """Say whether a word was given; the demo does not know all of them."""
    return getattr(options, name, None) is not None


def _check_words(argv: Sequence[str], options: argparse.Namespace) -> None:
    """Refuse words beside a file that says it all, and two ways to share the work."""
    given = {word.partition("=")[0] for word in argv[1:] if word.startswith("--")}
    for name, allowed in (("sweep", _WITH_SWEEP), ("scenario", _WITH_SCENARIO)):
        if _asks(options, name):
            for word in sorted(given - allowed):
                raise UsageError(f"{word} contradicts --{name}, whose file says it all; remove one")
    if _asks(options, "ray") and "--workers" in given:
        raise UsageError("--workers are threads; with --ray write local:N, and remove --workers")


def _check_file(path: Path) -> None:
    """Refuse a file that is not there."""
    if not path.is_file():
        problem = "is a folder; expected a TOML file" if path.is_dir() else "does not exist"
        raise UsageError(f"{path} {problem}")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} cannot be read; expected a TOML file")


def _checked_workers(workers: int) -> int:
    if not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"workers must be from 1 to {MOST_WORKERS}, got {workers}")
    return workers


def _checked_seed(seed: int) -> int:
    if not 0 <= seed <= MOST_SEED:
        raise UsageError(f"seed must be from 0 to {MOST_SEED}, got {seed}")
    return seed


class _Parser(argparse.ArgumentParser):
    """Raises a mistake as one line instead of printing the usage and leaving."""

    def error(self, message: str) -> NoReturn:
        """Refuse."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser(command: str) -> _Parser:
    """Build the parser of one command."""
    parser = _Parser(prog=f"homebody {command}", allow_abbrev=False, add_help=True)
    if command == "demo":
        parser.description = (
            "798 shoppers of a real shop become 798 devices: consent is asked, statistics are "
            "learned together under differential privacy, and everyone's list gets better."
        )
        population, seeds, folder = DEFAULT_POPULATION, DEFAULT_SEEDS, DEMO_FOLDER
        folder_help = "folder of the HTML report (default: %(default)s)"
        parser.add_argument(
            "--superlink", action="store_true", help="send 32 devices through a real SuperLink"
        )
    else:
        parser.description = _SIMULATE
        parser.epilog = _EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        _add_files(parser)
        _add_data(parser)
        _add_engine(parser)
        population, seeds, folder = None, 1, None
        folder_help = "folder of the HTML report (none is written without it)"
    budgets = " ".join(f"{epsilon:g}" for epsilon in DEFAULT_EPSILONS)
    parser.add_argument(
        "--epsilon",
        type=float,
        nargs="+",
        action="extend",
        metavar="E",
        help=f"privacy budgets to compare (default: {budgets})",
    )
    parser.add_argument(
        "--delta",
        type=float,
        default=DEFAULT_DELTA,
        metavar="D",
        help="probability that the claim fails (default: %(default)s)",
    )
    parser.add_argument(
        "--population",
        type=int,
        default=population,
        metavar="N",
        help="scale the noise to this many people; labelled as assumed in every output "
        + ("(default: %(default)s)" if population else "(default: the people in the data)"),
    )
    parser.add_argument(
        "--seeds", type=int, default=seeds, metavar="N", help="repetitions (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results as JSON")
    parser.add_argument("--out", type=Path, default=folder, metavar="DIR", help=folder_help)
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    """Add the files that say it all."""
    parser.add_argument(
        "--scenario",
        type=Path,
        metavar="FILE",
        help="play a scenario: people, task, price and what goes wrong are in the file",
    )
    parser.add_argument(
        "--sweep",
        type=Path,
        metavar="FILE",
        help="try many settings on validation, report the chosen on test; finished cells stay in "
        "--out, and the same command goes on",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    """Add what an experiment of ``simulate`` is about."""
    parser.add_argument(
        "--events",
        type=Path,
        metavar="FILE",
        help="CSV: user,item,timestamp[,event,quantity,price,category,session]",
    )
    parser.add_argument(
        "--people",
        type=Path,
        metavar="FOLDER",
        help="synthetic people in place of events, from homebody population make",
    )
    parser.add_argument(
        "--items", type=Path, metavar="FILE", help="CSV: item[,name,category,price]"
    )
    parser.add_argument(
        "--task",
        default=TASKS[0],
        metavar="TASK",
        help=f"{' or '.join(TASKS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds", type=int, default=1, metavar="R", help="rounds of item training (default: 1)"
    )
    parser.add_argument(
        "--cohort", type=int, metavar="M", help="devices asked in a round (default: everyone)"
    )
    parser.add_argument(
        "--top-items", type=int, metavar="K", help="items that the statistics cover"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="first seed (default: 0, or the scenario's)"
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    """Add how people are asked."""
    parser.add_argument(
        "--engine",
        metavar="ENGINE",
        help=f"{', '.join(ENGINES[:-1])} or {ENGINES[-1]} (default: chosen, and the result says "
        "why)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="W",
        help="threads of the engine kernel, or processes of a sweep; the numbers are the same "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="add up on Ray workers: local, local:N, auto or HOST:PORT; the numbers are the same",
    )


def _settings(command: str, options: argparse.Namespace) -> Settings:
    """Turn the words into checked settings."""
    epsilons = DEFAULT_EPSILONS if options.epsilon is None else tuple(options.epsilon)
    if command == "demo":
        return DemoSettings(
            epsilons=epsilons,
            delta=options.delta,
            population=options.population,
            seeds=options.seeds,
            superlink=options.superlink,
        )
    return SimulationSettings(
        events=options.events,
        items=options.items,
        people=options.people,
        task=options.task,
        epsilons=epsilons,
        delta=options.delta,
        rounds=options.rounds,
        cohort=options.cohort,
        population=options.population,
        top_items=options.top_items,
        seed=options.seed or 0,
        seeds=options.seeds,
        engine=options.engine,
        workers=options.workers,
    )


def _check_inputs(settings: Settings) -> None:
    """Refuse input files that are not there before anything heavy is loaded."""
    if isinstance(settings, SimulationSettings):
        for path in (settings.events, settings.items):
            if path is not None and not path.exists():
                raise UsageError(f"{path} does not exist")
            if path is not None and path.is_dir():
                raise UsageError(f"{path} is a folder; expected a CSV file")
        folder = settings.people
        if folder is not None and not folder.is_dir():
            problem = "is a file; expected a folder" if folder.exists() else "does not exist"
            raise UsageError(f"{folder} {problem}; make one with homebody population make")


def _runner(command: str, run_demo: Run | None, run_simulation: Run | None) -> Run:
    """Give what was injected, or load the experiment, which is heavy, only now."""
    chosen = run_demo if command == "demo" else run_simulation
    if chosen is not None:
        return chosen
    # TensorFlow's notices would break the line that shows the progress.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from simulations import experiment

    loaded: Run = experiment.run_demo if command == "demo" else experiment.run_simulation
    return loaded


def _complain(stream: TextIO, error: Exception, code: int) -> int:
    """Write one line and give the exit code."""
    _write(stream, f"homebody: error: {' '.join(str(error).split())}\n")
    return code


def _write(stream: TextIO, text: str) -> None:
    """Write text, with question marks where the stream's encoding has no such letter."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
