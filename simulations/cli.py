"""``homebody demo`` and ``homebody simulate``: words in, settings checked, a run, results out.

A mistake is told in one line on stderr with exit code 2, before the long work begins and without
leaving a file behind. Results are written whole or not at all. Exit code 1: the run itself failed
for a reason it could name.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from simulations.progress import Progress
from simulations.settings import (
    DEFAULT_DELTA,
    DEFAULT_EPSILONS,
    DEFAULT_POPULATION,
    DEFAULT_SEEDS,
    ENGINES,
    TASKS,
    DemoSettings,
    SettingsError,
    SimulationSettings,
)

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
DEMO_FOLDER: Final = "out"
REPORT_FILE: Final = "report.html"

Settings = DemoSettings | SimulationSettings
Run = Callable[[Any, Progress], Mapping[str, Any]]


_SIMULATE: Final = """\
The demo's experiment on anyone's events, or on people made up to be like them.

For each seed: consent is asked, the task runs once without noise and once for each epsilon, and
everyone's list is judged on what they took next. Same settings, same numbers, on every engine."""

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
  homebody simulate --people town --task item-training --rounds 100 --cohort 2000 --workers 2"""


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
    except UsageError as error:
        return _complain(err, error, USAGE)
    except SystemExit as leaving:  # argparse has shown --help
        return int(leaving.code or DONE)
    progress = Progress(err, quiet=options.quiet)
    # Not before the words are understood: the answer to --help waits for nothing.
    from aggregator.errors import AggregatorError, PortInUseError
    from client_sdk.errors import HomebodyError
    from privacy.errors import PrivacyError
    from simulations.data.interactions import DataError
    from simulations.report.files import OutputError, check_writable, write_results

    try:
        settings = _settings(argv[0], options)
        _check_inputs(settings)
        json_path = options.json
        report_path = None if options.out is None else options.out / REPORT_FILE
        check_writable(json_path=json_path, folder=options.out)
        run = _runner(argv[0], run_demo, run_simulation)
        result = run(settings, progress)
        progress.close()
        from simulations.report.text import format_report

        written = write_results(result, json_path=json_path, report_path=report_path)
    except (UsageError, SettingsError, DataError, OutputError, PortInUseError) as error:
        progress.close()
        return _complain(err, error, USAGE)
    except (HomebodyError, AggregatorError, PrivacyError) as error:
        progress.close()
        return _complain(err, error, FAILED)
    _write(out, format_report(result) + "".join(f"written: {path}\n" for path in written))
    return DONE


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
        "--seed", type=int, default=0, metavar="S", help="first seed (default: %(default)s)"
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
        help="threads of the engine kernel; the numbers are the same (default: %(default)s)",
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
        seed=options.seed,
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
