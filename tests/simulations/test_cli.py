"""``demo`` and ``simulate``: every mistake is one line and exit code 2, before the work begins."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aggregator.errors import AggregatorError, PortInUseError
from client_sdk.errors import HomebodyError
from privacy.errors import PrivacyError
from simulations.cli import Run, main
from simulations.progress import Progress
from simulations.settings import DemoSettings, SimulationSettings
from tests.simulations.scenarios.test_play import small_model

SCENARIO = """seed = 4
[people]
source = "synthetic"
model = "model.json"
count = 300
[task]
kind = "item-training"
rounds = 2
cohort = 150
[privacy]
epsilon = [4.0]
population = 5000
[consent]
refuse = 0.2
"""

RESULT: Mapping[str, Any] = {"data": {"people": 2}, "metrics": {}, "seconds": 1.0, "example": {}}


class Ran:
    """A run that remembers what it was asked, and answers or fails as told."""

    def __init__(self, error: Exception | None = None, *, load: bool = False) -> None:
        self.settings: Any = None
        self._error = error
        self._load = load

    def __call__(self, settings: Any, progress: Progress) -> Mapping[str, Any]:
        """Answer or fail."""
        progress.stage("working", total=2)
        if self._load:
            settings.load()
        if self._error is not None:
            raise self._error
        self.settings = settings
        return RESULT


def run(words: list[str], run_it: Run | None = None) -> tuple[int, str, str]:
    """Run the command with a run of the test; give exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    chosen = run_it or Ran()
    code = main(words, run_demo=chosen, run_simulation=chosen, stdout=out, stderr=err)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """A good file of two people and two items."""
    path = tmp_path / "events.csv"
    path.write_text("user,item,timestamp\na,x,1\nb,y,2\n")
    return path


