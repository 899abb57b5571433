"""The decision models on public data: ``python -m benchmarks.models [--data DIR] [--json FILE]``.

The data is not part of the product: ``--data`` names a folder that holds ``online-shoppers/`` and
``hillstrom/`` (default: ``$HOMEBODY_SHARED/data``, or ``../shared/data`` beside the repository).
Without it: one line, exit code 2.

Propensity (Online Shoppers, who buys): 60 % to learn from, 20 % to choose by and to calibrate on,
20 % for the test, cut anew for each seed. Ours: the exported LiteRT graph, trained as on a device.
The peer: scikit-learn's logistic regression on the same columns, standardised, its C chosen on the
same validation part; left out where scikit-learn isn't installed. Hyperparameters by validation
AUC. With and without ``PageValues``, which partly knows the outcome.

Uplift (Hillstrom, who visits because of an e-mail): half to learn from, a quarter to choose by, a
quarter for the test. Ours: `client_sdk.intelligence.uplift`. Beside it random targeting: the mean
and the spread of the Qini coefficient over 200 random orders of the same test part.

Bandit: microseconds to score 1,000 arms, to make a policy, and to learn one answer. What a
federated prior saves somebody new, on a synthetic town: `benchmarks.bandit_population`.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.bandit_population import PEOPLE, ROUNDS, prior_rows
from benchmarks.experiments import (
    HILLSTROM_ARMS,
    HILLSTROM_FILE,
    SHOPPERS_FILE,
    Cases,
    area_under_roc,
    data_folder,
    load_hillstrom,
    load_shoppers,
    split,
)
from client_sdk.intelligence.bandit import LinearBandit
from client_sdk.intelligence.calibration import fit_platt, reliability
from client_sdk.intelligence.exploration import thompson_policy, ucb_policy
from client_sdk.intelligence.litert import LiteRtModel
from client_sdk.intelligence.propensity import LabelledBatch, PropensityModel, PropensitySettings
from client_sdk.intelligence.uplift import UpliftModel, qini_curve

BATCH: Final = 64
HIDDEN: Final = 8
EPOCHS: Final = (5, 15)
LEARNING_RATES: Final = (0.03, 0.1)
L2: Final = (1e-4, 1e-3)
PEER_C: Final = (0.01, 0.1, 1.0, 10.0)
EFFECT_RIDGES: Final = (100.0, 1_000.0, 10_000.0, 100_000.0)
RANDOM_ORDERS: Final = 200
ARMS: Final = 1_000
FEATURES: Final = (8, 16, 32)
REPETITIONS: Final = 200

Row = dict[str, Any]


def fit_propensity(
    graph: LiteRtModel, learn: Cases, choose: Cases, *, seed: int
) -> tuple[PropensityModel, Row]:
    """Train with every setting of the grid and keep the one with the best validation AUC."""
    batch = LabelledBatch(features=learn.features, labels=learn.labels)
    tried: list[tuple[float, PropensityModel, Row]] = []
    for rate, l2, epochs in itertools.product(LEARNING_RATES, L2, EPOCHS):
        settings = PropensitySettings(learning_rate=rate, l2=l2, seed=seed)
        model = PropensityModel(graph, settings)
        model.fit(batch, epochs=epochs)
        auc = area_under_roc(model.logits(choose.features), choose.labels)
        tried.append((auc, model, {"learning_rate": rate, "l2": l2, "epochs": epochs}))
    return max(tried, key=lambda found: found[0])[1:]


def propensity_rows(cases: Cases, *, seeds: int) -> list[Row]:
    """Measure both graphs, and the peer, on every seed's split."""
    from models.propensity_graph import export_propensity

    width = cases.features.shape[1]
    graphs = {
        name: LiteRtModel(export_propensity(features=width, hidden=hidden, batch=BATCH)[0])
        for name, hidden in (("logistic", 0), (f"layer of {HIDDEN}", HIDDEN))
    }
    rows = []
    for seed in range(seeds):
        learn, choose, test = split(cases, seed=seed, shares=(0.6, 0.2, 0.2))
        for name, graph in graphs.items():
            model, chosen = fit_propensity(graph, learn, choose, seed=seed)
            platt = fit_platt(model.logits(choose.features), choose.labels)
            before = reliability(model.predict(test.features), test.labels)
            after = reliability(platt.apply(model.logits(test.features)), test.labels)
            rows.append(
                {
                    "model": name,
                    "seed": seed,
                    "auc": area_under_roc(model.logits(test.features), test.labels),
                    "error_before": before.expected_calibration_error,
                    "error": after.expected_calibration_error,
                    "sentence": after.sentence(),
                    **chosen,
                }
            )
        if importlib.util.find_spec("sklearn") is not None:
            rows.append({"model": "scikit-learn", "seed": seed, **peer(learn, choose, test)})
    return rows


