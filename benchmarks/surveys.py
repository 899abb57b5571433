"""Federated statistics on the bundled shop, beside exact ones: ``python -m benchmarks.surveys``.

798 customers answer a survey and evaluate two rankers: the device's features and vectors, the
aggregator's sum and noise, the decoders. The grid, consent and the ledger are left out
(tests/aggregator/test_statistics.py has them). Beside each estimate stands what the same people
give without noise, and how often the interval, which holds sampling too, has that value in it:
more than 95 times in 100, because for these people there is no sampling.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aggregator.statistics import noise_multiplier_of
from client_sdk.federation.evaluation import measure_ranker
from client_sdk.intelligence import RankerTable
from client_sdk.intelligence.categories import ItemCategories
from client_sdk.wire.evaluation import layout_of, part_of_difference
from client_sdk.wire.outcomes import ExperimentOutcome
from client_sdk.wire.statistics import Binning, Measure, MeasureForm, Question, Survey
from models.statistics import (
    DriftKind,
    decode_evaluation,
    decode_survey,
    fairness_gaps,
    measure_drift,
    quantile,
)
from privacy.bounded_sum import BoundedSum
from privacy.events import MechanismName
from privacy.mechanisms import GaussianMechanism
from privacy.noise import GaussianNoise
from simulations.data.bundled import load_bundled
from simulations.evaluation.split import hold_out
from simulations.features import features_of
from simulations.population import SIMULATED_NOW_S, histories_of

EPSILONS: Final = (1.0, 2.0, 4.0, 8.0)
DELTA: Final = 1e-6
PURCHASES: Final = Binning(feature="purchases_ever", edges=(1.0, 10.0, 20.0, 40.0, 80.0, 160.0))
BUSY: Final = Binning(feature="purchases_ever", edges=(1.0, 40.0, 1e6))
RATE: Final = Measure(feature="n_categories", low=5.0, high=1e3, form=MeasureForm.SHARE)
SURVEY: Final = Survey(
    name="shop",
    questions=(
        Question(name="purchases", by=PURCHASES),
        Question(
            name="categories", measures=(Measure(feature="n_categories", low=0.0, high=10.0),)
        ),
        Question(name="wide taste", by=BUSY, measures=(RATE,)),
    ),
)
Vectors = Sequence[Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.surveys", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--repetitions", type=int, default=200, metavar="N")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    survey, halves = _survey_vectors()
    evaluation = _evaluation_vectors()
    rows = [_row(epsilon, survey, halves, evaluation, options.repetitions) for epsilon in EPSILONS]
    print(
        "798 customers; estimate ± standard error, and how often the 95 % interval held the value"
    )
    print("that the same people give without noise")
    names = list(rows[0]["statistics"])
    labels = [f"epsilon {row['epsilon']:g}" for row in rows]
    exact = rows[0]["exact"]
    print(f"{'':>26}{'exact':>10}" + "".join(f"{label:>24}" for label in labels))
    for name in names:
        cells = [row["statistics"][name] for row in rows]
        texts = [
            "hidden" if each["value"] is None else f"{each['value']:.3f} ± {each['error']:.3f}"
            for each in cells
        ]
        held = [f" {each['held']:4.0%}" for each in cells]
        print(
            f"{name:>26}{exact[name]:>10.3f}"
            + "".join(f"{text + share:>24}" for text, share in zip(texts, held, strict=True))
        )
    print(f"{time.perf_counter() - started:.1f} s")
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows}, indent=2), encoding="utf-8")
    return 0


def _survey_vectors() -> tuple[Vectors, tuple[Vectors, Vectors]]:
    """Everybody's answers; and those of two halves, for drift between people of one shop."""
    data = load_bundled()
    last_s = float(data.interactions.times_s.max())
    people = features_of(data.interactions, data.catalogue, now_s=last_s + 1.0)
    names = [each.name for each in people.definitions]
    vectors = []
    for values, known in zip(people.values, people.known, strict=True):
        person = {
            name: float(value) if told else None
            for name, value, told in zip(names, values, known, strict=True)
        }
        vectors.append(SURVEY.pack(person, clip_norm=1.0))
    return vectors, (vectors[::2], vectors[1::2])


