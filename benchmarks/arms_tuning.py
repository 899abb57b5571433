"""Choosing the settings of arms on validation, for ``python -m benchmarks.arms --tune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

import numpy as np

from benchmarks.arms_data import Workload, metrics_of, request_for
from simulations.arms import ARMS, ArmSettings, make_arm

TUNING_EPSILON: Final = 8.0
TUNING_TIMES: Final = (1, 10)
TUNED: Final = ("item-knn", "central", "central-ials", "central-dp-sgd", "local-dp")


def grid(name: str) -> Mapping[str, Sequence[float]]:
    """Give what is tried for one arm: setting to values, in the order of the search."""
    return {
        "item-knn": {
            "neighbours_weight": (0.03, 0.1, 0.3, 1.0),
            "neighbours.neighbours": (50, 200, 1_000),
            "neighbours.shrink": (0.0, 10.0, 100.0),
        },
        "central": {
            "ease.length_power": (0.0, 0.25, 0.5),
            "ease.ridge": (0.125, 0.5, 2.0, 8.0),
        },
        "central-ials": {
            "least_squares_weight": (0.1, 0.3, 1.0),
            "least_squares.regularisation": (3.0, 10.0, 30.0, 100.0),
            "least_squares.positive_weight": (1.0, 2.0, 4.0, 8.0),
            "least_squares.factors": (32, 64, 128),
        },
        "central-dp-sgd": {
            "factors_weight": (0.03, 0.1, 0.3, 1.0),
            "factors.learning_rate": (100.0, 300.0, 1_000.0),
            "factors.rank": (8, 16, 32),
            "factors.top_items": (400, 800, 1_600),
            "factors.zero_weight": (0.3, 1.0),
        },
        "local-dp": {
            "local.counts_share": (0.1, 0.5, 0.9),
            "local.most_top_items": (16, 128),
        },
    }[name]


def tune(load: Workload, name: str, times: int) -> None:
    """Choose an arm's settings on validation, one at a time from what it has, twice round."""
    searched = {
        setting: values
        for setting, values in grid(name).items()
        # Where nothing repeats and nothing is described, the device alone knows nothing to mix.
        if "next" in load.asked or "." in setting
    }
    chosen = load.settings_for(times)
    known: dict[ArmSettings, float] = {}

    def judge(settings: ArmSettings, about: str) -> float:
        if settings not in known:
            known[settings], text = _validate(load, name, settings, times)
            print(f"  {about}: {known[settings]:.4f}  {text}", flush=True)
        return known[settings]

    print(f"{load.name}, {name}, x{times}: from {_said(name, chosen)}")
    best = judge(chosen, "start")
    for setting, values in [*searched.items()] * 2:
        for value in values:
            tried = _with(chosen, setting, value)
            found = judge(tried, f"{setting} {value:g}")
            if found > best:
                chosen, best = tried, found
    print(f"{load.name}, {name}, x{times}: chosen {_said(name, chosen)}  {best:.4f}\n", flush=True)


def tune_all(load: Workload, only: str | None) -> None:
    """Choose for every arm; for private ones twice, as more people allow more."""
    for name in TUNED if only is None else (only,):
        for times in TUNING_TIMES if ARMS[name].private else (1,):
            tune(load, name, times)


def _validate(load: Workload, name: str, settings: ArmSettings, times: int) -> tuple[float, str]:
    """Give the mean logarithm of all metrics over a few seeds, and the metrics as text."""
    runs = []
    made = None
    for seed in range(load.tuning_seeds):
        if made is None or ARMS[name].private:
            epsilon = TUNING_EPSILON if ARMS[name].private else None
            made = make_arm(name, load.arms, request_for(load, seed, settings, epsilon, times))
        runs.append(metrics_of(load, made.scorer, load.targets(seed)))
    means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    objective = float(np.mean(np.log(np.maximum(list(means.values()), 1e-6))))
    return objective, "  ".join(f"{key} {value:.4f}" for key, value in means.items())


def _with(settings: ArmSettings, setting: str, value: float) -> ArmSettings:
    """Change one setting, named as in the grid."""
    part, _, name = setting.rpartition(".")
    changed: dict[str, Any] = {name: value}
    if part:
        changed = {part: replace(getattr(settings, part), **changed)}
    return replace(settings, **changed)


def _said(name: str, settings: ArmSettings) -> str:
    """Name what was searched, and what it is."""
    return ", ".join(f"{setting} {attrgetter(setting)(settings):g}" for setting in grid(name))