def peer(learn: Cases, choose: Cases, test: Cases) -> Row:
    """Train scikit-learn's logistic regression on the same columns, and calibrate it as ours."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    tried: list[tuple[float, Any, float]] = []
    for c in PEER_C:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2_000))
        model.fit(learn.features, learn.labels)
        auc = area_under_roc(model.decision_function(choose.features), choose.labels)
        tried.append((auc, model, c))
    _, best, best_c = max(tried, key=lambda found: found[0])
    scores = best.decision_function
    platt = fit_platt(scores(choose.features), choose.labels)
    before = reliability(best.predict_proba(test.features)[:, 1], test.labels)
    after = reliability(platt.apply(scores(test.features)), test.labels)
    return {
        "auc": area_under_roc(scores(test.features), test.labels),
        "error_before": before.expected_calibration_error,
        "error": after.expected_calibration_error,
        "c": best_c,
    }


def uplift_row(cases: Cases, *, seed: int) -> Row:
    """Choose the penalty on the validation part, then measure the test part once."""
    learn, choose, test = split(cases, seed=seed, shares=(0.5, 0.25, 0.25))
    share = float(cases.treated.mean())

    def fitted(effect_ridge: float) -> UpliftModel:
        model = UpliftModel(n_features=cases.features.shape[1], effect_ridge=effect_ridge)
        model.update(
            learn.features, treated=learn.treated, outcomes=learn.labels, propensities=share
        )
        return model

    def qini(scores: NDArray[Any], on: Cases) -> float:
        return qini_curve(scores, treated=on.treated, outcomes=on.labels).coefficient

    def needs(model: UpliftModel, on: Cases) -> NDArray[np.float64]:
        found = model.estimate(on.features)
        if found is None:
            raise ValueError("expected enough cases for an estimate; got too few")
        return found.uplift

    model = max(map(fitted, EFFECT_RIDGES), key=lambda tried: qini(needs(tried, choose), choose))
    rng = np.random.default_rng(seed)
    at_random = [qini(rng.random(len(test)), test) for _ in range(RANDOM_ORDERS)]
    scores = needs(model, test)
    return {
        "seed": seed,
        "qini": qini(scores, test),
        "random": statistics.fmean(at_random),
        "random_std": statistics.stdev(at_random),
        "sentence": qini_curve(scores, treated=test.treated, outcomes=test.labels).sentence(),
    }


def bandit_rows() -> list[Row]:
    """Time 1,000 arms that were all answered."""
    rows = []
    for d in FEATURES:
        rng = np.random.default_rng(d)
        bandit = LinearBandit(n_features=d, max_arms=ARMS)
        arms = [f"arm-{place}" for place in range(ARMS)]
        for arm in arms * 3:
            bandit.update(arm, rng.standard_normal(d), reward=float(rng.random() < 0.3))
        shared, each = rng.standard_normal(d), rng.standard_normal((ARMS, d))
        believed = bandit.estimate(arms, shared)
        rows.append(
            {
                "features": d,
                "estimate_us": _median_us(lambda: bandit.estimate(arms, shared)),  # noqa: B023 - called at once
                "estimate_each_us": _median_us(lambda: bandit.estimate(arms, each)),  # noqa: B023
                "ucb_us": _median_us(lambda: ucb_policy(believed, alpha=1.0)),  # noqa: B023
                "thompson_us": _median_us(lambda: thompson_policy(believed, scale=0.5, seed=1)),  # noqa: B023
                "update_us": _median_us(lambda: bandit.update(arms[0], shared, reward=1.0)),  # noqa: B023
            }
        )
    return rows


def _median_us(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return 1e6 * statistics.median(taken)


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.4f} ± {deviation:.4f}"


def _print_propensity(title: str, rows: list[Row]) -> None:
    print(f"\nPropensity, Online Shoppers, {title} (mean ± deviation over seeds)")
    print(f"{'':14} {'AUC':>17} {'error, raw':>17} {'calibrated':>17}")
    for name in dict.fromkeys(row["model"] for row in rows):
        of = [row for row in rows if row["model"] == name]
        columns = [_spread([row[key] for row in of]) for key in ("auc", "error_before", "error")]
        print(f"{name:14} {columns[0]:>17} {columns[1]:>17} {columns[2]:>17}")
    print(rows[0]["sentence"])
    peers = {row["seed"]: row["auc"] for row in rows if row["model"] == "scikit-learn"}
    if not peers:
        print("scikit-learn is not installed: no peer")
        return
    gaps = [row["auc"] - peers[row["seed"]] for row in rows if row["model"] == "logistic"]
    worst = max(row["error"] for row in rows if row["model"] == "logistic")
    print(f"logistic: largest calibrated error of a seed {worst:.4f}")
    print("logistic minus scikit-learn, seed by seed: " + ", ".join(f"{gap:+.4f}" for gap in gaps))


def _print_uplift(arm: str, rows: list[Row]) -> None:
    print(f"\nUplift, Hillstrom, {arm} e-mail against none, visits")
    for row in rows:
        print(
            f"seed {row['seed']}  Qini {row['qini']:+.5f}   random {row['random']:+.5f} "
            f"± {row['random_std']:.5f}   "
            f"{(row['qini'] - row['random']) / row['random_std']:+.1f} of its deviations"
        )
    print(f"mean over seeds {_spread([row['qini'] for row in rows])}; {rows[0]['sentence']}")


def _print_priors(rows: list[Row]) -> None:
    print(
        f"\nBandit, chances of a yes that somebody new misses in {ROUNDS} questions "
        "(synthetic town, mean ± deviation over seeds)"
    )
    cases = dict.fromkeys((row["people"], row["epsilon"]) for row in rows)
    for people, epsilon in cases:
        found = [r["regret"] for r in rows if (r["people"], r["epsilon"]) == (people, epsilon)]
        name = f"prior of {people:,} people, ε = {epsilon:g}" if people else "no prior"
        print(f"{name:36} {_spread(found):>17}")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 0 when it ran, 2 when the data is not there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, help="folder that holds the two data sets")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    parser.add_argument("--seeds", type=int, default=3, help="splits to measure")
    options = parser.parse_args(arguments)
    folder = data_folder(options.data)
    missing = [name for name in (SHOPPERS_FILE, HILLSTROM_FILE) if not (folder / name).is_file()]
    if missing:
        print(f"{missing[0]} is not in {folder}; name the folder with --data", file=sys.stderr)
        return 2
    result: dict[str, Any] = {"propensity": {}, "uplift": {}, "bandit": bandit_rows()}
    for title, page_values in (("without PageValues", False), ("with PageValues", True)):
        rows = propensity_rows(load_shoppers(folder, page_values=page_values), seeds=options.seeds)
        result["propensity"][title] = rows
        _print_propensity(title, rows)
    for arm in HILLSTROM_ARMS:
        cases = load_hillstrom(folder, arm=arm)
        result["uplift"][arm] = [uplift_row(cases, seed=seed) for seed in range(options.seeds)]
        _print_uplift(arm, result["uplift"][arm])
    print(f"\nBandit, {ARMS:,} arms, microseconds (median)")
    for row in result["bandit"]:
        print(
            f"{row['features']:3} features  score {row['estimate_us']:5.0f}  score with features "
            f"of each {row['estimate_each_us']:5.0f}  LinUCB {row['ucb_us']:4.0f}  Thompson "
            f"{row['thompson_us']:5.0f}  learn one answer {row['update_us']:4.0f}"
        )
    result["bandit_priors"] = prior_rows(seeds=options.seeds, people=PEOPLE)
    _print_priors(result["bandit_priors"])
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
