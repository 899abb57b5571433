"""How good a model gets under noise, as it was measured: recorded points, read and interpolated.

Guarantee: none; this is a forecast from somebody else's data, and every prediction says from which.
It reads public numbers only and costs no privacy.

`utility_curves.json` holds what ``python -m benchmarks.utility_curves`` printed, and the numbers of
``python -m benchmarks.epsilon_quality``. The axis is the deviation of the noise in one entry of the
released mean, over the clip norm (a run's mean is over its rounds too).

| noise | utility |
|---|---|
| 0 | the one without noise |
| between two points | on the line between them, over log(noise) |
| below the first point | on the line from the one without noise, over noise |
| beyond the last point | that of the last one; marked as outside |

Points are made monotone first: more noise never helps, what measured so was chance. A curve of
another dimension is entered at noise · √(dimension / its own): what drowns a table is the norm of
its noise.

Test: tests/privacy/test_utility_curves.py.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from client_sdk.wire import TaskKind

CURVES_FILE: Final = Path(__file__).with_name("utility_curves.json")
_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a curve says of some noise.

    Attributes:
        utility: In the curve's metric.
        gain_kept: Share of what learning together gains without noise, in 0 to 1.
        outside: Whether the noise lies beyond the last measured point.
        curve: The curve's name.
    """

    utility: float
    gain_kept: float
    outside: bool
    curve: str


@dataclass(frozen=True, kw_only=True)
class UtilityCurve:
    """Utility against noise for one task on one data set.

    Attributes:
        name: Unique.
        task: What was learned.
        data: On what, in words.
        metric: In what it is measured.
        command: What printed the numbers.
        people: How many were there.
        dimension: Length of the released vector; None where it is chosen for the noise.
        seeds: How many runs a point is the mean of.
        without_learning: The metric of what is there without learning together.
        without_noise: The metric of learning together without noise.
        points: Noise and metric, by rising noise.
    """

    name: str
    task: TaskKind
    data: str
    metric: str
    command: str
    people: int
    dimension: int | None
    seeds: int
    without_learning: float
    without_noise: float
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        noises = [noise for noise, _ in self.points]
        if not noises or noises[0] <= 0.0 or any(a >= b for a, b in itertools.pairwise(noises)):
            raise ValueError(f"the points of curve {self.name!r} must have rising noise above 0")
        if not self.without_noise > self.without_learning:
            raise ValueError(f"curve {self.name!r} gains nothing, so it predicts nothing")

    def predict(self, *, noise: float, dimension: int | None = None) -> Prediction:
        """Read the curve.

        Args:
            noise: Deviation of the noise in one entry of the mean, over the clip norm; at least 0.
            dimension: Of the release that is planned.
        """
        at = noise
        if dimension is not None and self.dimension is not None:
            at *= math.sqrt(dimension / self.dimension)
        noises = np.array([each for each, _ in self.points])
        values = np.minimum.accumulate([self.without_noise, *(value for _, value in self.points)])
        if at < noises[0]:
            utility = float(np.interp(at, [0.0, noises[0]], values[:2]))
        else:
            utility = float(np.interp(math.log(at), np.log(noises), values[1:]))
        gain = (utility - self.without_learning) / (self.without_noise - self.without_learning)
        return Prediction(
            utility=utility,
            gain_kept=min(1.0, max(0.0, gain)),
            outside=bool(at > noises[-1]),
            curve=self.name,
        )


def load_curves(path: Path = CURVES_FILE) -> tuple[UtilityCurve, ...]:
    """Read the recorded curves.

    Raises:
        ValueError: the file holds something else.

    >>> "movielens-1m" in {curve.name for curve in load_curves()}
    True
    """
    try:
        stored = json.loads(path.read_bytes())
        curves = tuple(_curve(values) for values in stored["curves"])
        version = stored["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} holds no utility curves: {error}") from error
    if version != _VERSION:
        raise ValueError(f"{path.name} is of version {version!r}; expected {_VERSION}")
    return curves


def curve_for(
    curves: Sequence[UtilityCurve], task: TaskKind, *, name: str | None = None
) -> UtilityCurve | None:
    """Choose a task's curve: the one that is named, else that of the most people, else None.

    Raises:
        ValueError: there is no curve of that name at all.
    """
    if name is not None and name not in {curve.name for curve in curves}:
        known = ", ".join(curve.name for curve in curves)
        raise ValueError(f"there is no utility curve {name!r}; there are {known}")
    of_task = [curve for curve in curves if curve.task is task]
    named = [curve for curve in of_task if curve.name == name]
    return max(of_task if name is None else named, key=lambda curve: curve.people, default=None)


def _curve(values: Mapping[str, Any]) -> UtilityCurve:
    left = dict(values)
    points = tuple((float(each["noise"]), float(each["utility"])) for each in left.pop("points"))
    return UtilityCurve(**{**left, "task": TaskKind(left["task"]), "points": points})