def test_main_demo_defaults_are_those_of_the_issue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ε of 2 and 8, 100,000 assumed people, three seeds, a report in ./out."""
    monkeypatch.chdir(tmp_path)
    ran = Ran()
    code, out, err = run(["demo"], ran)
    assert code == 0
    assert ran.settings == DemoSettings(
        epsilons=(2.0, 8.0), delta=1e-6, population=100_000, seeds=3, superlink=False
    )
    assert (tmp_path / "out" / "report.html").is_file()
    assert "written: out/report.html" in out
    assert err == "working\n"


def test_main_demo_options_reach_the_settings(tmp_path: Path) -> None:
    """Budgets may be given together, repeated, or both."""
    ran = Ran()
    words = ["demo", "--epsilon", "1", "4", "--epsilon", "6", "--delta", "1e-5", "--seeds", "1"]
    words += ["--population", "5000", "--superlink", "--quiet", "--out", str(tmp_path / "o")]
    code, _, err = run(words, ran)
    assert code == 0
    assert err == ""
    assert ran.settings == DemoSettings(
        epsilons=(1.0, 4.0, 6.0), delta=1e-5, population=5000, seeds=1, superlink=True
    )


def test_main_simulate_options_reach_the_settings(tmp_path: Path, events: Path) -> None:
    """Every option of the issue is understood; the JSON is written whole, without the example."""
    ran = Ran()
    json_path = tmp_path / "r.json"
    words = ["simulate", "--events", str(events), "--items", str(events), "--epsilon", "3"]
    words += ["--task", "item-training", "--delta", "1e-7", "--rounds", "4", "--cohort", "2"]
    words += ["--population", "9", "--top-items", "2", "--seed", "5", "--seeds", "2"]
    words += ["--engine", "kernel", "--workers", "3"]
    code, out, _ = run([*words, "--json", str(json_path)], ran)
    assert code == 0
    assert ran.settings == SimulationSettings(
        events=events,
        items=events,
        task="item-training",
        epsilons=(3.0,),
        delta=1e-7,
        rounds=4,
        cohort=2,
        population=9,
        top_items=2,
        seed=5,
        seeds=2,
        engine="kernel",
        workers=3,
    )
    assert set(json.loads(json_path.read_text())) == {"data", "metrics", "seconds"}
    assert f"written: {json_path}" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.csv", "r.json"]


@pytest.mark.parametrize("command", ["demo", "simulate"])
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--epsilon", "0"], "epsilon must be a finite number > 0, got 0"),
        (["--epsilon", "-1"], "epsilon must be a finite number > 0, got -1"),
        (["--epsilon", "two"], "invalid float value: 'two'"),
        (["--epsilon"], "expected at least one argument"),
        (["--delta", "0"], "delta must be between 0 and 1"),
        (["--delta", "1"], "delta must be between 0 and 1"),
        (["--population", "-5"], "population must be from 1"),
        (["--population", "1.5"], "invalid int value"),
        (["--seeds", "0"], "seeds must be from 1"),
        (["--json", "/proc/r.json"], "cannot write to /proc"),
        (["--json", "/nowhere/r.json"], "does not exist"),
        (["--out", "/proc/report"], "cannot write to /proc"),
        (["--out", "/dev/null"], "is not a folder"),
        (["--eps", "2"], "unrecognized arguments: --eps 2"),
        (["stray"], "unrecognized arguments: stray"),
    ],
)
def test_main_bad_words_are_one_line_and_exit_code_two(
    command: str, words: list[str], part: str, events: Path
) -> None:
    """No traceback, no usage block, and the run is never begun."""
    ran = Ran()
    given = ["--events", str(events)] if command == "simulate" else []
    code, out, err = run([command, *given, *words], ran)
    assert (code, out) == (2, "")
    assert err.startswith("homebody: error: ")
    assert part in err
    assert err.count("\n") == 1
    assert ran.settings is None


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "give --events FILE or --people FOLDER, one of them; got neither"),
        (["--events", "{events}", "--people", "{folder}"], "one of them; got both"),
        (["--people", "{folder}/none"], "none does not exist; make one with homebody population"),
        (["--people", "{events}"], "is a file; expected a folder"),
        (["--people", "{folder}", "--engine", "superlink"], "synthetic people have no devices"),
        (["--events", "{events}", "--engine", "warp"], "engine must be one of kernel, devices"),
        (["--events", "{events}", "--workers", "0"], "workers must be from 1"),
        (["--events", "{events}", "--workers", "two"], "invalid int value: 'two'"),
        (["--events", "{folder}/none.csv"], "none.csv does not exist"),
        (["--events", "{folder}"], "is a folder"),
        (["--events", "{events}", "--items", "{folder}/none.csv"], "none.csv does not exist"),
        (["--events", "{events}", "--task", "gossip"], "task must be one of"),
        (["--events", "{events}", "--rounds", "0"], "rounds must be from 1"),
        (["--events", "{events}", "--rounds", "2"], "single round"),
        (["--events", "{events}", "--cohort", "9", "--population", "8"], "the population, 8"),
        (["--events", "{events}", "--cohort", "3"], "number of people in the data, 2; got 3"),
        (["--events", "{events}", "--top-items", "3"], "number of items, 2; got 3"),
        (["--events", "{events}", "--seed", "-1"], "seed must be from 0"),
    ],
)
def test_main_simulate_bad_input_is_one_line_and_exit_code_two(
    words: list[str], part: str, events: Path, tmp_path: Path
) -> None:
    """Also what is only known when the data is read; no file is left behind."""
    filled = [word.format(folder=tmp_path, events=events) for word in words]
    targets = ["--json", str(tmp_path / "r.json"), "--out", str(tmp_path / "o")]
    code, out, err = run(["simulate", "--quiet", *filled, *targets], Ran(load=True))
    assert (code, out) == (2, "")
    assert err.startswith("homebody: error: ")
    assert part in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["events.csv"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the file is empty"),
        ("user,item,timestamp\n", "no data row"),
        ("user,item\na,x\n", "column 'timestamp' is missing"),
        ("user,item,timestamp\na,x,soon\n", "line 2: timestamp: expected ISO 8601"),
        ("user,item,timestamp,quantity\na,x,1,-1\n", "line 2: quantity: expected a number >= 0"),
    ],
)
def test_main_simulate_bad_file_is_one_line_and_exit_code_two(
    text: str, part: str, events: Path
) -> None:
    """The loader's words reach the person."""
    events.write_text(text)
    code, _, err = run(["simulate", "--quiet", "--events", str(events)], Ran(load=True))
    assert code == 2
    assert part in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PortInUseError("port 80 is taken"), 2),
        (AggregatorError("no quorum"), 1),
        (PrivacyError("over budget"), 1),
        (HomebodyError("release\nrefused"), 1),
    ],
)
def test_main_named_failure_is_one_line(error: Exception, code: int, tmp_path: Path) -> None:
    """What the product's own errors say is said; a line break does not break the line."""
    got, _, err = run(["demo", "--out", str(tmp_path), "--quiet"], Ran(error))
    assert got == code
    assert err == f"homebody: error: {' '.join(str(error).split())}\n"