def _evaluation_vectors() -> Vectors:
    """What each device would say of popularity alone, and of the ranker without a model."""
    data = load_bundled()
    split = hold_out(data.interactions)
    histories = histories_of(split, data.catalogue)
    n_items = len(data.catalogue.items)
    counts = np.zeros(n_items, np.float32)
    for history in histories:
        counts[history.items] += 1.0
    popular = RankerTable.from_arrays(
        factors=np.zeros((n_items, 1), np.float32), popularity=counts / counts.max()
    )
    tables = [RankerTable.without_model(n_items), popular]
    categories = ItemCategories.from_names([item.category for item in data.catalogue.items])
    layout = layout_of(2, clip_norm=1.0)
    vectors = []
    for history in histories:
        if len(history) < 2:
            continue
        first, second = (measure_ranker(t, history.at(SIMULATED_NOW_S), categories) for t in tables)
        gaps = [part_of_difference(b - a) for a, b in zip(first, second, strict=True)]
        vectors.append(layout.pack(ExperimentOutcome(group=0, outcomes=(*first, *gaps))))
    return vectors


def _release(vectors: Vectors, multiplier: float, noise: GaussianNoise) -> NDArray[np.float64]:
    total = BoundedSum(dimension=vectors[0].dimension, clip_norm=1.0)
    for vector in vectors:
        total.add(vector)
    return total.release(GaussianMechanism(noise_multiplier=multiplier, noise=noise))


def _exact(vectors: Vectors) -> NDArray[np.float64]:
    return np.sum([vector.to_dense() for vector in vectors], axis=0, dtype=np.float64)


def _statistics(
    survey: NDArray[np.float64],
    halves: Sequence[NDArray[np.float64]],
    evaluation: NDArray[np.float64],
    noise_std: float,
) -> dict[str, Any]:
    """Every estimate, by name."""
    decode: Callable[..., Any] = lambda total: decode_survey(  # noqa: E731 - three of a kind
        total, SURVEY, clip_norm=1.0, noise_std=noise_std
    )
    found = decode(survey)
    before, after = (decode(half).histograms["purchases"] for half in halves)
    gaps = fairness_gaps(found.groups["wide taste"], "share of n_categories in 5 to 1000")
    quality = decode_evaluation(evaluation, models=2, clip_norm=1.0, noise_std=noise_std)
    histogram = found.histograms["purchases"]
    pairs = {(gap.first, gap.second): gap.difference for gap in gaps.gaps}
    return {
        "share with 10 to 20": histogram.shares()[2],
        "median purchases": quantile(histogram, 0.5),
        "mean categories": found.groups["categories"][0].means["n_categories"],
        "gap of wide taste": pairs.get(("1 to 40", "40 to 1e+06")),
        "PSI of two halves": measure_drift(before, after).divergence,
        "JS of two halves": measure_drift(before, after, kind=DriftKind.JENSEN_SHANNON).divergence,
        "HR@10 own habits": quality.quality["hr@10"],
        "HR@10 less without": quality.differences["hr@10"],
    }


def _row(
    epsilon: float,
    survey: Vectors,
    halves: tuple[Vectors, Vectors],
    evaluation: Vectors,
    repetitions: int,
) -> dict[str, Any]:
    multiplier = noise_multiplier_of(MechanismName.GAUSSIAN, epsilon=epsilon, delta=DELTA)
    noise = GaussianNoise.from_seed_for_simulation(int(10 * epsilon))
    sums = [_exact(each) for each in (survey, *halves, evaluation)]
    exact = _statistics(sums[0], sums[1:3], sums[3], 0.0)
    held = dict.fromkeys(exact, 0)
    released = [_release(each, multiplier, noise) for each in (survey, *halves, evaluation)]
    first = _statistics(released[0], released[1:3], released[3], multiplier)
    for _ in range(repetitions):
        noisy = [each + multiplier * noise.standard_normal(each.size) for each in sums]
        for name, estimate in _statistics(noisy[0], noisy[1:3], noisy[3], multiplier).items():
            truth = exact[name].value
            held[name] += estimate is None or estimate.holds(truth)
    return {
        "epsilon": epsilon,
        "delta": DELTA,
        "noise_multiplier": multiplier,
        "exact": {name: each.value for name, each in exact.items()},
        "statistics": {
            name: {
                "value": None if each is None else each.value,
                "error": None if each is None else each.standard_error,
                "held": held[name] / max(repetitions, 1),
            }
            for name, each in first.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
