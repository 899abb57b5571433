"""Evaluation over columns gives what the metrics of the arms give, person by person."""

from __future__ import annotations

import numpy as np
import pytest

from client_sdk.intelligence.history import History
from client_sdk.intelligence.ranker import solve_private_vector
from client_sdk.wire.table import RankerSettings, RankerTable
from simulations.engines.columns import HistoryColumns
from simulations.engines.evaluation import evaluate_table

SETTINGS = RankerSettings(form="ridge", ridge=0.5, weighting="log", half_life_days=20.0)


def test_evaluate_table_equals_a_loop_over_devices() -> None:
    """The device's own private vector and a plain sort give the same hit rate and gain."""
    rng = np.random.default_rng(3)
    factors = rng.standard_normal((50, 6)).astype(np.float32)
    factors[30:34] = factors[30]
    table = RankerTable.from_arrays(factors=factors, settings=SETTINGS)
    histories, targets, hits, gains = [], [], 0.0, 0.0
    for person in range(300):
        items = rng.choice(50, rng.integers(0, 12) if person else 0, replace=False)
        times = rng.uniform(0, 5e6, len(items))
        history = History.from_events(items=items, times_s=times, now_s=5e6)
        target = int(rng.choice(np.setdiff1d(np.arange(50), items)))
        scores = factors @ solve_private_vector(table, history)
        left = np.setdiff1d(np.arange(50), [*items, target])
        ahead = int((scores[left] > scores[target] + 1e-5).sum())
        tied = int((np.abs(scores[left] - scores[target]) <= 1e-5).sum())
        for rank in range(ahead, ahead + tied + 1):
            hits += (rank < 10) / (tied + 1)
            gains += (rank < 10) / np.log2(2 + rank) / (tied + 1)
        histories.append(history)
        targets.append(target)
    found = evaluate_table(
        HistoryColumns.from_histories(histories, now_s=5e6),
        np.array(targets, np.int32),
        np.arange(300),
        factors=factors,
        settings=SETTINGS,
    )
    assert found["hr@10"] == pytest.approx(hits / 300, abs=1e-2)
    assert found["ndcg@10"] == pytest.approx(gains / 300, abs=1e-2)
    assert 0.1 < found["hr@10"] < 0.4


def test_evaluate_table_nobody_refused() -> None:
    """A mean over nobody is no number."""
    nobody = HistoryColumns.from_histories([], now_s=0.0)
    with pytest.raises(ValueError, match="nobody"):
        evaluate_table(
            nobody,
            np.zeros(0, np.int32),
            np.zeros(0, np.int64),
            factors=np.zeros((3, 2), np.float32),
            settings=SETTINGS,
        )
