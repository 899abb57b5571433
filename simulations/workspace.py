"""Where a simulation keeps its devices and its house while it runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- a private folder is made in it
_ROOM_BYTES: Final = 4 << 30


@contextmanager
def temporary_workspace() -> Iterator[Path]:
    """Give a private folder that is gone afterwards, in memory where there is room for it.

    Hundreds of stores that each wait for one disk are no simulation of anything.
    """
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    in_memory = roomy and os.access(_MEMORY, os.W_OK)
    with tempfile.TemporaryDirectory(
        prefix="homebody-", dir=_MEMORY if in_memory else None
    ) as folder:
        yield Path(folder)
