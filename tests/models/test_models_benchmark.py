"""The benchmark of the decision models without its data, which the product may not carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bandit_population import prior_rows
from benchmarks.experiments import Cases, area_under_roc, data_folder, split
from benchmarks.models import main


def test_models_benchmark_data_absent_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever lacks the data reads where it was looked for, and no traceback."""
    assert data_folder(tmp_path) == tmp_path
    assert main(["--data", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert "--data" in printed.err


def test_area_under_roc_is_the_share_of_pairs_in_order() -> None:
    """Every pair of a positive and a negative, counted one by one; a tie counts half."""
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 9, 200).astype(float), rng.integers(0, 2, 200)
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    pairs = np.mean((gaps > 0) + 0.5 * (gaps == 0))
    assert area_under_roc(scores, labels) == pytest.approx(pairs)


def test_split_cuts_every_case_into_one_part() -> None:
    """Shares hold, nothing is lost or twice, and a seed repeats."""
    cases = Cases(
        features=np.arange(50.0)[:, None], labels=np.zeros(50), treated=np.zeros(50, np.bool_)
    )
    parts = split(cases, seed=1, shares=(0.6, 0.2, 0.2))
    again = split(cases, seed=1, shares=(0.6, 0.2, 0.2))
    assert [len(part) for part in parts] == [30, 10, 10]
    assert sorted(np.concatenate([part.features[:, 0] for part in parts])) == list(range(50))
    assert np.array_equal(parts[2].features, again[2].features)


def test_bandit_population_prior_of_others_saves_a_newcomer_regret() -> None:
    """Rows for no prior and for each ε; more people and a larger ε help, on the same newcomers."""
    rows = prior_rows(seeds=1, people=(50, 400), newcomers=12)
    found = {(row["people"], row["epsilon"]): row["regret"] for row in rows}
    assert list(found) == [(0, None), (50, 2.0), (50, 8.0), (400, 2.0), (400, 8.0)]
    assert found[400, 8.0] < 0.5 * found[0, None]
    assert found[400, 8.0] < found[50, 2.0]
    assert prior_rows(seeds=1, people=(50,), newcomers=12)[1]["regret"] == found[50, 2.0]
