"""A sweep's file: what it means, and one line for what it cannot mean."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from simulations.sweeps.plan import Goal
from simulations.sweeps.reading import FileMistakeError, read_sweep
from tests.simulations.sweeps.conftest import TEXT

EXAMPLE = Path(__file__).parents[3] / "examples" / "sweeps" / "small.toml"


def test_read_sweep_goals_are_epsilon_and_population_alone(tmp_path: Path) -> None:
    """Settings are crossed with goals; without noise a population is none."""
    file = tmp_path / "s.toml"
    file.write_text(TEXT.replace("clip =", "population = [100000, 5000]\nclip ="))
    sweep = read_sweep(file)
    assert sweep.goals == [
        Goal(epsilon=4.0, population=100_000),
        Goal(epsilon=4.0, population=5_000),
        Goal(epsilon=math.inf, population=None),
    ]
    assert [dict(each) for each in sweep.tried] == [{"clip": 0.2}, {"clip": 1.0}]
    assert [cell.number for cell in sweep.cells] == list(range(6))
    scenario = sweep.cells[3].scenario(sweep.base, seed=9)
    assert (scenario.seed, scenario.task.clip, scenario.privacy.population) == (9, 1.0, 5_000)


def test_read_sweep_random_draws_so_many_settings_for_every_goal(tmp_path: Path) -> None:
    """The same settings for each goal, within their ranges, again with the same seed."""
    text = TEXT.replace(
        "clip = [0.2, 1.0]",
        'clip = { from = 0.01, to = 1.0, steps = 2, scale = "log" }\nrounds = [2, 3]',
    ).replace("[search]", '[search]\nkind = "random"\ncells = 7\nseed = 1')
    file = tmp_path / "s.toml"
    file.write_text(text)
    sweep = read_sweep(file)
    assert len(sweep.cells) == 2 * 7
    clips = [float(each["clip"]) for each in sweep.tried]
    assert all(0.01 <= clip <= 1.0 for clip in clips)
    assert min(clips) < 0.1 < max(clips)
    assert {each["rounds"] for each in sweep.tried} == {2, 3}
    assert read_sweep(file).tried == sweep.tried
    file.write_text(text.replace("seed = 1\n", "seed = 2\n"))
    assert read_sweep(file).tried != sweep.tried


def test_read_sweep_base_in_a_scenario_file(tmp_path: Path) -> None:
    """The base may be another file; it must not be said twice."""
    head, tail = TEXT.split("seed = 3\n")[1].split("[vary]")
    (tmp_path / "base.toml").write_text("seed = 3\n" + head)
    file = tmp_path / "s.toml"
    file.write_text(f'scenario = "base.toml"\n[vary]{tail}')
    assert read_sweep(file).base.task.cohort == 20
    file.write_text(f'scenario = "base.toml"\nseed = 3\n[vary]{tail}')
    with pytest.raises(FileMistakeError, match=r"s.toml, line 2: seed: .* remove one of the two"):
        read_sweep(file)
    file.write_text(f'scenario = "../none.toml"\n[vary]{tail}')
    with pytest.raises(FileMistakeError, match="line 1: scenario: expected the name of a file"):
        read_sweep(file)


def test_example_reads_with_a_comment_on_every_line() -> None:
    """What we show works."""
    assert len(read_sweep(EXAMPLE).cells) == 4
    entries = [line for line in EXAMPLE.read_text().splitlines() if " = " in line]
    assert all("#" in line for line in entries)


@pytest.mark.parametrize(
    ("old", "new", "line", "part"),
    [
        ("[vary]", "[vray]", 14, "write vary"),
        ("clip = [0.2, 1.0]", "clop = [1]", 16, "clop: expected one of .* write clip"),
        ("clip = [0.2, 1.0]", "clip = 1", 16, "expected a list of values, or a range"),
        ("clip = [0.2, 1.0]", "clip = []", 16, "expected a list of values"),
        ("clip = [0.2, 1.0]", "clip = [1, 'x']", 16, "entry 2 is another"),
        ("clip = [0.2, 1.0]", "clip = [nan]", 16, "entry 1 is another"),
        ("clip = [0.2, 1.0]", "clip = [-1]", 16, "entry 1 is another"),
        ("clip = [0.2, 1.0]", "clip = [1, 1]", 16, "got one twice"),
        ("clip = [0.2, 1.0]", "cohort = [2.5]", 16, "whole numbers .* entry 1"),
        ("clip = [0.2, 1.0]", "cohort = [true]", 16, "whole numbers .* entry 1"),
        ("clip = [0.2, 1.0]", "top_items = [5]", 16, "only with item-statistics"),
        ("clip = [0.2, 1.0]", "rounds = { from = 3, to = 2, steps = 2 }", 16, "swap"),
        ("clip = [0.2, 1.0]", "rounds = { from = 1, to = 2 }", 16, "how many values"),
        ("clip = [0.2, 1.0]", "rounds = { from = 1, upto = 2 }", 16, "upto: expected one of"),
        ("clip = [0.2, 1.0]", "clip = { from = 0, to = 2, steps = 2 }", 16, "from: expected a num"),
        ("clip = [0.2, 1.0]", "clip = { from = 1, to = inf, steps = 2 }", 16, "finite end"),
        (
            "clip = [0.2, 1.0]",
            "clip = { from = 1, to = 2, steps = 2, scale = 'cube' }",
            16,
            '"linear" or "log"',
        ),
        ("epsilon = [4.0, inf]", "epsilon = [0]", 15, "or inf for no noise; entry 1"),
        ("test_seeds = 2", "test_seeds = 0", 18, "whole number from 1"),
        ("test_seeds = 2", "kind = 'random'", 17, "add cells = 20"),
        ("test_seeds = 2", "cells = 3", 18, "only with kind"),
        ("test_seeds = 2", "choose_by = 'test'", 18, "expected one of"),
        ('arms = ["popularity"]', 'arms = ["magic"]', 2, "expected names among"),
        ("rounds = 3", "rounds = -3", 9, "task.rounds: expected a whole number"),
        ("seed = 3", "seed = ", 3, "expected TOML"),
        (
            "clip = [0.2, 1.0]",
            "clip = { from = 0.1, to = 1, steps = 1000 }\nrounds = { from = 1, to = 9, steps = 9 }",
            14,
            "at most 10,000 cells",
        ),
    ],
)
def test_read_sweep_nonsense_is_one_error_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, part: str
) -> None:
    """File, line and what to do."""
    file = tmp_path / "s.toml"
    assert old in TEXT
    file.write_text(TEXT.replace(old, new, 1) if old != "epsilon = [4.0, inf]" else
                    TEXT.replace(old, new))  # fmt: skip
    with pytest.raises(FileMistakeError, match=part) as caught:
        read_sweep(file)
    assert (caught.value.file, caught.value.line) == ("s.toml", line)
    assert "\n" not in str(caught.value)
