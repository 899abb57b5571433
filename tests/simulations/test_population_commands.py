"""``homebody population``: a model from events, people from a model, and mistakes in one line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import homebody
from simulations.population_commands import main
from simulations.synthetic.generate import open_population
from simulations.synthetic.model import PopulationModel


def run(*words: str) -> tuple[int, str, str]:
    """Run a command; give exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    code = main([str(word) for word in words], stdout=out, stderr=err)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def model(make_town: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of forty people, made by the command."""
    path = tmp_path_factory.mktemp("model") / "model.json"
    code, out, err = run("fit", str(make_town(40)), "--out", str(path), "--tastes", "2")
    assert (code, f"written: {path}" in out) == (0, True)
    assert "fitting 2 tastes to 40 people" in err
    return path


def test_population_fit_writes_a_model_that_reads(model: Path) -> None:
    """The file is what the generator wants, and holds as many tastes as were asked for."""
    read = PopulationModel.from_json(model.read_bytes())
    assert (len(read.tastes), read.n_items) == (2, 30)


def test_population_make_same_seed_same_people(model: Path, tmp_path: Path) -> None:
    """Model, number and seed are the whole recipe; the output says what comes next."""
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        words = ("make", str(model), "--people", "50", "--seed", seed, "--out", tmp_path / name)
        code, out, err = run(*words)
        assert code == 0
        assert f"homebody simulate --people {tmp_path / name}" in out
        assert err == "making 50 people\n"
    a, b, c = (open_population(tmp_path / name).histories for name in "abc")
    assert a.people == 50
    assert np.array_equal(a.items, b.items)
    assert not np.array_equal(a.items, c.items)


def test_population_make_quiet_says_nothing_on_the_way(model: Path, tmp_path: Path) -> None:
    """For scripts."""
    words = ("make", str(model), "--people", "5", "--out", str(tmp_path / "a"), "--quiet")
    assert run(*words)[2] == ""


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["fit"], "required: EVENTS, --out"),
        (["fit", "{events}"], "required: --out"),
        (["fit", "{folder}/none.csv", "--out", "{folder}/m"], "none.csv is no file"),
        (["fit", "{folder}", "--out", "{folder}/m"], "is a folder; expected a file"),
        (["fit", "{events}", "--out", "{folder}"], "is a folder; give a file name"),
        (["fit", "{events}", "--out", "{folder}/m", "--tastes", "0"], "tastes must be from 1 to"),
        (["fit", "{events}", "--out", "{folder}/m", "--tastes", "x"], "invalid int value: 'x'"),
        (["fit", "{events}", "--out", "/proc/none/m"], "/proc/none does not exist"),
        (["fit", "{events}", "--out", "/proc/m"], "cannot write to /proc"),
        (["fit", "{events}", "--out", "{folder}/m"], "two people who have something"),
        (["fit", "{model}", "--out", "{folder}/m"], "model.json"),
        (["make", "{events}", "--people", "5", "--out", "{folder}/p"], "the model is no JSON"),
        (["make", "{model}", "--people", "0", "--out", "{folder}/p"], "people must be from 1"),
        (["make", "{model}", "--people", "1e3", "--out", "{folder}/p"], "invalid int value"),
        (["make", "{model}", "--people", "5", "--out", "{folder}"], "exists already"),
        (
            ["make", "{model}", "--people", "5", "--out", "{folder}/p", "--seed", "-1"],
            "seed must be from 0",
        ),
        (["make", "{model}", "--people", "5"], "required: --out"),
    ],
)
def test_population_bad_words_are_one_line_and_exit_code_two(
    words: list[str], part: str, model: Path, tmp_path: Path
) -> None:
    """No traceback, and nothing is left behind."""
    events = tmp_path / "events.csv"
    events.write_text("user,item,timestamp\na,x,1\n")
    filled = [word.format(folder=tmp_path, events=events, model=model) for word in words]
    code, out, err = run(*filled)
    assert (code, out) == (2, "")
    told = [line for line in err.splitlines() if line.startswith("homebody: error: ")]
    assert len(told) == 1
    assert part in told[0]
    assert err.splitlines()[-1] == told[0]
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


def test_population_make_disk_that_refuses_is_one_line(model: Path) -> None:
    """What goes wrong on the way is named, with exit code 1."""
    code, _, err = run("make", str(model), "--people", "5", "--out", "/proc/people", "--quiet")
    assert code == 1
    assert err.startswith("homebody: error: /proc/people")
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ["fit", "make"])
def test_population_verb_is_found_by_the_front_door(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`homebody population fit --help` explains, and leaves with 0."""
    assert homebody.main(["population", verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: homebody population {verb}" in text
    assert "--seed" in text


def test_population_model_is_a_file_of_shares(model: Path) -> None:
    """No row of it is a person: its size does not depend on how many there were."""
    told = json.loads(model.read_text())
    assert set(told) >= {"sizes", "tastes", "items", "hours"}
    assert "users" not in told