def test_main_unforeseen_failure_is_not_hidden(tmp_path: Path) -> None:
    """A mistake of ours keeps its traceback."""
    with pytest.raises(ZeroDivisionError):
        run(["demo", "--out", str(tmp_path)], Ran(ZeroDivisionError()))


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_main_help_is_shown_with_exit_code_zero(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every option is explained."""
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: homebody {command}" in text
    assert "--epsilon" in text


def test_main_simulate_help_teaches_engines_and_first_steps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What an engine is for, and a line to copy for each way to begin; the demo has no engines."""
    assert main(["simulate", "--help"]) == 0
    text = capsys.readouterr().out
    for part in (
        "people are rows",
        "up to 64 people",
        "population make model.json",
        "--people town",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 100
    assert main(["demo", "--help"]) == 0
    assert "--engine" not in capsys.readouterr().out


def test_main_simulate_people_reach_the_settings(tmp_path: Path) -> None:
    """Synthetic people take the place of events."""
    ran = Ran()
    assert run(["simulate", "--people", str(tmp_path)], ran)[0] == 0
    assert ran.settings == SimulationSettings(people=tmp_path)


@pytest.mark.parametrize("name", ["scenario", "sweep"])
@pytest.mark.parametrize(
    "words",
    [
        ["--events", "{events}"],
        ["--epsilon", "2"],
        ["--epsilon=2"],
        ["--delta", "1e-6"],
        ["--rounds", "1"],
        ["--seeds", "1"],
        ["--engine", "kernel"],
        ["--population", "5"],
    ],
)
def test_main_file_that_says_it_all_takes_no_other_word(
    name: str, words: list[str], events: Path, tmp_path: Path
) -> None:
    """Also where the word says what is the default."""
    file = tmp_path / "file.toml"
    file.write_text("seed = 1")
    filled = [word.format(events=events) for word in words]
    code, out, err = run(["simulate", f"--{name}", str(file), *filled])
    assert (code, out) == (2, "")
    word = words[0].partition("=")[0]
    assert err == (
        f"homebody: error: {word} contradicts --{name}, whose file says it all; remove one\n"
    )


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--scenario", "{folder}/none.toml"], "none.toml does not exist"),
        (["--scenario", "{folder}"], "is a folder; expected a TOML file"),
        (["--scenario", "{file}", "--seed", "-1"], "seed must be from 0"),
        (["--scenario", "{file}", "--workers", "0"], "workers must be from 1"),
        (["--scenario", "{file}", "--ray", "mars"], "--ray: expected local, local:N, auto or"),
        (["--scenario", "{file}", "--sweep", "{file}"], "--scenario contradicts --sweep"),
        (["--scenario", "{file}"], "file.toml, line 2: sed: expected one of"),
        (["--sweep", "{file}"], "give --out DIR"),
        (["--sweep", "{file}", "--out", "{folder}/o", "--ray", "local"], "--ray contradicts"),
        (["--sweep", "{file}", "--out", "{folder}/o", "--workers", "0"], "workers must be from 1"),
        (["--sweep", "{file}", "--out", "{folder}/o"], "file.toml, line 2: sed: expected one of"),
        (["--sweep", "{folder}/none.toml", "--out", "{folder}/o"], "does not exist"),
        (["--events", "{events}", "--ray", "local:0"], "--ray: local:N needs N from 1"),
        (["--events", "{events}", "--ray", "local:2", "--workers", "2"], "remove --workers"),
        (
            ["--events", "{events}", "--ray", "local", "--engine", "devices"],
            "for the engine kernel",
        ),
        (["--events", "{events}", "--ray", "127.0.0.1:1"], "no Ray cluster on 127.0.0.1:1"),
    ],
)
def test_main_simulate_bad_file_or_pool_is_one_line(
    words: list[str], part: str, events: Path, tmp_path: Path
) -> None:
    """File, line and remedy; nothing is left behind."""
    file = tmp_path / "file.toml"
    file.write_text("seed = 1\nsed = 2\n")
    filled = [word.format(folder=tmp_path, events=events, file=file) for word in words]
    code, out, err = run(["simulate", "--quiet", *filled])
    assert (code, out) == (1 if "127" in part else 2, "")
    assert err.startswith("homebody: error: ")
    assert part in err
    assert err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_main_simulate_scenario_of_one_file_writes_json_and_report(tmp_path: Path) -> None:
    """The same from the same file and seed; another seed is another run."""
    (tmp_path / "model.json").write_bytes(small_model().to_json())
    file = tmp_path / "town.toml"
    file.write_text(SCENARIO)
    found = []
    for at, more in enumerate([[], ["--workers", "2"], ["--seed", "9"]]):
        json_path = tmp_path / f"{at}.json"
        words = ["simulate", "--scenario", str(file), "--json", str(json_path), *more]
        code, out, err = run([*words, "--out", str(tmp_path / "o")])
        assert code == 0, err
        assert "noise as if 5,000 people took part (300 simulated)" in out
        assert "together-eps-4, seed" in err
        found.append(json.loads(json_path.read_text()))
    first, same, other = ({**each, "seconds": None} for each in found)
    assert first == same
    assert first["metrics"] != other["metrics"]
    assert set(first["metrics"]) == {"popularity", "together-no-noise", "together-eps-4"}
    assert first["consent"]["granted"] + first["consent"]["refused"] == 300
    rejected = first["tasks"]["together-eps-4"][0]["rejected"]
    assert rejected["no-consent"] > 0
    assert "SYNTHETIC" in out
    assert (tmp_path / "o" / "report.html").is_file()


