"""The README tells the truth: its example runs, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_example_is_the_file_that_runs() -> None:
    """The ten lines in the README are those of the example, and print a list with reasons."""
    example = ROOT / "examples" / "first_list.py"
    (shown,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert example.read_text(encoding="utf-8").endswith(shown)
    run = subprocess.run(
        [sys.executable, str(example)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert run.stdout.splitlines()[0] == "Green tea: You bought it."
    assert len(run.stdout.splitlines()) == 3


def test_example_publishes_a_release_that_a_device_runs() -> None:
    """Operator and device meet over HTTP in one file that a newcomer can read."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "publish_release.py")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert run.stdout.splitlines() == [
        "published release 1",
        "the device runs release 1",
        "Green tea, Desk lamp",
    ]


def test_example_knows_and_forgets() -> None:
    """A day on one device: wishes, events from elsewhere, features, a new item, erasure."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "know_and_forget.py")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    said = [line.strip() for line in run.stdout.splitlines()]
    for line in (
        "Desk lamp - Because you asked for more home.",
        "3 events kept, 1 set aside:",
        "item_id: expected an item for the kind 'cart'; got none",
        "You bought something less than a day ago.",
        "Matcha green tea - Because you often choose pantry.",
        "7 lines exported. After a withdrawal the list is everybody's:",
        "Green tea - From the catalogue.",
    ):
        assert line in said
    assert not [line for line in said if line.startswith("Desk lamp - You")]


def test_readme_device_commands_exist() -> None:
    """Every `homebody device` command that the README shows is one."""
    page = subprocess.run(
        [sys.executable, str(ROOT / "homebody.py"), "device", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    ).stdout
    named = set(re.findall(r"homebody device ([a-z]+)", README))
    assert {"show", "export", "erase", "doctor"} <= named
    assert all(f"    {name} " in page for name in named)


def test_readme_make_targets_exist() -> None:
    """Every `make` command that the README names is a target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"make ([a-z]+)", README)) - {"sure"}
    assert named
    assert named <= set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))


def test_ci_and_readme_share_one_test_command() -> None:
    """What CI runs is what the README tells a newcomer to run."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in script
    assert "make demo" in script
