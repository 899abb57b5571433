"""The chart of a round's cost: what is counted, and what is called faster than touched rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulation.scale import Cell, growth_of, main, touched_rows
from benchmarks.simulation.workload import Settings
from client_sdk.intelligence.history import History
from simulations.engines.columns import HistoryColumns


def _cell(devices: int, *, rows: int, people_s: float) -> Cell:
    return Cell(
        devices=devices,
        items=100,
        cohort=devices // 50,
        cohort_is="proportional",
        touched_rows=rows,
        people_s=people_s,
        noise_s=1.0,
        optimiser_s=1.0,
        table_s=1.0,
    )


def test_growth_of_seconds_rising_faster_than_rows_is_said() -> None:
    """Ten times the rows in ten times the seconds is fine; in twenty times it is not."""
    cells = [_cell(1_000, rows=100, people_s=1.0), _cell(10_000, rows=1_000, people_s=10.0)]
    assert [each["no_faster"] for each in growth_of(cells)] == [True]
    cells.append(_cell(100_000, rows=10_000, people_s=200.0))
    assert [each["no_faster"] for each in growth_of(cells)] == [True, False]


def test_touched_rows_whole_catalogue_is_everything() -> None:
    """Somebody who draws often enough touches each item once, and is counted so."""
    history = History.from_events(items=np.arange(20), times_s=np.zeros(20), now_s=1.0)
    histories = HistoryColumns.from_histories([history, history], now_s=1.0)
    settings = Settings(
        seed=1,
        cohort=2,
        steps=3,
        learning_rate=0.3,
        negatives=4,
        ridge=1.0,
        clip_norm=1.0,
        noise_multiplier=1.0,
        server_learning_rate=1.0,
        momentum=0.0,
    )
    found = touched_rows(histories, np.arange(2), n_items=24, settings=settings)
    assert found == 2 * 24


def test_main_small_towns_writes_table_and_chart(tmp_path: Path) -> None:
    """Two sizes of town: each cell has all its parts, and the chart is there."""
    code = main(["--devices", "200", "400", "--items", "300", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "scale.json").read_text())
    assert code == 0
    assert [(cell["devices"], cell["cohort"]) for cell in found["cells"]] == [
        (200, 200),
        (200, 4),
        (400, 400),
        (400, 8),
    ]
    assert all(cell["people_s"] > 0 and cell["noise_s"] > 0 for cell in found["cells"])
    assert (tmp_path / "scale.png").stat().st_size > 10_000


def test_main_nonsense_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """No town of ten people: one line, code 2."""
    with pytest.raises(SystemExit) as refused:
        main(["--devices", "10"])
    assert refused.value.code == 2
    assert "devices start at 100" in capsys.readouterr().err
