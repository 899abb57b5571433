"""What is finished, one file a job: written whole or not at all, and never done again.

A file's name is its job's identity (`simulations.sweeps.cell.Job.identity`): settings, seed, split,
data and code. So a changed sweep finds again what it has in common with the old one, and another
version of the code or other data finds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from simulations.report.files import write_whole

CELLS: Final = "cells"


class CellDamagedError(ValueError):
    """A file of a finished cell does not read; the message names it and says what to do."""


class CellStore:
    """The finished jobs of a sweep's folder.

    Args:
        folder: Of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / CELLS

    def load(self, identity: str) -> dict[str, Any] | None:
        """Give what a job found; None where it is not finished.

        Raises:
            CellDamagedError: its file is not what `save` writes.
        """
        file = self._file(identity)
        try:
            told = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._damaged(file) from error
        if not isinstance(told, dict) or told.get("identity") != identity:
            raise self._damaged(file)
        found = told.get("found")
        if not isinstance(found, dict) or not {"metrics", "failed"} & set(found):
            raise self._damaged(file)
        return found

    def save(self, identity: str, found: Mapping[str, Any]) -> None:
        """Keep what a job found.

        Raises:
            OutputError: the file cannot be written.
        """
        text = json.dumps({"identity": identity, "found": found}, allow_nan=False, indent=1)
        write_whole(self._file(identity), text + "\n")

    def _file(self, identity: str) -> Path:
        return self.folder / f"{identity}.json"

    def _damaged(self, file: Path) -> CellDamagedError:
        return CellDamagedError(f"{file} is damaged or was renamed; remove it to run it again")
