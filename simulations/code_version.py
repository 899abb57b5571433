"""Which code this is: a digest of the sources of all packages, and of numpy's version.

Two processes with the same digest compute the same bits from the same input. What a simulation
stores to go on later, and what a worker elsewhere adds up, is used only where the digests agree.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Final

import numpy as np

_ROOT: Final = Path(__file__).resolve().parents[1]
_PACKAGES: Final = ("aggregator", "client_sdk", "models", "privacy", "simulations")
_SUFFIXES: Final = (".py", ".c")


@functools.cache
def code_sha256() -> str:
    """Return the digest of this process' code, hexadecimal; read once.

    >>> len(code_sha256())
    64
    """
    digest = hashlib.sha256(f"numpy {np.__version__}".encode())
    for package in _PACKAGES:
        files = [each for each in (_ROOT / package).rglob("*") if each.suffix in _SUFFIXES]
        for file in sorted(files):
            content = file.read_bytes()
            name = file.relative_to(_ROOT).as_posix()
            digest.update(f"\n{name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()
