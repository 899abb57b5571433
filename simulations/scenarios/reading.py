"""From a file to a `Scenario`: one clear error that names file, line and remedy, or the values."""

from __future__ import annotations

from pathlib import Path

from client_sdk.experience.toml_file import FileMistakeError, TomlFile
from simulations.scenarios.forms import ScenarioTable, read_table
from simulations.scenarios.scenario import Scenario

__all__ = ["FileMistakeError", "read_scenario"]


def read_scenario(source: Path | str, *, name: str = "scenario.toml") -> Scenario:
    r"""Read a scenario from a file, or from the text itself; see ``scenario.schema.json``.

    Args:
        source: A `Path`, or text.
        name: What to call it in an error, where it is text.

    Raises:
        FileMistakeError: at the first key that cannot be used; it names file, line and remedy.
        OSError: the file cannot be read.

    >>> read_scenario("seed = 1\nsed = 2")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    client_sdk.experience.toml_file.FileMistakeError: scenario.toml, line 2: sed: ...
    """
    file = TomlFile.read(source, name=name)
    return read_table(Scenario, ScenarioTable(file=file, place=(), values=file.tables))
