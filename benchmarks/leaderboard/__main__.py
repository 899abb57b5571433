"""The leaderboard: ``python -m benchmarks.leaderboard --all [--json FILE] [--write PAGE]``.

Private recommendation on Online Retail (the bundled sample; the whole of it, where it is) and on
MovieLens-1M (where it is): popularity, own frequency, device alone, item-kNN, EASE, iALS, central
DP-SGD, local DP, and what is learned together, without noise and at ε 1, 2, 4 and 8, for the people
there are and, assumed, ten and a hundred times as many. ``--row NAME`` measures one of them,
``--list`` names all. What a row knows, whom it trusts and which command chose its settings stands
beside it. `docs/leaderboard.md` is written by this command.

Rules a reader can check line by line:

1. Every row is learned and asked in this run, by the code of `benchmarks.arms`,
   `benchmarks.epsilon_quality` and `benchmarks.movielens_goals`. The one exception is asked for:
   ``--beside FILE`` adds rows of an earlier ``--json``, each with its own date and load; a row
   measured now replaces the earlier one.
2. Three seeds; ± is the sample standard deviation. δ = 1e-6.
3. A data set that is not there is left out, said so, and its tables in the page stay as they were.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

from benchmarks.leaderboard.data import DataMissingError, check_there, is_there
from benchmarks.leaderboard.entries import DATA, ENTRIES, Entry
from benchmarks.leaderboard.measure import PROCESSES, SEEDS, jobs_of, measure_all
from benchmarks.leaderboard.page import PageError, check_place, rewrite
from simulations.arms import LibraryMissingError

Row = dict[str, Any]

_NEEDED: Final = {"name", "data", "arm", "epsilon", "times", "people", "metrics", "seeds"} | {
    *("chosen", "knows", "trusted", "date", "load", "seconds", "peak_mib")
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked.

    Returns:
        0 when it ran; 2 where data, a library, a row or a file is not there, or a process died.
    """
    parser, options = _read(arguments)
    if options.list:
        print("\n".join(ENTRIES))
        return 0
    page = _page(parser, options.write)
    earlier = _earlier(parser, options.beside)
    rows: list[Row] = []

    def show_all(found: list[Row]) -> None:
        rows.extend(found)
        for row in found:
            print(show(row), flush=True)
        if options.json:
            # As they come: what took minutes isn't lost with what comes after it.
            options.json.write_text(_as_json(rows, earlier), encoding="utf-8")

    started = time.perf_counter()
    try:
        asked = _asked(parser, options)
        for data in {entry.data for entry in asked} | {row["data"] for row in earlier}:
            if page is not None:
                check_place(page, data)
        measure_all(
            jobs_of(asked, seeds=options.seeds, folder=options.data),
            processes=options.processes,
            on_rows=show_all,
        )
    except (DataMissingError, LibraryMissingError, PageError) as error:
        parser.exit(2, f"{error}\n")
    except BrokenProcessPool:
        parser.exit(2, "a process that measured was ended from outside; is there memory enough?\n")
    print(f"{len(rows)} rows in {time.perf_counter() - started:.0f} s")
    if page is not None:
        options.write.write_text(rewrite(page, _merged(rows, earlier)), encoding="utf-8")
    return 0


def _merged(rows: list[Row], earlier: list[Row]) -> list[Row]:
    """Give what was measured now, and of what was measured earlier the rest."""
    measured = {row["name"] for row in rows}
    return [*rows, *(row for row in earlier if row["name"] not in measured)]


def _as_json(rows: list[Row], earlier: list[Row]) -> str:
    return json.dumps(_merged(rows, earlier), indent=2, allow_nan=False) + "\n"


def show(row: Row) -> str:
    """Write one row as a line."""
    cells = "  ".join(
        f"{name} {value['mean']:.4f} ±{value['std']:.4f}" for name, value in row["metrics"].items()
    )
    forecast = f"  [{row['forecast']}]" if row["forecast"] else ""
    return (
        f"{row['name']:40} {cells}  {row['seconds']:.1f} s {row['peak_mib']:.0f} MiB  "
        f"trusts {row['trusted']}{forecast}"
    )


def _asked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Entry]:
    """Find the rows that are asked for and can be measured here."""
    unknown = [name for name in options.row if name not in ENTRIES]
    if unknown:
        parser.exit(2, f"there is no row {unknown[0][:60]!r}; --list names all {len(ENTRIES)}\n")
    if options.row:
        named = [ENTRIES[name] for name in dict.fromkeys(options.row)]
        for data in {entry.data for entry in named}:
            check_there(data, options.data)
        return named
    there = {data for data in DATA if is_there(data, options.data)}
    wanted = [options.only] if options.only else list(DATA)
    for data in wanted:
        if data not in there:
            print(f"{DATA[data]} is not there: its rows are left out")
    return [entry for entry in ENTRIES.values() if entry.data in wanted and entry.data in there]


def _page(parser: argparse.ArgumentParser, path: Path | None) -> str | None:
    """Read the page before minutes are spent on its rows."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        parser.exit(2, f"--write: {path} can't be read as a page: {type(error).__name__}\n")


def _earlier(parser: argparse.ArgumentParser, path: Path | None) -> list[Row]:
    """Read rows of an earlier run."""
    if path is None:
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.exit(2, f"--beside: {path} can't be read as JSON: {type(error).__name__}\n")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.keys() >= _NEEDED for row in rows
    ):
        parser.exit(2, f"--beside: {path} isn't what --json of this command writes\n")
    return [row for row in rows if row["name"] in ENTRIES]


def _read(
    arguments: Sequence[str] | None,
) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read the words after the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leaderboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--all", action="store_true", help="every row")
    what.add_argument("--only", choices=tuple(DATA), help="every row of one data set")
    what.add_argument("--row", action="append", default=[], metavar="NAME", help="this row; again")
    what.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--data", type=Path, help="folder that holds ml-1m/ and online-retail/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="rewrite this page's tables")
    parser.add_argument("--beside", type=Path, metavar="FILE", help="rows of an earlier --json")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of a row")
    cores = min(PROCESSES, os.cpu_count() or 1)
    parser.add_argument("--processes", type=int, default=cores, help="side by side")
    options = parser.parse_args(arguments)
    if min(options.seeds, options.processes) < 1:
        parser.error("--seeds and --processes must be at least 1")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    return parser, options


if __name__ == "__main__":
    sys.exit(main())
