"""A sweep of a small town: two goals, two settings, one arm beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TEXT = """name = "town"
arms = ["popularity"]
seed = 3
[people]
source = "events"
events = "events.csv"
[task]
kind = "item-training"
rounds = 3
cohort = 20
[privacy]
epsilon = [4.0]
population = 100000
[vary]
epsilon = [4.0, inf]
clip = [0.2, 1.0]
[search]
test_seeds = 2
"""


@pytest.fixture(scope="session")
def town_sweep(make_town: Callable[[int], Path]) -> Path:
    """Write the sweep beside the events of forty people."""
    file = make_town(40).with_name("town.toml")
    file.write_text(TEXT, encoding="utf-8")
    return file
