"""From a file to a `Sweep`: one clear error that names file, line and remedy, or the values.

A sweep's file holds ``name``, ``scenario`` (a file beside it) or a scenario's own keys and tables,
``arms``, ``[vary]`` and ``[search]``. Under ``vary`` each key is a list of values, or a range
``{ from = 0.1, to = 10.0, steps = 3, scale = "log" }``; ``epsilon`` may hold ``inf``: no noise.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from client_sdk.experience.toml_file import FileMistakeError, TomlFile
from privacy.clipping import MAX_CLIP_NORM
from simulations.arms.registry import ARMS
from simulations.scenarios.forms import ScenarioError, ScenarioTable, read_table
from simulations.scenarios.reading import read_scenario
from simulations.scenarios.scenario import MOST_PEOPLE, Scenario
from simulations.sweeps.plan import KNOBS, MOST_CELLS, MOST_SEEDS, Knob, Search, Sweep, Value

__all__ = ["FileMistakeError", "read_sweep"]

DEFAULT_ARMS: Final = ("popularity", "device-alone", "central")
_OWN: Final = ("name", "scenario", "arms", "vary", "search")
_MOST_STEPS: Final = 1_000
_EPSILON: Final = (1e-3, 1e3)
_MOST_POPULATION: Final = 1_000_000_000


@dataclass(frozen=True)
class _Range:
    """What a key may hold."""

    least: Value
    most: Value
    whole: bool = True


_RANGES: Final = {
    "epsilon": _Range(*_EPSILON, whole=False),
    "population": _Range(1, _MOST_POPULATION),
    "clip": _Range(1e-6, MAX_CLIP_NORM, whole=False),
    "cohort": _Range(1, MOST_PEOPLE),
    "top_items": _Range(1, 4_096),
    "min_separation": _Range(1, 1_000_000),
    "rounds": _Range(1, 1_000_000),
}


def read_sweep(file: Path) -> Sweep:
    """Read a sweep.

    Args:
        file: TOML; see ``examples/sweeps/small.toml``.

    Raises:
        FileMistakeError: at the first key that cannot be used; it names file, line and remedy.
        OSError: a file cannot be read.
    """
    toml = TomlFile.read(file, name=file.name)
    table = ScenarioTable(file=toml, place=(), values=toml.tables)
    known = (*_OWN, *(each.name for each in fields(Scenario)))
    for key in table.keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            remedy = f"write {near[0]}" if near else "remove it"
            raise table.error(key, f"expected one of {sorted(known)}; got another key: {remedy}")
    table.need("vary", "this table", "{ epsilon = [2.0, 8.0] }")
    name = table.text("name", default=file.stem)
    base, beside = _base(table, toml, file)
    vary = table.table("vary")
    knobs = {key: _knob(vary, key) for key in vary.keys}
    if not knobs:
        raise table.error("vary", "expected something that varies; got nothing: add epsilon = [2]")
    epsilons, populations = knobs.pop("epsilon", None), knobs.pop("population", None)
    sweep = Sweep(
        name=name,
        base=base,
        beside=beside,
        epsilons=base.privacy.epsilon if epsilons is None else epsilons.values,
        populations=(base.privacy.population,)
        if populations is None
        else tuple(int(each) for each in populations.values),
        knobs=knobs,
        search=_search(table, knobs),
        arms=_arms(table),
        lines={key: toml.line(("vary", key)) for key in vary.keys},
    )
    _check(sweep, vary)
    return sweep


def _base(table: ScenarioTable, toml: TomlFile, file: Path) -> tuple[Scenario, Path]:
    """Read what stays: another file, or the tables in this one."""
    own = {key: value for key, value in toml.tables.items() if key not in _OWN}
    if "scenario" not in table:
        return read_table(Scenario, ScenarioTable(file=toml, place=(), values=own)), file.parent
    other = table.text("scenario")
    if own:
        raise table.error(
            next(iter(own)),
            "expected the scenario's file to say this; got it here as well: remove one of the two",
        )
    path = file.parent / other
    if not other or "\0" in other or not path.is_file():
        raise table.error(
            "scenario", "expected the name of a file beside this one; got another: correct it"
        )
    return read_scenario(path), path.parent


def _search(table: ScenarioTable, knobs: dict[str, Knob]) -> Search:
    inner = table.table("search")
    search = read_table(Search, inner)
    if search.kind == "random":
        if search.cells is None:
            raise inner.error("cells", "expected how many to draw; got none: add cells = 20")
        if not knobs:
            raise inner.error(
                "kind",
                f"expected something to draw, one of {list(KNOBS)} under vary; got none: add it",
            )
    elif search.cells is not None:
        raise inner.error(
            "cells", 'expected only with kind = "random"; got it with a grid: remove it'
        )
    return search


def _arms(table: ScenarioTable) -> tuple[str, ...]:
    names = table.ordered_names("arms")
    if names is None:
        return DEFAULT_ARMS
    for name in names:
        if name not in ARMS:
            raise table.error("arms", f"expected names among {list(ARMS)}; got another: correct it")
    return names


def _knob(vary: ScenarioTable, key: str) -> Knob:
    """Read one key under ``vary``."""
    if key not in _RANGES:
        near = difflib.get_close_matches(key, _RANGES, n=1)
        remedy = f"write {near[0]}" if near else "remove it"
        raise vary.error(key, f"expected one of {sorted(_RANGES)}; got another key: {remedy}")
    value = vary.raw(key)
    if isinstance(value, dict):
        return _range(vary.table(key), key)
    if not isinstance(value, list) or not value:
        raise vary.error(
            key,
            "expected a list of values, or a range; got something else: write "
            f"{key} = [1, 2] or {key} = {{ from = 1, to = 8, steps = 4 }}",
        )
    return Knob(
        values=tuple(
            _one(vary, key, each, f"entry {number}") for number, each in enumerate(value, start=1)
        ),
        whole=_RANGES[key].whole,
    ) if len(set(map(repr, value))) == len(value) else _twice(vary, key)  # fmt: skip


def _twice(vary: ScenarioTable, key: str) -> Knob:
    raise vary.error(key, "expected each value once; got one twice: remove one")


def _one(vary: ScenarioTable, key: str, value: Any, where: str) -> Value:
    """Check one value of a key."""
    span = _RANGES[key]
    kind = "whole numbers" if span.whole else "numbers"
    what = f"{kind} from {span.least:g} to {span.most:g}"
    if key == "epsilon":
        what += ", or inf for no noise"
        if value == math.inf:
            return math.inf
    good = type(value) is int or (not span.whole and type(value) is float)
    if not good or not span.least <= value <= span.most:
        raise vary.error(key, f"expected {what}; {where} is another: correct it")
    return value if span.whole else float(value)


def _range(table: ScenarioTable, key: str) -> Knob:
    """Read a range."""
    span, known = _RANGES[key], ("from", "to", "steps", "scale")
    for word in table.keys:
        if word not in known:
            raise table.error(word, f"expected one of {list(known)}; got another key: remove it")
    example = "0.1" if not span.whole else "1"
    for word in ("from", "to"):
        table.need(word, "an end of the range", example)
    ends = []
    for word in ("from", "to"):
        value = table.raw(word)
        if value == math.inf:
            raise table.error(word, "expected a finite end; got inf: list inf as a value instead")
        try:
            ends.append(_one(table, key, value, "this"))
        except FileMistakeError:
            kind = "whole number" if span.whole else "number"
            raise table.error(
                word, f"expected a {kind} from {span.least:g} to {span.most:g}; got another: "
                "correct it",
            ) from None  # fmt: skip
    low, high = ends
    if low >= high:
        raise table.error("to", "expected more than from; got less: swap or correct them")
    table.need("steps", "how many values of a grid", "3")
    steps = table.whole("steps", least=2, most=_MOST_STEPS) or 2
    scale = table.text("scale", default="linear")
    if scale not in {"linear", "log"}:
        raise table.error("scale", 'expected "linear" or "log"; got another: correct it')
    return Knob.at(low, high, steps=steps, log=scale == "log", whole=span.whole)


def _check(sweep: Sweep, vary: ScenarioTable) -> None:
    """Lay out every cell, and see that none contradicts itself."""
    per_goal = math.prod(len(each.values) for each in sweep.knobs.values())
    if sweep.search.kind == "random":
        per_goal = sweep.search.cells or 1
    if per_goal * len(sweep.goals) > MOST_CELLS:
        raise vary.mistake(
            (),
            f"expected at most {MOST_CELLS:,} cells; got {per_goal * len(sweep.goals):,}: vary "
            'less, or take kind = "random"',
        )
    for cell in sweep.cells:
        try:
            cell.scenario(sweep.base, seed=sweep.base.seed)
        except ScenarioError as error:
            key = str(error.place[-1])
            raise vary.mistake((key,) if key in vary else (), error.problem) from None
    if sweep.base.seed + MOST_SEEDS > 2**53:
        raise vary.mistake((), "expected room to count seeds up; got none: lower the base's seed")
