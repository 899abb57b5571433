"""An experiment: which groups, who may be in it, when, and what is measured.

Rules a reader can check line by line:

1. A definition is data, checked when it is made; an error names the field and what to write.
2. Only what may change while it runs is outside of its identity: `share` and `end_s`. Another
   `Experiment.sha256` is another experiment; its outcomes are never added to the first one's.
3. Two experiments of one layer never have the same person: their segments don't overlap, which
   `check_together` holds.
4. The holdout is one and the same group of people for all experiments: of two shares, the larger
   holds all people of the smaller.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Final, TypeVar, cast

from client_sdk.experience.experiments.metrics import (
    MAX_WINDOW_S,
    FieldError,
    Guard,
    Metric,
    Value,
    check_name,
)
from client_sdk.experience.toml_file import TomlFile
from client_sdk.experience.toml_table import TomlTable
from client_sdk.signals.events import LAST_TIME_S
from client_sdk.wire import canonical_json
from client_sdk.wire.outcomes import MAX_GROUPS, MAX_METRICS

_T = TypeVar("_T")

HOLDOUT: Final = "holdout"
MAX_ARMS: Final = MAX_GROUPS - 1
MAX_GUARDS: Final = 16
DEFAULT_LATE_S: Final = 2 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of doing it.

    Attributes:
        name: Unique in the experiment; ``"holdout"`` is taken. The first arm is what the others are
            compared with.
        weight: Its part of the people, beside the other arms' weights; above 0.
    """

    name: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if self.name == HOLDOUT:
            raise FieldError("name", 'expected another name; got "holdout", which is taken; rename')
        if not (math.isfinite(self.weight) and 0 < self.weight <= 1e6):
            raise FieldError(
                "weight",
                f"expected a number above 0, at most 1e6; got {self.weight}; write weight = 1",
            )


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A segment of a layer: experiments whose segments of one layer differ have different people.

    Attributes:
        name: The layer.
        start: Where the segment begins, from 0.
        end: Where it ends, at most 1.
    """

    name: str
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if not 0.0 <= self.start < self.end <= 1.0:
            raise FieldError(
                "start", f"expected 0 <= start < end <= 1; got {self.start} and {self.end}; "
                "write for example start = 0.0 and end = 0.5"
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is tried, on whom, when, and how it is judged.

    Attributes:
        name: Unique for all time: it decides who is in which arm. A new experiment has a new name.
        arms: 2 to 31; the first one is what the others are compared with.
        share: Which part of the people may be in it, from 0 to 1; raise it in stages. Raising it
            adds people and moves nobody.
        holdout: Which part of the people is in no experiment, from 0 to below 1; see rule 4.
        layer: A segment of a layer; None for an experiment that may share its people with all.
        start_s: From when on, seconds since 1970 (UTC).
        end_s: To when.
        exposure_window_s: How long after the start a person may be exposed for the first time;
            those who were keep their arm to the end. None for as long as it runs.
        metrics: 1 to 16.
        guards: At most 16.
        late_s: How long after the last window an event may still be told.

    Raises:
        FieldError: (a `ValueError`) a field is not as promised.
    """

    name: str
    arms: tuple[Arm, ...]
    metrics: tuple[Metric, ...]
    start_s: float
    end_s: float
    share: float = 1.0
    holdout: float = 0.0
    layer: Layer | None = None
    exposure_window_s: float | None = None
    guards: tuple[Guard, ...] = ()
    late_s: float = DEFAULT_LATE_S

    def __post_init__(self) -> None:
        check_name("name", self.name)
        _check_list("arms", [arm.name for arm in self.arms], 2, MAX_ARMS)
        _check_list("metrics", [metric.name for metric in self.metrics], 1, MAX_METRICS)
        _check_list("guards", [guard.name for guard in self.guards], 0, MAX_GUARDS)
        if not 0.0 <= self.share <= 1.0:
            raise FieldError(
                "share", f"expected a number from 0 to 1; got {self.share}; "
                "write share = 0.2 for a fifth of the people"
            )  # fmt: skip
        if not 0.0 <= self.holdout < 1.0:
            raise FieldError(
                "holdout", f"expected a number from 0 to below 1; got {self.holdout}; "
                "write holdout = 0.05 for one person in twenty"
            )  # fmt: skip
        if not 0.0 <= self.start_s < self.end_s <= LAST_TIME_S:
            raise FieldError(
                "end", "expected a time after the start; got another; "
                "write start and end, such as end = 2027-02-15T00:00:00Z"
            )  # fmt: skip
        window_s = self.exposure_window_s
        if window_s is not None and not 0 < window_s <= self.end_s - self.start_s:
            raise FieldError(
                "exposure_window",
                "expected a duration above 0, no longer than from start to end; got another; "
                'write a shorter one, such as exposure_window = "7 days"',
            )
        if not 0.0 <= self.late_s <= MAX_WINDOW_S:
            raise FieldError(
                "late",
                'expected a duration of at most 366 days; got another; write late = "2 days"',
            )

    @property
    def groups(self) -> tuple[str, ...]:
        """The arms' names, and the holdout's where there is one: the order of the vector."""
        arms = tuple(arm.name for arm in self.arms)
        return (*arms, HOLDOUT) if self.holdout else arms

    @property
    def exposure_end_s(self) -> float:
        """Until when a person may be exposed for the first time."""
        if self.exposure_window_s is None:
            return self.end_s
        return self.start_s + self.exposure_window_s

    @cached_property
    def sha256(self) -> str:
        """The identity: SHA-256 of the definition without `share` and `end_s`, hexadecimal."""
        value: dict[str, Any] = {**asdict(self), "version": 1}
        del value["share"], value["end_s"]
        return hashlib.sha256(canonical_json(_with_floats(value))).hexdigest()

    def parameters(self) -> dict[str, Any]:
        """Give what an order has to say to ask for this experiment's outcomes."""
        return {
            "experiment": self.sha256,
            "groups": len(self.groups),
            "metrics": len(self.metrics),
        }

    @classmethod
    def from_toml(cls, text: str, *, file: str) -> Experiment:
        """Read an experiment from the text of a TOML file.

        Args:
            text: What the file holds.
            file: Its name, for errors.

        Raises:
            FileMistakeError: one error: the file, the line, the field and what to write.

        >>> experiment = Experiment.from_toml('''
        ...     name = "linen-first"
        ...     share = 0.2
        ...     holdout = 0.05
        ...     start = 2027-01-15T00:00:00Z
        ...     end = 2027-02-15T00:00:00Z
        ...     arms = [{ name = "control" }, { name = "linen" }]
        ...     metrics = [{ name = "bought", event = "purchase", window = "7 days" }]
        ... ''', file="linen.toml")
        >>> experiment.groups
        ('control', 'linen', 'holdout')
        """
        root = TomlTable.of(TomlFile.read(text, name=file))
        return _built(root, cls._from_table)

    @classmethod
    def _from_table(cls, table: TomlTable) -> Experiment:
        late_s = table.duration_s("late")
        return cls(
            name=_text(table, "name"),
            arms=tuple(_built(each, _arm) for each in table.tables("arms")),
            metrics=tuple(_built(each, _metric) for each in table.tables("metrics")),
            start_s=table.time_s("start"),
            end_s=table.time_s("end"),
            share=_number(table, "share", 1.0),
            holdout=_number(table, "holdout", 0.0),
            layer=_built(table.table("layer"), _layer) if "layer" in table else None,
            exposure_window_s=table.duration_s("exposure_window"),
            guards=tuple(_built(each, _guard) for each in table.tables("guards")),
            late_s=DEFAULT_LATE_S if late_s is None else late_s,
        )


