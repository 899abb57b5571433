"""The benchmark of propensities learned together, without its data, on a planted world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aggregator.propensity_learning import PropensityRecipe
from benchmarks.experiments import Cases, area_under_roc
from benchmarks.propensity_population import (
    SESSIONS,
    holdings_of,
    learn,
    main,
    name_of,
    print_rows,
    town_of,
)
from models.item_training import ServerOptimizer
from models.propensity_training import initial_weights
from privacy.factorisation import FactorisationName

FEATURES = 6


def planted(n: int = 3_003) -> Cases:
    """Sessions of which the first two features say who buys."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((n, FEATURES))
    chances = 1 / (1 + np.exp(-(features @ [2.0, -1.0, 0, 0, 0, 0] - 1.0)))
    return Cases(
        features=features,
        labels=(rng.random(n) < chances).astype(np.float64),
        treated=np.zeros(n, np.bool_),
    )


def test_town_of_sessions_is_people_who_are_in_one_part_only() -> None:
    """Whole people, 60 : 20 : 20, no session twice; what does not fill a person is left out."""
    cases = planted()
    town = town_of(cases, seed=1)
    sizes = [len(part) for part in (town.train, town.choose, town.test)]
    assert sizes == [360 * SESSIONS, 120 * SESSIONS, 120 * SESSIONS]
    rows = np.concatenate([part.features[:, 0] for part in (town.train, town.choose, town.test)])
    assert len(np.unique(rows)) == len(rows) == len(cases) - 3
    assert not np.array_equal(town_of(cases, seed=2).test.features, town.test.features)


def test_learn_planted_world_is_found_and_noise_costs_something() -> None:
    """The AUC rises far over the start; with the noise of a tiny ε it is no better than chance."""
    town = town_of(planted(), seed=0)
    start = initial_weights(centre=np.zeros(FEATURES), scale=np.ones(FEATURES))
    recipe = PropensityRecipe(
        name="buys",
        rounds=6,
        optimizer=ServerOptimizer(learning_rate=3.0, momentum=0.5),
        mechanism=FactorisationName.INDEPENDENT_ROUNDS,
        min_separation=2,
    )

    def auc(epsilon: float | None, times: int = 1) -> float:
        weights = learn(
            holdings_of(town.train, hidden=0), start, recipe, epsilon=epsilon, times=times, seed=1
        )
        return area_under_roc(town.test.features @ weights.parameters[:-1], town.test.labels)

    best = auc(None)
    assert best > 0.85
    assert auc(8.0, times=100) == pytest.approx(best, abs=0.01)
    assert auc(0.01) < best - 0.1


def test_print_rows_name_the_people_that_noise_assumes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A forecast says so beside its number."""
    row = {
        "arm": "federated", "hidden": 0, "epsilon": 2.0, "times": 10, "seed": 0, "people": 1_479,
        "auc": 0.7, "error": 0.01, "error_calibrated": 0.02,
    }  # fmt: skip
    assert name_of(row) == "federated, ε = 2 (assumes 14,790 people)"
    print_rows([row, {**row, "times": 1}, {**row, "epsilon": None}])
    text = capsys.readouterr().out
    assert "ε = 2 (assumes 14,790 people)" in text
    assert "as if so many took part" in text


def test_main_without_data_or_with_nonsense_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback."""
    assert main(["--data", str(tmp_path)]) == 2
    assert "name the folder with --data" in capsys.readouterr().err
    for words in (["--seeds", "0"], ["--seeds", "many"], ["--nonsense"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
