"""Propensity training by columns: both graphs beside LiteRT, blocks of people, and nonsense."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client_sdk.federation.propensity import AskedPropensity
from client_sdk.intelligence import History
from client_sdk.intelligence.litert import LiteRtModel
from client_sdk.intelligence.propensity_steps import LabelledBatch, PropensityCases
from client_sdk.wire.propensity import PropensityWeights, parameter_count
from simulations.engines.columns import HistoryColumns
from simulations.engines.encoders.propensity_training import changes_of
from simulations.engines.holdings import ActiveRelease, Holdings, PropensityColumns

FEATURES, BATCH, PEOPLE = 4, 3, 40
COLUMNS = PropensityColumns(
    hidden=0,
    batch=BATCH,
    offsets=np.array([0, 1, 3]),
    features=np.zeros((3, 2), np.float32),
    labels=np.array([0, 1, 0], np.float32),
    weights=np.array([1, 0, 2], np.float32),
)


def batches() -> list[LabelledBatch]:
    """Cases of many people: from one to four calls of the graph each."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 4 * BATCH, PEOPLE)
    return [
        LabelledBatch(
            features=rng.standard_normal((n, FEATURES)) * [1.0, 30.0, 1e6, 0.1],
            labels=rng.random(n) < 0.3,
            weights=rng.random(n),
        )
        for n in sizes.tolist()
    ]


@pytest.mark.parametrize("hidden", [0, 3])
def test_changes_of_many_people_are_those_of_litert_person_by_person(hidden: int) -> None:
    """To 1e-5 each, and the same to the bit whoever else is asked."""
    exporter = pytest.importorskip("models.propensity_graph", exc_type=ImportError)
    data, _ = exporter.export_propensity(features=FEATURES, hidden=hidden, batch=BATCH)
    graph, rng = LiteRtModel(data), np.random.default_rng(1)
    start = PropensityWeights(
        hidden=hidden,
        centre=np.array([0.1, 0.0, 0.0, 0.0], np.float32),
        scale=np.array([1.0, 0.03, 1e-6, 10.0], np.float32),
        parameters=rng.standard_normal(parameter_count(FEATURES, hidden)).astype(np.float32),
    )
    asked = AskedPropensity(
        propensity="buys", features=FEATURES, hidden=hidden, learning_rate=0.4, memory=0.2, passes=3
    )
    cases = batches()
    columns = PropensityColumns.from_batches(cases, n_features=FEATURES, hidden=hidden, batch=BATCH)
    everyone = np.arange(PEOPLE)[::-1].copy()
    found = changes_of(columns, everyone, start, asked)[::-1]
    for person, batch in enumerate(cases):
        expected = PropensityCases(graph=graph, batch=batch).change_from(
            start, learning_rate=0.4, memory=0.2, passes=3
        )
        assert np.linalg.norm(found[person] - expected) <= 1e-5 * np.linalg.norm(expected)
        alone = changes_of(columns, np.array([person]), start, asked)[0]
        assert np.array_equal(found[person], alone)
    blocks = changes_of(columns, np.arange(PEOPLE), start, asked, numbers_at_once=100)
    assert np.array_equal(blocks, found)
    assert len({each.tobytes() for each in found}) == PEOPLE


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": np.array([0, 1])}, {"offsets": np.array([0, 4, 3])}, {"batch": 0},
        {"hidden": -1}, {"features": np.zeros((2, 2), np.float32)},
        {"labels": np.array([0, 1, 2], np.float32)},
        {"labels": np.array([0, 1, np.nan], np.float32)},
        {"weights": np.array([0, 1, -1], np.float32)},
        {"weights": np.array([0, 1, np.inf], np.float32)},
        {"weights": np.zeros(2, np.float32)},
    ],
    ids=str,
)  # fmt: skip
def test_columns_of_cases_that_are_none_are_refused(changes: dict[str, Any]) -> None:
    """Nonsense never reaches the kernel."""
    with pytest.raises(ValueError, match=r"expected|must"):
        replace(COLUMNS, **changes)


def test_holdings_with_cases_of_other_people_are_refused() -> None:
    """Everybody has a place in every column; and who has a case that counts is known."""
    assert COLUMNS.counting().tolist() == [1, 1]
    history = History.from_events(items=[0], times_s=[1.0], now_s=3.0)
    with pytest.raises(ValueError, match="3 people"):
        Holdings(
            release=ActiveRelease(catalogue_sha256="c", policy_sha256="p", n_items=1),
            histories=HistoryColumns.from_histories([history] * 3, now_s=3.0),
            propensities={"buys": COLUMNS},
        )
