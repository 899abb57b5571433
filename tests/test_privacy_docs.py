"""What the privacy documents name is there: commands, options, tests and files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import homebody

ROOT = Path(homebody.__file__).parent
PAGES = ("docs/privacy-officer.md", "docs/threat-model.md", "privacy/README.md")


@pytest.mark.parametrize("page", PAGES)
def test_page_names_commands_that_exist(page: str) -> None:
    """Each ``homebody privacy X`` is a part of the command."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"homebody privacy ([a-z]+)", text))
    assert named <= set(homebody.COMMANDS["privacy"].parts)


@pytest.mark.parametrize("page", PAGES)
def test_page_names_files_and_tests_that_exist(page: str) -> None:
    """A claim that names the test which holds it is held by that test."""
    text = (ROOT / page).read_text(encoding="utf-8")
    folder = ""
    for path, name in re.findall(r"`((?:[\w.-]+/)*[\w-]+\.py)(?:::(\w+))?`", text):
        at = ROOT / path
        # A second test of one line may be named without its folder.
        if "/" not in path:
            at = ROOT / (folder or str(Path(page).parent)) / path
        assert at.is_file(), path
        assert name in at.read_text(encoding="utf-8")
        folder = str(at.parent.relative_to(ROOT)) if path.startswith("tests/") else folder


def test_officers_page_shows_every_command_of_an_officer() -> None:
    """All that answers the three questions is shown at least once."""
    text = (ROOT / "docs/privacy-officer.md").read_text(encoding="utf-8")
    for part in homebody.COMMANDS["privacy"].parts:
        assert f"$ homebody privacy {part}" in text, part
