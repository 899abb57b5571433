"""A propensity learned together: ``python -m benchmarks.propensity_population [--json FILE]``.

Online Shoppers (who buys, without ``PageValues``), as if it were people: the file has no person in
it, so `SESSIONS` sessions at a time, drawn at random anew for each seed, are called one. Real
people's sessions are more alike than that, so a real cohort learns less from as many sessions.
60 % of these people train, 20 % choose the settings, 20 % are the test. The data is not part of the
product: ``--data`` names a folder that holds ``online-shoppers/`` (by default
``$HOMEBODY_SHARED/data``, or ``../shared/data``). Without it: one line, exit code 2.

- ``start``: the weights before any round.
- ``central``: all training sessions in one place, the same graph, Adagrad, settings by validation.
- ``federated``: `aggregator.propensity_learning.learn_propensity` with a real ledger and the kernel
  engine (which equals LiteRT on devices); everybody in every `SEPARATION`th round. With ε at
  δ = 1e-6: as it is, and with the noise of a population 10 and 100 times as large, which is a
  forecast and says so. Clip and server step are chosen on the validation people by the loss of a
  run with other noise; what that choice would cost in privacy is not booked.

The scale of the features is public: ranges fixed here by hand, not read from the sessions. The
calibration error is that of the raw probabilities on the test sessions, and of those that Platt's
two numbers, fitted in one place on the validation sessions, make of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.in_process import InProcessGrid
from aggregator.ledger import Ledger
from aggregator.propensity_learning import PropensityRecipe, learn_propensity
from aggregator.run_keys import FileNoiseKeys
from aggregator.run_store import RunStore
from aggregator.strategy import ReleaseLedger
from aggregator.training_run import TrainingRuns
from benchmarks.experiments import (
    SHOPPERS_FILE,
    Cases,
    area_under_roc,
    data_folder,
    load_shoppers,
)
from client_sdk.intelligence import History
from client_sdk.intelligence.calibration import fit_platt, reliability
from client_sdk.intelligence.litert import LiteRtModel
from client_sdk.intelligence.propensity import PropensityModel
from client_sdk.wire.propensity import PropensityWeights
from models.item_training import ServerOptimizer
from models.propensity_training import initial_weights
from privacy.budget import Budget
from privacy.events import AssumedPopulation
from privacy.noise import GaussianNoise
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import Crowd
from simulations.engines.holdings import ActiveRelease, Holdings, PropensityColumns
from simulations.engines.kernel import KernelStrategy
from simulations.house import UnsafeUnbookedLedger

SESSIONS: Final = 5
SEEDS: Final = 3
ROUNDS: Final = 24
SEPARATION: Final = 4
DELTA: Final = 1e-6
HIDDEN: Final = 8
BATCH: Final = 64
CLIPS: Final = (0.5, 1.0)
SERVER_RATES: Final = (0.5, 1.5, 4.0)
ARMS: Final = (
    (None, 1), (2.0, 1), (2.0, 10), (2.0, 100), (8.0, 1), (8.0, 10), (8.0, 100),
)  # fmt: skip
LAYER_ARMS: Final = ((None, 1), (8.0, 1), (8.0, 100))
_NAME: Final = "buys"
_NOW_S: Final = 1_800_000_000.0
_SHA256: Final = "0" * 64
# Administrative, Informational, ProductRelated (pages, as log1p), BounceRates, ExitRates,
# SpecialDay, three durations (seconds, as log1p): ends of what is ordinary.
_PUBLIC_RANGES: Final = (
    (0.0, 3.0), (0.0, 3.0), (0.0, 6.0), (0.0, 0.2), (0.0, 0.2), (0.0, 1.0),
    (0.0, 8.0), (0.0, 8.0), (0.0, 10.0),
)  # fmt: skip
_PAGE_COUNTS: Final = (0, 1, 2)

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Town:
    """One seed's people.

    Attributes:
        train: Their sessions, person by person, `SESSIONS` each.
        choose: Sessions of the people who choose the settings.
        test: Sessions of those who judge.
    """

    train: Cases
    choose: Cases
    test: Cases

    @property
    def people(self) -> int:
        """How many train."""
        return len(self.train) // SESSIONS


def town_of(cases: Cases, *, seed: int) -> Town:
    """Draw people of `SESSIONS` sessions each, and split them 60 : 20 : 20."""
    people = len(cases) // SESSIONS
    rows = np.random.default_rng(seed).permutation(len(cases))[: people * SESSIONS]
    ends = np.round(np.array([0.6, 0.8]) * people).astype(np.intp) * SESSIONS
    train, choose, test = (cases.take(part) for part in np.split(rows, ends))
    return Town(train=train, choose=choose, test=test)


def shoppers(folder: Path) -> Cases:
    """Read the sessions; counts of pages as their logarithm."""
    cases = load_shoppers(folder, page_values=False)
    features = cases.features.copy()
    features[:, _PAGE_COUNTS] = np.log1p(features[:, _PAGE_COUNTS])
    return Cases(features=features, labels=cases.labels, treated=cases.treated)


def public_start(n_features: int, *, hidden: int, seed: int) -> PropensityWeights:
    """Start on the public scale: numbers by their ranges, all else (0 or 1) as it is."""
    low = np.array([each[0] for each in _PUBLIC_RANGES])
    high = np.array([each[1] for each in _PUBLIC_RANGES])
    centre, scale = np.zeros(n_features), np.ones(n_features)
    centre[: len(low)], scale[: len(low)] = (low + high) / 2, 4.0 / (high - low)
    return initial_weights(centre=centre, scale=scale, hidden=hidden, seed=seed)


def holdings_of(cases: Cases, *, hidden: int) -> Holdings:
    """Lay people out for the kernel engine; their histories play no part, and are one item."""
    people = len(cases) // SESSIONS
    history = History.from_events(items=[0], times_s=[_NOW_S - 1.0], now_s=_NOW_S)
    return Holdings(
        release=ActiveRelease(catalogue_sha256=_SHA256, policy_sha256=_SHA256, n_items=1),
        histories=HistoryColumns.from_histories([history] * people, now_s=_NOW_S),
        propensities={
            _NAME: PropensityColumns(
                hidden=hidden,
                batch=BATCH,
                offsets=np.arange(people + 1, dtype=np.int64) * SESSIONS,
                features=cases.features.astype(np.float32),
                labels=cases.labels.astype(np.float32),
                weights=np.ones(len(cases), np.float32),
            )
        },
    )


def learn(
    holdings: Holdings,
    start: PropensityWeights,
    recipe: PropensityRecipe,
    *,
    epsilon: float | None,
    times: int,
    seed: int,
) -> PropensityWeights:
    """Train once, with a ledger and a store of its own.

    Args:
        holdings: Who trains.
        start: The first weights.
        recipe: How.
        epsilon: Of the whole run at `DELTA`; None for no noise.
        times: How many times as many people the noise stands for; 1 for as it is.
        seed: Of the noise.
    """
    people = holdings.people
    nobody: Grid = InProcessGrid({})

    def cohort(number: int) -> Sequence[int]:
        return range(1 + number % recipe.min_separation, people + 1, recipe.min_separation)

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/house.db"
        ledger = Ledger(url, {"town": Budget(epsilon=epsilon or 1.0, delta=DELTA)})
        store = RunStore(url)
        runs = TrainingRuns(ledger=ledger, store=store, keys=FileNoiseKeys(Path(folder) / "keys"))
        booked: ReleaseLedger = UnsafeUnbookedLedger() if epsilon is None else ledger
        campaign = Campaign(
            strategy=KernelStrategy(
                ledger=booked, crowd=Crowd.willing(holdings), clock=lambda: _NOW_S
            ),
            grid=nobody,
            population="town",
            n_items=1,
            catalogue_sha256=_SHA256,
            policy_sha256=_SHA256,
            report_goal=people // recipe.min_separation,
            quorum=1,
            privacy=UnsafeNoPrivacy()
            if epsilon is None
            else PrivacyTarget(
                epsilon=epsilon,
                delta=DELTA,
                new_noise=lambda: GaussianNoise.from_seed_for_simulation(seed),
                assumed=None
                if times == 1
                else AssumedPopulation(simulated_people=people, people=times * people),
            ),
            runs=runs,
            clock=lambda: _NOW_S,
        )
        try:
            return learn_propensity(campaign, start, recipe, cohort_of=cohort).weights
        finally:
            ledger.close()
            store.close()


def recipes() -> list[PropensityRecipe]:
    """Give every setting that validation chooses from."""
    return [
        PropensityRecipe(
            name=_NAME,
            rounds=ROUNDS,
            clip_norm=clip,
            optimizer=ServerOptimizer(learning_rate=rate, momentum=0.9),
            min_separation=SEPARATION,
        )
        for clip, rate in itertools.product(CLIPS, SERVER_RATES)
    ]


def federated_row(
    town: Town, graph: LiteRtModel, *, hidden: int, epsilon: float | None, times: int, seed: int
) -> Row:
    """Choose on the validation people, train anew with other noise, judge on the test."""
    holdings = holdings_of(town.train, hidden=hidden)
    start = public_start(town.train.features.shape[1], hidden=hidden, seed=seed)

    def judged(recipe: PropensityRecipe) -> float:
        weights = learn(holdings, start, recipe, epsilon=epsilon, times=times, seed=2 * seed)
        return loss_of(PropensityModel(graph, start=weights), town.choose)

    best = min(recipes(), key=judged)
    weights = learn(holdings, start, best, epsilon=epsilon, times=times, seed=2 * seed + 1)
    assumed = AssumedPopulation(simulated_people=town.people, people=times * town.people)
    return {
        "arm": "federated", "hidden": hidden, "epsilon": epsilon, "times": times, "seed": seed,
        "people": town.people, "clip": best.clip_norm, "rate": best.optimizer.learning_rate,
        "assumed": None if epsilon is None or times == 1 else assumed.label,
        **judge(PropensityModel(graph, start=weights), town),
    }  # fmt: skip


def auc_of(model: PropensityModel, cases: Cases) -> float:
    """Give the area under the curve of a model's log odds."""
    return area_under_roc(model.logits(cases.features), cases.labels)


