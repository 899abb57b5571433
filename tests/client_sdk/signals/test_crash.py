"""Killed at any moment: what was acknowledged is there, once; what was not is there whole or not.

Each kill is a real SIGKILL of another process, after a random time of work on a real file. The
times and the work are seeded; where exactly a kill lands is the machine's.
"""

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client_sdk.keys import FileKeyStore
from client_sdk.signals import Vault
from tests.client_sdk.signals import crash_workload
from tests.client_sdk.signals.crash_workload import Model, Step, found
from tests.client_sdk.victims import Victims

KILLS = 200
KILLS_OF_NEW = 40
KILLS_OF_MIGRATION = 40
LONGEST_S = 0.03
STORE_OF_1 = Path(__file__).parent / "stores" / "v1"


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    """One server for all tests."""
    with Victims.of(crash_workload.__file__) as server:
        yield server


def acknowledge(model: Model, said: list[dict[str, Any]]) -> Step | None:
    """Bring a model to what must be there after these words; give the step that is not known of."""
    open_step: Step | None = None
    for line in said:
        assert "error" not in line, line
        if "begin" in line:
            open_step = line["begin"]
        elif "done" in line and open_step is not None:
            model.do(open_step)
            open_step = None
    return open_step


@pytest.mark.slow
def test_vault_killed_at_200_moments_has_what_it_acknowledged(
    tmp_path: Path, victims: Victims, record_property: Any
) -> None:
    """One store through 200 kills: it opens, nothing is missing, twice, half, or left behind."""
    folder, keys = tmp_path / "vault", tmp_path / "keys"
    rng = random.Random(20_260_101)  # noqa: S311 - a test's choices
    model, first, hit = Model(), 0, Counter[str]()
    for kill in range(KILLS):
        order = {"folder": str(folder), "keys": str(keys), "seed": kill, "first": first}
        said = victims.kill_one(order, rng.random() * LONGEST_S)
        open_step = acknowledge(model, said)
        after = model if open_step is None else model.after(open_step)
        first += sum(line["begin"].get("count", 0) for line in said if "begin" in line)
        hit[open_step["do"] if open_step else "between" if {"open": True} in said else "open"] += 1

        vault = Vault.open(folder, FileKeyStore(keys))
        is_there = found(vault)
        assert is_there in (model, after), f"after kill {kill} in {open_step}"
        assert list(is_there.ids) == list((model if is_there == model else after).ids)
        model = is_there
        assert vault.check() == []
        assert [path.name for path in keys.iterdir()] == [vault.key_name]
        vault.close()
    print(f"{KILLS} kills, {first} events begun; they hit: {dict(hit)}")
    record_property("kills", KILLS)
    record_property("hit", dict(hit))
    # Otherwise the kills came at the wrong times, and the test says nothing.
    assert sum(hit[do] for do in crash_workload.STEPS) > KILLS / 4


def test_vault_killed_while_it_is_made_is_made_the_next_time(
    tmp_path: Path, victims: Victims
) -> None:
    """A first opening that was killed leaves nothing in the way, and no second key."""
    rng = random.Random(1)  # noqa: S311 - a test's choices
    for kill in range(KILLS_OF_NEW):
        folder, keys = tmp_path / f"vault-{kill}", tmp_path / f"keys-{kill}"
        order = {"folder": str(folder), "keys": str(keys), "seed": 0, "first": 0, "steps": 0}
        victims.kill_one(order, rng.random() * 0.01)
        vault = Vault.open(folder, FileKeyStore(keys))
        assert vault.check() == []
        assert [path.name for path in keys.iterdir()] == [vault.key_name]
        vault.close()


def test_vault_killed_while_it_migrates_has_everything(tmp_path: Path, victims: Victims) -> None:
    """A store of format 1 is of format 1 or 2 after each kill, with all that it had."""
    rng = random.Random(2)  # noqa: S311 - a test's choices
    expected = json.loads((STORE_OF_1 / "expected.json").read_text(encoding="utf-8"))
    halfway = 0
    for kill in range(KILLS_OF_MIGRATION):
        folder = tmp_path / f"vault-{kill}"
        shutil.copytree(STORE_OF_1, folder)
        keys = folder / "keys"
        # A clone of the repository does not keep permissions.
        for path in (folder, keys, *keys.iterdir()):
            path.chmod(0o700 if path.is_dir() else 0o600)
        order = {"folder": str(folder), "keys": str(keys), "seed": 0, "first": 0, "steps": 0}
        said = victims.kill_one(order, rng.random() * 0.01)
        halfway += {"open": True} not in said
        vault = Vault.open(folder, FileKeyStore(keys))
        assert [event.to_json() for _, event in vault.events()] == expected["events"]
        assert [[r.stream, r.key, r.value] for r in vault.records()] == expected["records"]
        assert vault.check() == []
        vault.close()
    assert halfway > 0