def check_together(experiments: Collection[Experiment]) -> None:
    """Refuse experiments that can't run beside each other.

    Raises:
        ValueError: two have one name, or two segments of one layer overlap.
    """
    for one, other in combinations(experiments, 2):
        if one.name == other.name:
            raise ValueError(f"name: expected different names; got {one.name!r} twice; rename one")
        if one.layer is None or other.layer is None or one.layer.name != other.layer.name:
            continue
        if max(one.layer.start, other.layer.start) < min(one.layer.end, other.layer.end):
            raise ValueError(
                f"layer: expected segments that don't overlap; got {one.name!r} and "
                f"{other.name!r} in {one.layer.name!r}; make one of them smaller"
            )


def _check_list(field: str, names: list[str], least: int, most: int) -> None:
    if not least <= len(names) <= most:
        raise FieldError(
            field, f"expected {least} to {most}; got {len(names)}; add or take out [[{field}]]"
        )
    if len(set(names)) != len(names):
        raise FieldError(field, "expected different names; got one twice; rename one")


def _with_floats(value: Any) -> Any:
    """Write 1 as 1.0: equal definitions have one hash."""
    if isinstance(value, dict):
        return {name: _with_floats(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_with_floats(each) for each in value]
    return float(value) if isinstance(value, int) else value


def _built(table: TomlTable, make: Callable[[TomlTable], _T]) -> _T:
    """Make a value of a table's fields; what it refuses gets file and line."""
    try:
        made = make(table)
    except FieldError as error:
        raise table.error(error.field, error.message) from error
    table.done()
    return made


def _text(table: TomlTable, name: str) -> str:
    table.need(name, "text", '"..."')
    return table.text(name)


def _number(table: TomlTable, name: str, default: float | None = None) -> float:
    if default is None:
        table.need(name, "a number", "1.0")
    value = table.number(name)
    return cast("float", default if value is None else value)


def _duration_s(table: TomlTable, name: str) -> float:
    table.need(name, "a duration", '"7 days"')
    return cast("float", table.duration_s(name))


def _arm(table: TomlTable) -> Arm:
    return Arm(name=_text(table, "name"), weight=_number(table, "weight", 1.0))


def _layer(table: TomlTable) -> Layer:
    return Layer(
        name=_text(table, "name"),
        start=_number(table, "start", 0.0),
        end=_number(table, "end", 1.0),
    )


def _metric(table: TomlTable) -> Metric:
    return Metric(
        name=_text(table, "name"),
        event=_text(table, "event"),
        value=cast("Value", table.text("value", default="happened")),
        bound=_number(table, "bound", 1.0),
        window_s=_duration_s(table, "window"),
    )


def _guard(table: TomlTable) -> Guard:
    return Guard(
        name=_text(table, "name"),
        event=_text(table, "event"),
        value=cast("Value", table.text("value", default="count")),
        limit=_number(table, "limit"),
        window_s=_duration_s(table, "window"),
    )