def loss_of(model: PropensityModel, cases: Cases) -> float:
    """Give the mean logistic loss: what is far off or too sure costs, not the order alone."""
    logits = model.logits(cases.features).astype(np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - cases.labels * logits))


def judge(model: PropensityModel, town: Town) -> dict[str, float]:
    """Measure a model on the test sessions."""
    test, choose = town.test, town.choose
    platt = fit_platt(model.logits(choose.features), choose.labels)
    calibrated: NDArray[Any] = platt.apply(model.logits(test.features))
    raw = reliability(model.predict(test.features), test.labels)
    return {
        "auc": auc_of(model, test),
        "error": raw.expected_calibration_error,
        "error_calibrated": reliability(calibrated, test.labels).expected_calibration_error,
    }


def rows_of(cases: Cases, *, seeds: int) -> list[Row]:
    """Measure every arm on every seed's people."""
    from benchmarks.models import fit_propensity
    from models.propensity_graph import export_propensity

    width, rows = cases.features.shape[1], []
    for hidden, arms in ((0, ARMS), (HIDDEN, LAYER_ARMS)):
        graph = LiteRtModel(export_propensity(features=width, hidden=hidden, batch=BATCH)[0])
        for seed in range(seeds):
            town = town_of(cases, seed=seed)
            start = public_start(width, hidden=hidden, seed=seed)
            central, _ = fit_propensity(graph, town.train, town.choose, seed=seed)
            for arm, model in (
                ("start", PropensityModel(graph, start=start)),
                ("central", central),
            ):
                rows.append(
                    {"arm": arm, "hidden": hidden, "seed": seed, **judge(model, town)}
                )  # fmt: skip
            for epsilon, times in arms:
                rows.append(
                    federated_row(
                        town, graph, hidden=hidden, epsilon=epsilon, times=times, seed=seed
                    )
                )
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def name_of(row: Row) -> str:
    """Say what an arm is, with the people that its noise assumes."""
    if row["arm"] != "federated":
        return str(row["arm"])
    if row["epsilon"] is None:
        return "federated, no noise"
    assumed = "" if row["times"] == 1 else f" (assumes {row['times'] * row['people']:,} people)"
    return f"federated, ε = {row['epsilon']:g}{assumed}"


