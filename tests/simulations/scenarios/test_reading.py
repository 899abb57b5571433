"""Scenario files: examples that work, mistakes that name their line, a schema that agrees."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest

from simulations.scenarios.reading import FileMistakeError, read_scenario
from simulations.scenarios.scenario import scenario_schema

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples" / "scenarios").glob("*.toml"))
SCHEMA = ROOT / "simulations" / "scenarios" / "scenario.schema.json"
GOOD = """seed = 1
[people]
source = "synthetic"
count = 100
[task]
kind = "item-training"
rounds = 3
[privacy]
epsilon = [2.0]
[consent]
refuse = 0.1
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_reads_and_fits_the_published_schema(path: Path) -> None:
    """What we show works, is commented line by line, and is what the schema describes."""
    scenario = read_scenario(path)
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.validate(tomllib.loads(path.read_text(encoding="utf-8")), schema)
    assert schema == scenario_schema()
    assert scenario.seed > 0
    entries = [line for line in path.read_text(encoding="utf-8").splitlines() if " = " in line]
    plain = [line for line in entries if "#" not in line]
    assert all(" = [" in line and len(line) > 100 for line in plain)


def test_examples_cover_the_four_stories() -> None:
    """Everyday life, the night, an attack, and refusals."""
    assert {path.stem for path in EXAMPLES} == {"everyday", "night-only", "hostile", "refusals"}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("refuse = 0.1", "refused = 0.1", 11, "consent.refused: .* write refuse"),
        ("refuse = 0.1", 'refuse = "many"', 11, "expected a number from 0 to 1; got text"),
        ("refuse = 0.1", "refuse = 1.5", 11, "expected a number from 0 to 1"),
        ("refuse = 0.1", "refuse = nan", 11, "expected a number from 0 to 1"),
        ("refuse = 0.1", "refuse = 0.6\nexpired = 0.6", 11, "at most 1 together"),
        ("refuse = 0.1", "refuse = 1", 11, "somebody who says yes"),
        ("refuse = 0.1", "refuse = ", 11, "expected TOML"),
        ("epsilon = [2.0]", "epsilon = []", 9, "got 0 entries"),
        ("epsilon = [2.0]", "epsilon = [2.0, true]", 9, "entry 2 is no number"),
        ("epsilon = [2.0]", "epsilon = [2.0, 2]", 9, "got one twice"),
        ("epsilon = [2.0]", "delta = 1e-6", 8, "privacy.epsilon: .* add epsilon ="),
        ("epsilon = [2.0]", "epsilon = [2.0]\npopulation = 10", 10, "at least the 100 people"),
        ("[privacy]\nepsilon = [2.0]", "", 1, r"privacy: .* add \[privacy\]"),
        ('kind = "item-training"', 'kind = "everything"', 6, "expected one of"),
        ('kind = "item-training"', 'kind = "item-statistics"', 7, "expected 1 with item-stat"),
        ("rounds = 3", "rounds = 3.5", 7, "whole number"),
        ("rounds = 3", "cohort = 101", 7, "at most the 100 people"),
        ("rounds = 3", "top_items = 10", 7, "only with item-statistics"),
        ("rounds = 3", "clip = 11", 7, "from 1e-06 to 10"),
        ("count = 100", "", 2, "people.count: .* add count"),
        ("count = 100", 'count = 100\nevents = "a.csv"', 5, 'only with source = "events"'),
        ("[consent]", "[availability]\nidle = [1, 0]\n[consent]", 11, "24 numbers"),
        ("[consent]", "[availability]\nreachable = 0\n[consent]", 11, "got 0 at every hour"),
        (
            "[consent]",
            "[[availability.zones]]\noffset_hours = 1\nshare = 0.4\n[consent]",
            10,
            "add up to 1; got 0.4",
        ),
        ("[consent]", "[hostile]\nboosting = 0.6\nsybils = 0.6\n[consent]", 10, "at most 1"),
        ("[consent]", "[hostile]\nboost_factor = 0.5\n[consent]", 11, "from 1 to 1e"),
        ("[consent]", "[failures.clock_skew]\nmean = 3\n[consent]", 11, "expected one of"),
        ("[consent]", "consent = 3\n[conset]", 11, "expected one of"),
    ],
)
def test_scenario_mistake_names_file_line_and_remedy(
    old: str, new: str, line: int, said: str
) -> None:
    """Each nonsense is one error that says where it is; what it should be; and what to do."""
    assert GOOD.count(old) == 1
    with pytest.raises(FileMistakeError, match=said) as caught:
        read_scenario(GOOD.replace(old, new), name="mine.toml")
    assert str(caught.value).startswith(f"mine.toml, line {line}: ")


def test_scenario_asked_again_while_time_stands_still_refused() -> None:
    """A yes that is as old as the no before it would never count."""
    text = GOOD.replace("rounds = 3", "rounds = 3\nround_every_hours = 0")
    read_scenario(text)
    with pytest.raises(FileMistakeError, match=r"line 13: consent\.ask_again_after_rounds"):
        read_scenario(text + "ask_again_after_rounds = 1\n")


def test_command_with_a_bad_file_says_one_line_and_leaves_with_two(tmp_path: Path) -> None:
    """No traceback, whether the file is nonsense, missing, or names a file that is."""
    good = tmp_path / "good.toml"
    good.write_text(GOOD.replace("count = 100", 'count = 100\nmodel = "none.json"'), "utf-8")
    bad = tmp_path / "bad.toml"
    bad.write_text("seed = -1", "utf-8")
    for path, said in ((bad, "line 1: seed"), (tmp_path / "no.toml", "no.toml"), (good, "none")):
        done = subprocess.run(
            [sys.executable, "-m", "simulations.scenarios", str(path)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
