"""Definitions and their files: one clear error with file, line and remedy."""

import re
from dataclasses import replace
from typing import Any

import pytest

from client_sdk.experience.experiments import (
    Arm,
    Experiment,
    FieldError,
    Guard,
    Layer,
    Metric,
    check_together,
)
from client_sdk.experience.toml_file import FileMistakeError
from tests.client_sdk.experience.experiments.conftest import DAY_S, START_S, MakeExperiment

FILE = """\
name = "linen-first"   # line 1
share = 0.2
holdout = 0.05
start = 2027-01-15T08:00:00Z
end = 2027-03-16T08:00:00Z
exposure_window = "14 days"
late = "36 hours"

[layer]
name = "home-shelf"
end = 0.5

[[arms]]
name = "control"

[[arms]]
name = "linen"
weight = 3

[[metrics]]
name = "bought"
event = "purchase"
window = "7 days"

[[metrics]]
name = "spent"
event = "purchase"
value = "amount"
bound = 200
window = "7 days"

[[guards]]
name = "dismissed"
event = "message_dismissed"
limit = 3
window = "1 day"
"""


def test_from_toml_reads_every_field() -> None:
    """A file gives the same experiment as the values do."""
    week = 7 * DAY_S
    assert Experiment.from_toml(FILE, file="linen.toml") == Experiment(
        name="linen-first",
        share=0.2,
        holdout=0.05,
        start_s=START_S,
        end_s=START_S + 60 * DAY_S,
        exposure_window_s=14 * DAY_S,
        late_s=1.5 * DAY_S,
        layer=Layer(name="home-shelf", end=0.5),
        arms=(Arm(name="control"), Arm(name="linen", weight=3)),
        metrics=(
            Metric(name="bought", event="purchase", window_s=week),
            Metric(name="spent", event="purchase", value="amount", bound=200.0, window_s=week),
        ),
        guards=(Guard(name="dismissed", event="message_dismissed", limit=3.0, window_s=DAY_S),),
    )


def test_from_toml_fills_in_what_is_not_said() -> None:
    """Everybody, no holdout, no layer, no guard, for as long as it runs."""
    short = "\n".join(
        line
        for line in FILE.partition("[[guards]]")[0].splitlines()
        if not line.startswith(("share", "holdout", "exposure", "late", "[layer", "end = 0.5"))
        and "home-shelf" not in line
    )
    found = Experiment.from_toml(short, file="linen.toml")
    assert (found.share, found.holdout, found.layer, found.guards) == (1.0, 0.0, None, ())
    assert found.exposure_end_s == found.end_s
    assert found.groups == ("control", "linen")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("share = 0.2", "share = 1.5", 2, "share: expected a number from 0 to 1; got 1.5; write"),
        ("share = 0.2", "share = true", 2, "share: expected a finite number; got true or false"),
        ("share = 0.2", "share = nan", 2, "share: expected a finite number"),
        ("share = 0.2", "share = 1" + "0" * 400, 2, "share: expected a finite number"),
        ("share = 0.2", "share =", 2, "expected TOML"),
        ("share = 0.2", "shares = 0.2", 2, "shares: expected no other key"),
        ("holdout = 0.05", "holdout = 1", 3, "holdout: expected a number from 0 to below 1"),
        ('name = "linen-first"', 'name = "Linen"', 1, "name: expected 1 to 64 of a-z"),
        ('name = "linen-first"', "name = 7", 1, "name: expected text; got a number"),
        ('window = "7 days"', 'window = "0 days"', 23, "metrics #1.window: expected a duration"),
        ('name = "linen-first"', "", 1, "name: expected text; got none: add name"),
        ("T08:00:00Z\nend", "T08:00:00\nend", 4, "start: expected a time with its zone"),
        ("end = 2027-03", "end = 2026-03", 5, "end: expected a time after the start"),
        ('"14 days"', '"2 weeks"', 6, "exposure_window: expected a whole number of seconds"),
        ('"14 days"', '"90 days"', 6, "exposure_window: expected a duration above 0, no longer"),
        ('"36 hours"', '"9000 hours"', 7, "late: expected a duration of at most 366 days"),
        ("end = 0.5", "end = 1.5", 9, "layer.start: expected 0 <= start < end <= 1"),
        ("[layer]", "[[layer]]", 9, "layer: expected a table; got a list"),
        ('name = "linen"', 'name = "control"', 13, "arms: expected different names"),
        ('name = "linen"', 'name = "holdout"', 17, "arms #2.name: expected another name; got"),
        ("weight = 3", "weight = 0", 18, "arms #2.weight: expected a number above 0"),
        (
            'event = "purchase"\nwindow',
            'event = "P"\nwindow',
            22,
            "metrics #1.event: expected the name",
        ),
        ('value = "amount"', 'value = "sum"', 28, "metrics #2.value: expected one of"),
        ("bound = 200", "bound = -1", 29, "metrics #2.bound: expected a number above 0"),
        ('value = "amount"\n', "", 28, "metrics #2.bound: expected 1"),
        ('3\nwindow = "1 day"', "3", 32, "guards #1.window: expected a duration; got none"),
        ("limit = 3", "limit = -3", 35, "guards #1.limit: expected a number from 0"),
        (
            "limit = 3",
            'limit = 3\nvalue = "happened"',
            35,
            "guards #1.limit: expected a number below",
        ),
    ],
)
def test_from_toml_malformed_file_is_one_error_with_file_line_and_remedy(
    old: str, new: str, line: int, says: str
) -> None:
    """Whoever wrote the file reads where to look, what was expected and what to write."""
    assert old in FILE
    with pytest.raises(FileMistakeError) as caught:
        Experiment.from_toml(FILE.replace(old, new, 1), file="journeys/linen.toml")
    message = str(caught.value)
    assert message.startswith(f"journeys/linen.toml, line {line}: {says}")
    assert re.search(r"expected .*; got .*[;:] \w+", message)
    assert "\n" not in message


