"""Kill -9 at 100 moments of reserve, noise, publish and commit, on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from privacy.accounting import epsilon_gaussian
from privacy.chain import RowKind
from tests.aggregator import run_crash_workload
from tests.aggregator.run_crash_workload import BUDGET, finish, next_run
from tests.aggregator.training_town import TrainingTown
from tests.client_sdk.victims import Victims

KILLS = 100
POSTGRESQL = os.environ.get(
    "HOMEBODY_TEST_POSTGRESQL", "postgresql+psycopg://root@/test?host=/var/run/postgresql"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of its own; PostgreSQL's is a schema, dropped afterwards."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'house.db'}"
        return
    schema = f"homebody_{secrets.token_hex(6)}"
    engine = create_engine(POSTGRESQL)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    except OperationalError as error:
        engine.dispose()
        pytest.skip(f"no PostgreSQL at {POSTGRESQL}: {error.orig}")
    separator = "&" if "?" in POSTGRESQL else "?"
    yield f"{POSTGRESQL}{separator}options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@pytest.mark.slow
def test_training_run_killed_at_100_moments_is_booked_before_it_is_seen(
    url: str, tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Spent is at least what was published, each round has one noise, and every run ends."""
    rng = random.Random(20_261_123)  # noqa: S311 - a test's choices
    keys = tmp_path / "keys"
    town = TrainingTown(url, keys, budget=BUDGET)
    sums: dict[tuple[str, int], set[str]] = {}
    published: dict[str, set[int]] = {}
    hit: Counter[str] = Counter()
    with Victims.of(run_crash_workload.__file__) as victims:
        order = {"url": url, "keys": str(keys)}
        for _ in range(2):
            longest_s = 1.5 * victims.time_one(order, lambda said: said.get("step") == "finished")
        for kill in range(KILLS):
            said = victims.kill_one(order, rng.random() * longest_s)
            assert not [line for line in said if "error" in line], said
            hit[said[-1]["step"] if said else "before"] += 1
            for line in said:
                if "sum" in line:
                    sums.setdefault((line["run"], line["round"]), set()).add(line["sum"])
                if line["step"] == "published":
                    published.setdefault(line["run"], set()).add(line["round"])
            _check(town, published, f"after kill {kill}")
    record_property("hit", dict(hit))
    while town.store.running():
        finish(town, next_run(town))
    states = Counter(each.state for each in town.ledger.reservations())
    with capsys.disabled():
        print(f" {KILLS} kills, {sum(states.values())} runs; hit {dict(hit)} ", end="")
    assert {len(digests) for digests in sums.values()} == {1}, "a round was made with two noises"
    assert states[RowKind.RESERVE] == 0
    assert states[RowKind.COMMIT] > 1
    assert not list(keys.iterdir())
    # Otherwise the kills came at the wrong times, and the test says nothing.
    assert hit["asking"] > 0
    assert hit["made"] > 0
    assert hit["published"] > 0
    town.close()


def _check(town: TrainingTown, published: dict[str, set[int]], when: str) -> None:
    town.ledger.verify()
    booked = {each.event.task_id: each for each in town.ledger.reservations()}
    for run_id, rounds in published.items():
        assert booked[run_id].state is RowKind.COMMIT, when
        assert rounds <= {facts.get("round") for facts in booked[run_id].notes}, when
    true = [booked[run_id].event for run_id in published]
    spent = town.ledger.spent("town")
    assert epsilon_gaussian(true, BUDGET.delta) <= spent.epsilon_exact, when
