"""A small town for experiments: only the people are few."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ITEMS = 30


@pytest.fixture(scope="session")
def make_town(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Write the events of some people of two tastes.

    Half of the people buy the first items, half the last, in six visits each.
    """

    def make(people: int) -> Path:
        rng = np.random.default_rng(1)
        lines = ["user,item,timestamp,session"]
        for person in range(people):
            taste = np.arange(ITEMS // 2) + (ITEMS // 2) * (person % 2)
            for visit in range(6):
                when = 1_700_000_000 + visit * 86_400
                lines += [
                    f"p{person},item-{item},{when},{person}-{visit}"
                    for item in rng.choice(taste, 4, replace=False)
                ]
        path = tmp_path_factory.mktemp("town") / "events.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return make