def print_rows(rows: Sequence[Row]) -> None:
    """Print means and deviations over the seeds."""
    for hidden in dict.fromkeys(row["hidden"] for row in rows):
        kind = f"a layer of {hidden}" if hidden else "logistic"
        print(f"\nOnline Shoppers in made-up people of {SESSIONS} sessions, {kind}")
        print(f"{'':44} {'AUC':>15} {'error, raw':>15} {'after Platt':>15}")
        of = [row for row in rows if row["hidden"] == hidden]
        for name in dict.fromkeys(map(name_of, of)):
            found = [row for row in of if name_of(row) == name]
            columns = [
                _spread([row[key] for row in found]) for key in ("auc", "error", "error_calibrated")
            ]
            print(f"{name:44} {columns[0]:>15} {columns[1]:>15} {columns[2]:>15}")
    trained = [row for row in rows if row["arm"] == "federated"]
    if trained:
        print(
            f"\n{trained[0]['people']:,} people train, {ROUNDS} rounds, a person in every "
            f"{SEPARATION}th at most; mean ± deviation over seeds. Where people are assumed, the "
            "noise is a simulation's: as if so many took part."
        )


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.4f} ± {deviation:.4f}"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 0 when it ran, 2 when the data is not there."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.propensity_population",
        description=(__doc__ or "").split("\n", maxsplit=1)[0],
    )
    parser.add_argument("--data", type=Path, help="folder that holds online-shoppers/")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="ways of drawing people")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"seeds: expected 1 or more; got {options.seeds}")
    folder = data_folder(options.data)
    if not (folder / SHOPPERS_FILE).is_file():
        print(f"{SHOPPERS_FILE} is not in {folder}; name the folder with --data", file=sys.stderr)
        return 2
    rows = rows_of(shoppers(folder), seeds=options.seeds)
    print_rows(rows)
    if options.json is not None:
        try:
            options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            parser.error(f"cannot write {options.json} ({error.strerror})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
