"""Rows as tables of the page, between its markers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from benchmarks.leaderboard.entries import DATA, ENTRIES, OURS, QUOTED, TIMES

Row = dict[str, Any]

ALONE: Final = ("own-frequency", "device-alone")
"""Arms that learn from nobody else."""
COMMAND: Final = "python -m benchmarks.leaderboard"
_PROTOCOLS: Final = (("discover", "`discover`"), ("next", "`again`"), ("sampled", "sampled"))
_METRICS: Final = (("hr@10", "HR@10"), ("ndcg@10", "NDCG@10"))
_WORDS: Final = {"discover": "`discover`", "next": "`again`", "sampled": "sampled"}


class PageError(Exception):
    """The page has no place for a table; the message says which marker is missing."""


def rewrite(page: str, rows: Sequence[Row]) -> str:
    """Put the tables of each data set that has a row into its place; leave the others as they are.

    Args:
        page: Markdown with a begin and an end marker for every data set.
        rows: From `benchmarks.leaderboard.measure`.

    Raises:
        PageError: a marker is missing.
    """
    for data in DATA:
        of_data = [row for row in rows if row["data"] == data]
        if of_data:
            check_place(page, data)
            begin, end = markers(data)
            before, after = page.partition(begin)[0], page.partition(end)[2]
            page = f"{before}{begin}\n{tables(data, of_data)}\n{end}{after}"
    return page


def check_place(page: str, data: str) -> None:
    """Refuse a page without a place for a data set's tables.

    Raises:
        PageError: the markers are not there once each, in order.
    """
    begin, end = markers(data)
    if not (page.count(begin) == page.count(end) == 1 and page.index(begin) < page.index(end)):
        raise PageError(f"the page to write must have {begin} and {end} once, in this order")


def markers(data: str) -> tuple[str, str]:
    """Give what stands before and after a data set's tables."""
    return f"<!-- begin {data}: written by {COMMAND} -->", f"<!-- end {data} -->"


def tables(data: str, rows: Sequence[Row]) -> str:
    """Write one data set: how it was measured, its rows, who is ahead of ours, what is missing."""
    by_name = {row["name"]: row for row in rows}
    ordered = [by_name[name] for name in ENTRIES if name in by_name]
    protocols = [word for word in _PROTOCOLS if f"{word[0]} hr@10" in ordered[0]["metrics"]]
    notes = list(dict.fromkeys(row["chosen"] for row in ordered))
    parts = [_measured(ordered)]
    parts += [
        _table(
            title,
            [_cells(row, protocols, notes) for row in ordered if belongs(row)],
            protocols,
        )
        for title, belongs in _sections(ordered)
    ]
    parts.append(_table_of_quotes(data))
    parts.append("Chosen on validation by: " + "; ".join(_numbered(notes)) + ".")
    parts.append(_table_of_arms(ordered))
    parts.append(ahead_of_ours(ordered))
    parts.append(_missing(data, by_name))
    return "\n\n".join(part for part in parts if part)


def ahead_of_ours(rows: Sequence[Row]) -> str:
    """List each arm that has a higher mean than ours where both spend the same, metric by metric.

    What needs nobody's data (`ALONE`) is held against every row of ours: it could be had for
    nothing. Compared is with `ours`, not with what knows attributes; a difference inside the
    spreads of both counts too and is said to be one.
    """
    ours = [row for row in rows if row["arm"] == OURS]
    found: dict[tuple[str, str], list[str]] = {}
    for row, mine in itertools.product(rows, ours):
        same = (row["epsilon"], row["times"]) == (mine["epsilon"], mine["times"])
        if row["arm"].startswith(OURS) or not (same or row["arm"] in ALONE):
            continue
        for metric, value in row["metrics"].items():
            other = mine["metrics"][metric]
            if value["mean"] > other["mean"]:
                case = _case(mine, value, other)
                found.setdefault((row["arm"], metric), []).append(case)
    if not found:
        return "Nothing that was measured here is ahead of `ours` at the same ε and population."
    lines = [
        f"- `{arm}`, {_WORDS[metric.split()[0]]} {metric.split()[1].upper()}: {', '.join(cases)}"
        for (arm, metric), cases in found.items()
    ]
    title = (
        "Ahead of `ours` at the same ε and population, or without spending anything (means, and "
        "whether they are further apart than both deviations together):"
    )
    return "\n".join([title, "", *lines])


