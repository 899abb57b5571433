"""``homebody privacy audit``: a verdict in words and as JSON, a picture, exit codes, bad input."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import homebody
from privacy.audit import separation
from privacy.noise import GaussianNoise
from simulations.audit.aggregation import AuditedMechanism, Claim, Ports
from simulations.audit.cli import FAILS, HOLDS, USAGE, main, readable
from simulations.audit.picture import draw
from simulations.audit.verdict import AuditResult, Look, Scored

FAST = ["audit", "--canaries", "200", "--seed", "4", "--skip-membership"]


def result_of(*, mu: float, contradicts: bool) -> AuditResult:
    """Give a verdict on scores that were made up."""
    rng = np.random.default_rng(1)
    inside, outside = rng.standard_normal((2, 300))
    found = separation(inside + mu, outside)
    look = Look(
        name="everyone",
        found=found.mu,
        allowed=1.0,
        p_value=0.0,
        contradicts=contradicts,
        says="they stand out",
    )
    return AuditResult(
        claim=Claim(mechanism=AuditedMechanism.BLT, epsilon=4.0, delta=1e-6),
        claimed_epsilon=4.0,
        headline=found,
        lower_bound=0.5,
        canaries=600,
        took_part=300,
        looks=(look,),
        scores=Scored(inside=inside + mu, outside=outside, mu=1.0),
        seed=None,
    )


def test_audit_json_has_the_promised_keys_and_exit_code() -> None:
    """The five keys of the contract are there, and the exit code says what ``holds`` says."""
    out, err = io.StringIO(), io.StringIO()
    code = main([*FAST, "--json", "--mechanism", "gaussian"], stdout=out, stderr=err)
    values = json.loads(out.getvalue())
    assert {"claimed_epsilon", "estimated_epsilon", "lower_bound", "canaries", "holds"} <= set(
        values
    )
    assert (code, values["holds"], values["canaries"]) == (HOLDS, True, 200)
    assert values["claimed_epsilon"] == pytest.approx(8.0, rel=1e-6)
    assert 100 - 40 < values["took_part"] < 100 + 40
    assert "200 canaries through the pipeline" in err.getvalue()


def test_audit_out_writes_picture_and_result(tmp_path: Path) -> None:
    """The folder is made, the picture is an SVG, the result is what ``--json`` prints."""
    out, folder = io.StringIO(), tmp_path / "new" / "audit"
    code = main([*FAST, "--quiet", "--out", str(folder)], stdout=out, stderr=io.StringIO())
    assert code == HOLDS
    assert "the claim holds" in out.getvalue()
    assert str(folder / "audit.svg") in out.getvalue()
    values = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert readable(values) in out.getvalue()
    picture = ET.fromstring((folder / "audit.svg").read_text(encoding="utf-8"))  # noqa: S314
    assert picture.tag.endswith("svg")


@pytest.mark.parametrize(
    ("contradicts", "words"),
    [(False, "the claim holds"), (True, "THE CLAIM DOES NOT HOLD")],
)
def test_readable_and_picture_say_the_verdict(contradicts: bool, words: str) -> None:
    """Words and picture say the same, also where a leak is without end."""
    for mu in (0.5, 1e6):
        result = result_of(mu=mu, contradicts=contradicts)
        assert result.holds is not contradicts
        text = readable(result.to_values())
        assert words in text
        assert ("CONTRADICTS" in text) is contradicts
        assert ("over 1,000" in text) is (mu > 1.0)
        picture = draw(result)
        assert ("DOES NOT HOLD" in picture) is contradicts
        assert picture == draw(result)
        assert json.loads(json.dumps(result.to_values(), allow_nan=False))["lower_bound"] == 0.5


@pytest.mark.parametrize(
    "words",
    [
        ["--epsilon", "0"],
        ["--epsilon", "-1"],
        ["--epsilon", "nan"],
        ["--epsilon", "21"],
        ["--epsilon", "much"],
        ["--delta", "0"],
        ["--delta", "1"],
        ["--mechanism", "tree"],
        ["--canaries", "99"],
        ["--canaries", "20001"],
        ["--canaries", "many"],
        ["--seed", "-1"],
        ["--nonsense"],
        ["surplus"],
    ],
)
def test_audit_bad_input_is_one_line_and_code_two(words: list[str]) -> None:
    """A mistake is told before anything runs."""
    out, err = io.StringIO(), io.StringIO()
    code = main(["audit", "--quiet", "--skip-membership", *words], stdout=out, stderr=err)
    assert code == USAGE
    assert out.getvalue() == ""
    assert err.getvalue().count("\n") == 1
    assert err.getvalue().startswith("homebody: error: ")


def test_audit_out_that_is_a_file_is_one_line_and_code_two(tmp_path: Path) -> None:
    """A folder that cannot be made is told before the run."""
    (tmp_path / "taken").write_text("")
    err = io.StringIO()
    code = main(
        [*FAST, "--quiet", "--out", str(tmp_path / "taken")], stdout=io.StringIO(), stderr=err
    )
    assert (code, err.getvalue().count("\n")) == (USAGE, 1)
    assert "taken" in err.getvalue()


def test_audit_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` shows examples, and leaves with 0; the front door finds the command."""
    assert homebody.main(["privacy", "audit", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert "canary" in shown


def test_audit_of_a_faulty_pipeline_leaves_with_code_one() -> None:
    """A claim that does not hold fails the build: exit code 1, after the verdict."""
    out = io.StringIO()
    faulty = Ports(new_noise=lambda: GaussianNoise.from_seed_for_simulation(3))
    words = [*FAST, "--quiet", "--mechanism", "gaussian"]
    assert main(words, ports=faulty, stdout=out, stderr=io.StringIO()) == FAILS
    assert "THE CLAIM DOES NOT HOLD" in out.getvalue()
    assert main([*words, "--json"], ports=faulty, stdout=out, stderr=io.StringIO()) == FAILS
