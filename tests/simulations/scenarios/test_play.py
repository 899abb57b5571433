"""A whole scenario on the kernel: the same bits from the same file, whoever adds up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk.wire import Order, Refusal, RunTerms, TaskKind, sha256_hex
from simulations.engines.crowd import REASONS, WILLING, Crowd
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.pool import Threads
from simulations.scenarios.__main__ import main
from simulations.scenarios.conditions import Conditions
from simulations.scenarios.play import NO_NOISE, Play, open_study
from simulations.scenarios.reading import read_scenario
from simulations.scenarios.scenario import Hostile
from simulations.synthetic.generate import generate_shard
from simulations.synthetic.model import HOURS, PopulationModel

TEXT = """seed = 4
[people]
source = "synthetic"
model = "model.json"
count = 300
[task]
kind = "item-training"
rounds = 3
cohort = 150
round_every_hours = 5.0
[privacy]
epsilon = [4.0]
population = 5000
[availability]
reachable = 0.9
charging = [1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1]
[failures]
drop_out = 0.1
stragglers = 0.1
[consent]
refuse = 0.1
withdraw_midway = 0.1
ask_again_after_rounds = 1
[hostile]
label_flipping = 0.05
boosting = 0.05
not_a_number = 0.05
sybils = 0.05
"""  # noqa: E501 - 24 hours in a line


def small_model() -> PopulationModel:
    """Forty items, two tastes."""
    rng = np.random.default_rng(2)
    return PopulationModel(
        sizes=np.array([0.1, 0.3, 0.3, 0.2, 0.1]),
        repeats=np.array([0.0, 0.7, 0.3]),
        tastes=np.array([0.4, 0.8]),
        items=rng.dirichlet(np.ones(40), 2),
        seasons=np.array([[0.2, 0.8], [0.9, 0.1]]),
        hours=np.full(HOURS, 1 / HOURS),
        start_s=1_700_000_000.0,
        period_s=28 * 86_400.0,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A scenario in which everything happens, and its people's model beside it."""
    (tmp_path / "model.json").write_bytes(small_model().to_json())
    (tmp_path / "all.toml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "all.toml"


def played(file: Path, *words: str) -> list[dict[str, Any]]:
    """Run the command, and give what it wrote."""
    out = file.with_suffix(".json")
    assert main([str(file), "--json", str(out), *words]) == 0
    found: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    return found


def test_scenario_same_file_same_bits_other_seed_other_bits(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file and its seed are the whole run; the assumed population stands beside the number."""
    first = played(file)
    assert [each["arm"] for each in first] == [NO_NOISE, "together-eps-4"]
    assert "noise for an assumed population of 5,000 people" in capsys.readouterr().out
    assert all(each["sha256"] for each in first)
    assert {
        "no-answer", "no-consent", "not-charging", "not-finite", "consent-withdrawn"
    } <= set(first[0]["refusals"])  # fmt: skip
    assert played(file) == first
    other = played(file, "--seed", "5")
    for ours, theirs in zip(first, other, strict=True):
        assert ours["sha256"] != theirs["sha256"]
        assert ours["accepted"] != theirs["accepted"]


def test_play_any_workers_and_blocks_same_bits(file: Path, tmp_path: Path) -> None:
    """Who adds up changes nothing that is learned or counted."""
    scenario = read_scenario(file)
    study = open_study(scenario, beside=tmp_path, workspace=tmp_path)
    play = Play(scenario=scenario, study=study, workspace=tmp_path / "one")
    many = replace(play, pool=Threads(workers=3, block=7), workspace=tmp_path / "many")
    assert many.result(NO_NOISE) == play.result(NO_NOISE)


def test_play_time_passes_between_rounds_and_moves_who_is_there(file: Path, tmp_path: Path) -> None:
    """Three rounds by night and by day; without hours between them all are by night."""
    scenario = read_scenario(file)
    study = open_study(scenario, beside=tmp_path, workspace=tmp_path)
    still = replace(
        scenario,
        task=replace(scenario.task, round_every_hours=0.0),
        consent=replace(scenario.consent, ask_again_after_rounds=None),
    )
    busy = {}
    for name, each in (("moves", scenario), ("still", still)):
        play = Play(scenario=each, study=study, workspace=tmp_path / name)
        busy[name] = play.result(NO_NOISE)["refusals"].get("not-charging", 0)
    assert busy["still"] == 0
    assert busy["moves"] > 20


def test_hostile_devices_forget_their_rounds_and_the_aggregator_does_not() -> None:
    """Who attacks ignores its own memory of a run; the aggregator's count stops it all the same."""
    people = generate_shard(small_model(), seed=1, shard=0, people=200).histories
    release = ActiveRelease(catalogue_sha256="3" * 64, policy_sha256="2" * 64, n_items=40)
    holdings = Holdings(release=release, histories=people)
    conditions = Conditions(seed=1, starts_at_s=people.now_s, hostile=Hostile(label_flipping=0.5))
    crowd = Crowd.under(conditions, holdings=holdings, now_s=people.now_s)
    terms = RunTerms(
        run_id="a" * 32, started_at_s=int(people.now_s), rounds=9, min_separation=3,
        max_participations=2,
    )  # fmt: skip
    order = Order(
        task_id="1" * 32, kind=TaskKind.ITEM_COUNTS, population="p", round=0,
        policy_sha256="2" * 64, catalogue_sha256="3" * 64, dimension=40, clip_norm=1.0,
        closes_at_s=int(people.now_s) + 60, promise={}, parameters={},
        payload_sha256=sha256_hex(b""), run=terms,
    )  # fmt: skip
    everyone = np.arange(200)
    hostile = conditions.attacks(everyone, round_number=0) > 0
    willing = crowd.invite(order, everyone) == WILLING
    crowd.remember(order, everyone[willing])
    again = crowd.invite(replace(order, round=1, task_id="2" * 32), everyone)
    assert {REASONS[code] for code in again[willing & hostile]} == {Refusal.PARTICIPATION_EXCEEDED}
    assert {REASONS[code] for code in again[willing & ~hostile]} == {Refusal.TOO_SOON}
    assert (crowd.invite(replace(order, round=3, task_id="3" * 32), everyone) == WILLING).any()