def test_main_simulate_scenario_without_quorum_says_so(tmp_path: Path) -> None:
    """An arm that learned nothing has no number, and a reason."""
    (tmp_path / "model.json").write_bytes(small_model().to_json())
    file = tmp_path / "town.toml"
    file.write_text(SCENARIO.replace("cohort = 150", "cohort = 150\nquorum = 0.99"))
    code, out, _ = run(["simulate", "--scenario", str(file), "--quiet"])
    assert code == 0
    said = " ".join(out.split())
    assert "Left out: Together, ε = 4: its task 2 was accepted by" in said
    assert "fewer than its quorum, so that the arm ended there" in said


def test_main_simulate_scenario_smaller_population_is_one_line(tmp_path: Path) -> None:
    """Fewer people than there are is no assumption."""
    file = tmp_path / "town.toml"
    text = SCENARIO.replace("population = 5000", "population = 797")
    people = 'source = "synthetic"\nmodel = "model.json"\ncount = 300'
    file.write_text(text.replace(people, 'source = "bundled"'))
    code, _, err = run(["simulate", "--scenario", str(file), "--quiet"])
    assert code == 2
    assert (
        err == "homebody: error: population must be at least the 798 people in the data; got 797\n"
    )


def test_main_simulate_ray_reaches_the_run_as_a_pool(events: Path) -> None:
    """Two local workers are asked; without Ray the run is given none."""
    asked: list[Any] = []

    def note(_settings: Any, _progress: Progress, **more: Any) -> Mapping[str, Any]:
        asked.append({name: getattr(value, "workers", None) for name, value in more.items()})
        return RESULT

    words = ["simulate", "--quiet", "--events", str(events)]
    assert run([*words, "--ray", "local:2"], note)[0] == 0
    assert run(words, note)[0] == 0
    assert asked == [{"pool": 2}, {}]


def test_main_narrow_encoding_never_breaks_the_output(tmp_path: Path) -> None:
    """A terminal without Greek letters still gets its table."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    words = ["demo", "--quiet", "--out", str(tmp_path)]

    def greek(_settings: Any, _progress: Progress) -> Mapping[str, Any]:
        return {"privacy": {"trust": "ε and δ"}}

    assert main(words, run_demo=greek, stdout=out, stderr=io.StringIO()) == 0
    out.flush()
    assert b"trust: ? and ?" in raw.getvalue()