def test_from_toml_end_of_an_open_text_names_the_last_line() -> None:
    """Where the parser names no line, it is the last one."""
    with pytest.raises(FileMistakeError, match=r"^f\.toml, line 2: expected TOML"):
        Experiment.from_toml('name = "a"\nlate = """', file="f.toml")


def test_from_toml_inline_tables_and_dotted_keys_have_lines_too() -> None:
    """Another spelling of the same file is read, and its errors have a line."""
    text = (
        'name = "a"\nstart = 2027-01-15T00:00:00Z\nend = 2027-02-15T00:00:00Z\n'
        'layer.name = "home"\nlayer.start = 2\n'
        'arms = [{ name = "a" }, { name = "b" }]\n'
        'metrics = [{ name = "m", event = "purchase", window = "1 day" }]\n'
    )
    with pytest.raises(FileMistakeError, match=r"^f, line 5: layer\.start: expected 0 <= start"):
        Experiment.from_toml(text, file="f")
    found = Experiment.from_toml(text.replace("layer.start = 2\n", ""), file="f")
    assert found.layer == Layer(name="home")
    with pytest.raises(FileMistakeError, match=r"^f, line 7: metrics: expected a list of table"):
        Experiment.from_toml(text.partition("metrics")[0] + "metrics = 3", file="f")
    light = text.replace("layer.start = 2", "#").replace("}]", ", weight = 0 }]", 1)
    with pytest.raises(FileMistakeError, match=r"^f, line 6: arms #\d\.weight: expected a number"):
        Experiment.from_toml(light, file="f")


@pytest.mark.parametrize(
    "changes",
    [
        {"arms": (Arm(name="a"),)},
        {"arms": tuple(Arm(name=f"a{n}") for n in range(32))},
        {"metrics": ()},
        {"metrics": tuple(Metric(name=f"m{n}", event="cart", window_s=1) for n in range(17))},
        {"share": -0.1},
        {"share": float("nan")},
        {"holdout": float("nan")},
        {"end_s": START_S},
        {"end_s": 1e18},
        {"exposure_window_s": 0.0},
        {"late_s": -1.0},
    ],
)
def test_experiment_out_of_bounds_is_refused(changes: dict[str, Any], make: MakeExperiment) -> None:
    """What is bounded in a file is bounded in code."""
    with pytest.raises(FieldError, match="expected"):
        make(**changes)


def test_experiment_identity_leaves_out_only_share_and_end(make: MakeExperiment) -> None:
    """Raising the share goes on with the same figures; any other change begins new ones."""
    one = make()
    assert replace(one, share=0.1, end_s=one.end_s - 1).sha256 == one.sha256
    for changes in (
        {"name": "other"},
        {"holdout": 0.1},
        {"arms": (Arm(name="control"), Arm(name="linen", weight=2))},
        {"guards": ()},
        {"layer": Layer(name="home")},
        {"late_s": 0.0},
        {"start_s": START_S + 1},
    ):
        assert make(**changes).sha256 != one.sha256


def test_experiment_whole_numbers_have_the_identity_of_their_floats(make: MakeExperiment) -> None:
    """1 and 1.0 are one weight."""
    arms = (Arm(name="control", weight=1), Arm(name="linen", weight=1.0))
    assert make(arms=arms) == make()
    assert make(arms=arms).sha256 == make().sha256


def test_check_together_refuses_one_name_and_overlapping_segments(make: MakeExperiment) -> None:
    """What shares people by mistake is refused before it runs."""
    half, rest = Layer(name="home", end=0.5), Layer(name="home", start=0.5)
    check_together([make(name="a", layer=half), make(name="b", layer=rest), make(name="c")])
    check_together([make(name="a", layer=half), make(name="b", layer=Layer(name="mail"))])
    with pytest.raises(ValueError, match="overlap"):
        check_together([make(name="a", layer=half), make(name="b", layer=Layer(name="home"))])
    with pytest.raises(ValueError, match="different names"):
        check_together([make(), make(share=0.5)])
