"""``homebody privacy plan``: what it prints, what it writes, and what it says to nonsense."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privacy.cli import main
from privacy.policy import read_policy

NEEDED = {
    "--population": "20000",
    "--report-goal": "400",
    "--rounds": "20",
    "--epsilon": "2",
    "--delta": "1e-6",
}
KEYS = [
    *("mechanism", "noise_multiplier", "sensitivity", "rho", "epsilon_pld", "epsilon_prv_bound"),
    *("epsilon_rdp", "delta", "min_separation", "max_participations", "relative_error", "assumes"),
]


def words(*more: str, **changes: str) -> list[str]:
    """A command that can be carried out, changed."""
    values = {**NEEDED, **{f"--{name.replace('_', '-')}": each for name, each in changes.items()}}
    return ["plan", *(part for pair in values.items() for part in pair), *more]


def plans(capsys: pytest.CaptureFixture[str], *more: str, **changes: str) -> list[dict[str, Any]]:
    """Plan with ``--json``."""
    assert main(words("--json", *more, **changes)) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["plans"]
    return found


class TestPlan:
    """What comes out."""

    def test_plan_json_has_the_keys_that_programs_rely_on(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In every plan, with numbers that fit together."""
        pytest.importorskip("opacus", reason="the extra 'prv' is not installed")
        found = plans(capsys)
        assert [plan["mechanism"] for plan in found] == [
            *("gaussian", "independent-rounds", "tree", "banded-toeplitz", "blt")
        ]
        for plan in found:
            assert set(plan) >= set(KEYS)
            assert plan["rho"] == pytest.approx(0.5 / plan["noise_multiplier"] ** 2)
            assert plan["epsilon_pld"] == pytest.approx(2.0, abs=1e-3)
            assert plan["epsilon_pld"] <= plan["epsilon_prv_bound"] <= 2.005
            assert plan["epsilon_pld"] < plan["epsilon_rdp"] < 2.5
            assert plan["delta"] == 1e-6
        assert [plan["min_separation"] for plan in found] == [1, 20, 20, 20, 20]
        assert [plan["max_participations"] for plan in found] == [1] * 5

    def test_plan_with_poisson_adds_one_row_with_its_assumption(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """And no other row has it."""
        *others, sampled = plans(capsys, "--poisson")
        assert "Poisson" in sampled["assumes"][0]
        assert not any("Poisson" in said for plan in others for said in plan["assumes"])
        assert 1.95 <= sampled["epsilon_pld"] <= 2.0 + 1e-9

    def test_plan_table_shows_every_mechanism_verdict_and_claim(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Never an epsilon without its neighbours and whom one trusts."""
        assert main(words(min_separation="10")) == 0
        out = capsys.readouterr().out
        for part in ("gaussian", "tree", "blt", "10 rounds apart", "neighbours:", "trusted:"):
            assert part in out
        assert "benchmarks.utility_curves" in out

    def test_plan_takes_every_option_that_help_names(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """They change what they say."""
        (plan,) = plans(capsys, task="item-counts", rounds="1", dimension="50")
        assert (plan["task"], plan["dimension"], plan["predicted"]) == ("item-counts", 50, None)
        run = plans(capsys, min_separation="5", max_participations="3")[-1]
        assert (run["min_separation"], run["max_participations"]) == (5, 3)
        near = plans(capsys, availability="0.1")[-1]
        assert near["min_separation"] == 5
        named = plans(capsys, curve="online-retail-item-training")[-1]
        assert named["predicted"]["curve"] == "online-retail-item-training"

    def test_plan_warns_of_what_is_unwise(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Planned all the same."""
        assert main(words(delta="0.001")) == 0
        assert "careful: delta 0.001 is above 1 / population" in capsys.readouterr().out


class TestOut:
    """The policy file."""

    def test_out_writes_the_recommended_plan(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Readable by the reader, and nobody's approval yet."""
        to = tmp_path / "policy.toml"
        (chosen,) = [plan for plan in plans(capsys, "--out", str(to)) if plan["recommended"]]
        policy = read_policy(to.read_bytes())
        assert policy.mechanism.value == chosen["mechanism"]
        assert policy.noise_multiplier == chosen["noise_multiplier"]
        assert not policy.approved

    def test_out_writes_the_mechanism_that_was_named(self, tmp_path: Path) -> None:
        """For the population that was named."""
        to = tmp_path / "policy.toml"
        more = ["--out", str(to), "--mechanism", "blt", "--population-name", "shop"]
        assert main(words(*more, clip_norm="0.5")) == 0
        policy = read_policy(to.read_bytes())
        assert (policy.mechanism.value, policy.population, policy.rounds) == ("blt", "shop", 20)
        assert policy.clip_norm == 0.5

    def test_out_where_everything_drowns_writes_nothing_and_fails(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is said, and a script notices; who insists is let."""
        to = tmp_path / "policy.toml"
        tiny = {"population": "50", "report_goal": "5", "rounds": "4", "epsilon": "0.1"}
        assert main(words("--out", str(to), **tiny)) == 1
        caught = capsys.readouterr()
        assert caught.out.count("drowns in noise") == 5
        assert "no policy was written" in caught.err
        assert not to.exists()
        assert main(words("--out", str(to), "--mechanism", "blt", **tiny)) == 0
        assert read_policy(to.read_bytes()).mechanism.value == "blt"

    def test_what_if_writes_picture_and_numbers(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Beside each other."""
        pytest.importorskip("matplotlib", reason="the extra 'simulation' is not installed")
        assert main(words("--what-if", str(tmp_path / "plan.svg"))) == 0
        assert {each.name for each in tmp_path.iterdir()} == {"plan.svg", "plan.json"}
        assert "epsilon_against_rounds" in json.loads((tmp_path / "plan.json").read_text())
        assert str(tmp_path / "plan.svg") in capsys.readouterr().out


class TestMistakes:
    """One line on stderr, exit code 2, nothing written."""

    @pytest.mark.parametrize(
        ("changes", "part"),
        [
            ({"population": "many"}, "--population: a whole number"),
            ({"population": "0"}, "--population: a whole number"),
            ({"population": "-5"}, "--population"),
            ({"population": "1e5"}, "--population: a whole number"),
            ({"population": "9" * 40}, "--population: a whole number"),
            ({"population": "²"}, "--population: a whole number"),
            ({"report_goal": "0"}, "--report-goal: a whole number"),
            ({"report_goal": "30000"}, "needs more than the 20,000 people"),
            ({"rounds": "1.5"}, "--rounds: a whole number"),
            ({"rounds": "1000000"}, "at most 65,536"),
            ({"epsilon": "two"}, "--epsilon: a number"),
            ({"epsilon": "0"}, "epsilon must be finite and above 0"),
            ({"epsilon": "inf"}, "epsilon must be finite and above 0"),
            ({"epsilon": "nan"}, "epsilon must be finite and above 0"),
            ({"delta": "0"}, "delta must lie strictly between 0 and 1"),
            ({"delta": "1"}, "delta must lie strictly between 0 and 1"),
            ({"delta": "x"}, "--delta: a number"),
            ({"task": "mind-reading"}, "invalid choice"),
            ({"min_separation": "0"}, "--min-separation: a whole number"),
            ({"min_separation": "21"}, "more than the 20 rounds"),
            ({"min_separation": "x"}, "--min-separation: a whole number"),
            ({"max_participations": "0"}, "--max-participations: a whole number"),
            ({"availability": "0"}, "availability must be above 0"),
            ({"availability": "half"}, "--availability: a number"),
            ({"dimension": "0"}, "--dimension: a whole number"),
            ({"curve": "nobody"}, "no utility curve 'nobody'"),
            ({"mechanism": "blt"}, "it needs --out"),
            ({"mechanism": "magic", "out": "DIR/p.toml"}, "there is no plan 'magic'"),
            ({"population_name": ""}, "--population-name"),
            ({"clip_norm": "0"}, "--clip-norm must be above 0 and at most 10"),
            ({"clip_norm": "nan"}, "--clip-norm must be above 0 and at most 10"),
            ({"clip_norm": "11"}, "--clip-norm must be above 0 and at most 10"),
            ({"population_name": "a\nb"}, "--population-name"),
            ({"out": "DIR/missing/p.toml"}, "there is no folder"),
            ({"out": "DIR"}, "is a folder"),
            ({"what_if": "DIR/plan.gif"}, ".svg or .png"),
            ({"what_if": "DIR/missing/plan.svg"}, "there is no folder"),
            ({"colour": "green"}, "unrecognized arguments"),
            ({"pop": "100"}, "unrecognized arguments"),
        ],
    )
    def test_nonsense_is_one_clear_line(
        self,
        changes: dict[str, str],
        part: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """For every flag."""
        placed = {name: each.replace("DIR", str(tmp_path)) for name, each in changes.items()}
        assert main(words(**placed)) == 2
        caught = capsys.readouterr()
        assert caught.out == ""
        assert part in caught.err
        assert caught.err.startswith("homebody: error: ")
        assert caught.err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("missing", list(NEEDED))
    def test_missing_number_is_named(
        self, missing: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nobody's population is guessed."""
        given = [part for pair in NEEDED.items() if pair[0] != missing for part in pair]
        assert main(["plan", *given]) == 2
        assert missing in capsys.readouterr().err

    def test_help_teaches_by_examples_and_words(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Every flag is in it."""
        assert main(["plan", "--help"]) == 0
        out = capsys.readouterr().out
        for part in (*NEEDED, "--min-separation", "--poisson", "--out", "--what-if", "--json"):
            assert part in out
        assert "examples:" in out
        assert "words:" in out

    def test_help_and_mistakes_load_nothing_heavy(self) -> None:
        """A typing mistake is answered at once."""
        code = (
            "import sys; from privacy.cli import main; main(['plan', '--help']); "
            "main(['plan', '--rounds', 'x']); "
            "print({'scipy', 'torch', 'opacus', 'dp_accounting', 'matplotlib'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert done.stdout.splitlines()[-1] == "set()"
