"""``homebody population``: fit a model to real events, and make synthetic people from it.

A mistake is told in one line on stderr with exit code 2, and no file is left behind but a folder
that was begun; such a folder holds no ``population.json`` and no simulation opens it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn, TextIO

from simulations.progress import Progress

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
_MOST_PEOPLE: Final = 100_000_000
_MOST_TASTES: Final = 256


class UsageError(ValueError):
    """The words on the command line cannot be used; the message is one line."""


class _Parser(argparse.ArgumentParser):
    """Raises a mistake as one line instead of printing the usage and leaving."""

    def error(self, message: str) -> NoReturn:
        """Refuse."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str], *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Run ``fit`` or ``make``.

    Args:
        argv: The command's name and its words.
        stdout: Where the result is told.
        stderr: Where progress and errors go.

    Returns:
        The exit code: 0 done, 1 failed on the way, 2 the words or the files cannot be used.
    """
    out, err = stdout or sys.stdout, stderr or sys.stderr
    fits = argv[0] == "fit"
    try:
        options = (_fit_parser() if fits else _make_parser()).parse_args(list(argv[1:]))
        _check(options)
    except UsageError as error:
        return _complain(err, error, USAGE)
    except SystemExit as leaving:  # argparse has shown --help
        return int(leaving.code or DONE)
    progress = Progress(err, quiet=options.quiet)
    # Not before the words are understood: the answer to --help waits for nothing.
    from simulations.data.interactions import DataError
    from simulations.report.files import OutputError

    try:
        said = _fit(options, progress) if fits else _make(options, progress)
    except (UsageError, DataError, OutputError) as error:
        return _complain(err, error, USAGE)
    except OSError as error:
        where = options.out if error.filename is None else error.filename
        return _complain(err, f"{where}: {error.strerror or error}", FAILED)
    finally:
        progress.close()
    out.write(said + "\n")
    return DONE


def _fit(options: argparse.Namespace, progress: Progress) -> str:
    from simulations.data.loader import load_events
    from simulations.report.files import check_writable, write_whole
    from simulations.synthetic.fit import fit_population

    check_writable(json_path=options.out, folder=None)
    progress.stage("reading the events")
    events = load_events(options.events).interactions
    progress.stage(f"fitting {options.tastes} tastes to {events.n_people:,} people")
    try:
        model = fit_population(events, tastes=options.tastes, seed=options.seed)
    except ValueError as error:
        raise UsageError(f"{options.events}: {error}") from error
    write_whole(options.out, model.to_json().decode())
    return (
        f"written: {options.out}\n{model.n_items:,} items in {len(model.tastes)} tastes; the model "
        f"is {model.sha256}"
    )


def _make(options: argparse.Namespace, progress: Progress) -> str:
    from simulations.synthetic.generate import write_population
    from simulations.synthetic.model import PopulationModel

    try:
        model = PopulationModel.from_json(options.model.read_bytes())
    except ValueError as error:
        raise UsageError(f"{options.model}: {error}") from error
    made = 0
    progress.stage(f"making {options.people:,} people", total=options.people)

    def on_shard(so_far: int) -> None:
        nonlocal made
        progress.step(so_far - made)
        made = so_far

    try:
        write_population(
            options.out, model, people=options.people, seed=options.seed, on_shard=on_shard
        )
    except FileExistsError as error:
        raise UsageError(f"{options.out} exists already; give a new folder") from error
    size_mb = sum(path.stat().st_size for path in options.out.iterdir()) / 1e6
    return (
        f"written: {options.out} ({options.people:,} synthetic people, {size_mb:,.0f} MB); "
        f"next: homebody simulate --people {options.out}"
    )


def _fit_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="homebody population fit", allow_abbrev=False)
    parser.description = (
        "Fit sizes, popularity, tastes, seasons and hours to real events. The model is a small "
        "JSON file of shares; it is not differentially private, so keep it where the events are."
    )
    parser.add_argument(
        "events", type=Path, metavar="EVENTS", help="CSV: user,item,timestamp[,event,...]"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="MODEL", help="the model, a new JSON file"
    )
    parser.add_argument(
        "--tastes",
        type=int,
        default=16,
        metavar="T",
        help="groups of items that go together (default: %(default)s)",
    )
    _add_shared(parser)
    return parser


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="homebody population make", allow_abbrev=False)
    parser.description = (
        "Make people from a model: the same model and seed give the same people on any machine, "
        "and the first thousand of a million are those of a thousand."
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="from homebody population fit")
    parser.add_argument(
        "--people", type=int, required=True, metavar="N", help="how many, from 1 to 100,000,000"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a folder that is not there yet"
    )
    _add_shared(parser)
    return parser


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of all draws (default: %(default)s)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot work before anything heavy is loaded."""
    if not 0 <= options.seed < 2**63:
        raise UsageError(f"seed must be from 0 to 2^63 - 1; got {options.seed}")
    for name, most in (("people", _MOST_PEOPLE), ("tastes", _MOST_TASTES)):
        value = getattr(options, name, 1)
        if not 1 <= value <= most:
            raise UsageError(f"{name} must be from 1 to {most:,}; got {value}")
    source = getattr(options, "events", None) or options.model
    if not source.is_file():
        raise UsageError(
            f"{source} is a folder; expected a file" if source.is_dir() else f"{source} is no file"
        )
    if "model" in options and options.out.exists():
        raise UsageError(f"{options.out} exists already; give a new folder")
    if "model" not in options and options.out.is_dir():
        raise UsageError(f"{options.out} is a folder; give a file name for the model")


def _complain(stream: TextIO, error: Exception | str, code: int) -> int:
    stream.write(f"homebody: error: {' '.join(str(error).split())}\n")
    return code