def _case(mine: Row, value: dict[str, float], other: dict[str, float]) -> str:
    """Say where another is ahead of ours, and whether that may be chance."""
    case = "no noise" if mine["epsilon"] is None else f"ε {mine['epsilon']:g}"
    case += f" x {mine['times']}" if mine["times"] > 1 else ""
    inside = value["mean"] - other["mean"] <= value["std"] + other["std"]
    chance = ", within the spread" if inside else ""
    return f"{case} ({value['mean']:.4f} beside {other['mean']:.4f}{chance})"


def _sections(rows: Sequence[Row]) -> Iterable[tuple[str, Any]]:
    """Give titles, and which rows belong under each."""
    people = rows[0]["people"]
    if any(row["epsilon"] is None for row in rows):
        yield f"Without noise, {people:,} people:", lambda row: row["epsilon"] is None
    for times in TIMES:
        if any(row["epsilon"] is not None and row["times"] == times for row in rows):
            title = f"With noise, {people:,} people as they are:"
            if times > 1:
                title = (
                    f"Assumed: {times} times the people, the others with the same tastes. Noise as "
                    f"if {times * people:,} took part ({people:,} simulated):"
                )
            yield (
                title,
                lambda row, times=times: row["epsilon"] is not None and row["times"] == times,
            )


def _table(title: str, lines: Sequence[str], protocols: Sequence[tuple[str, str]]) -> str:
    heads = [f"{word} {metric}" for _, word in protocols for _, metric in _METRICS]
    columns = ["row", "ε", *heads, "s", "MiB", "chosen"]
    return "\n".join([title, "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *lines])


def _cells(row: Row, protocols: Sequence[tuple[str, str]], notes: Sequence[str]) -> str:
    cells = [f"`{row['name']}`", "none" if row["epsilon"] is None else f"{row['epsilon']:g}"]
    for protocol, _ in protocols:
        for metric, _ in _METRICS:
            value = row["metrics"][f"{protocol} {metric}"]
            spread = f" ± {value['std']:.4f}" if row["seeds"] > 1 else ""
            cells.append(f"{value['mean']:.4f}{spread}")
    cells += [f"{row['seconds']:.1f}", f"{row['peak_mib']:.0f}"]
    cells.append(str(notes.index(row["chosen"]) + 1))
    return f"| {' | '.join(cells)} |"


def _table_of_quotes(data: str) -> str:
    quoted = QUOTED.get(data, ())
    if not quoted:
        return ""
    lines = [
        f"| {one.what} | {one.hits:.3f} | {one.gains:.3f} | quoted, not run | {one.source} |"
        for one in quoted
    ]
    head = "| published | sampled HR@10 | sampled NDCG@10 | | source |\n|---|---|---|---|---|"
    return "\n".join(["Published for this protocol, without noise:", "", head, *lines])


def _table_of_arms(rows: Sequence[Row]) -> str:
    """Say once for each arm what it knows, whom it asks one to trust, and of which neighbours."""
    about = {row["arm"]: row for row in rows}
    lines = [
        f"| `{arm}` | {row['knows']} | {row['trusted']} | "
        f"{row.get('adjacency', '') if row['epsilon'] is not None else ''} |"
        for arm, row in about.items()
    ]
    head = "| arm | knows | must be trusted | adjacency of its ε |\n|---|---|---|---|"
    return "\n".join([head, *lines])


def _numbered(notes: Sequence[str]) -> list[str]:
    return [
        f"({number}) {note}" if " -m " not in note else f"({number}) {_as_code(note)}"
        for number, note in enumerate(notes, start=1)
    ]


def _as_code(note: str) -> str:
    """Set a command apart from what is said of it."""
    cut = re.search(r" \(at |; ", note)
    at = len(note) if cut is None else cut.start()
    return f"`{note[:at]}`{note[at:].replace('; ', ', ')}"


def _measured(rows: Sequence[Row]) -> str:
    """Say when, with how many seeds, and how busy the machine was."""
    dates = sorted({row["date"] for row in rows})
    seeds = max(row["seeds"] for row in rows)
    loads = [row["load"] for row in rows if row["load"] is not None]
    busy = f"; load average {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    return (
        f"Measured {' and '.join(dates)}, {seeds} seeds where a seed changes anything (± is the "
        f"sample standard deviation; without ± nothing varies){busy}."
    )


def _missing(data: str, by_name: dict[str, Row]) -> str:
    """Name the rows that are not there; by section where a whole one is."""
    absent = [name for name, entry in ENTRIES.items() if entry.data == data and name not in by_name]
    if not absent:
        return ""
    return "Not measured: " + ", ".join(f"`{name}`" for name in absent) + "."
