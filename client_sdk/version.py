"""The SDK's version, for a release's ``minimum_sdk_version``."""

from __future__ import annotations

from typing import Final

SDK_VERSION: Final = "0.1.0"


def read_version(text: str) -> tuple[int, int, int]:
    """Read ``"major.minor.patch"``.

    Raises:
        ValueError: anything else.

    >>> read_version("1.12.0") > read_version("1.9.3")
    True
    """
    parts = text.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError('a version is written "major.minor.patch"')
    if max(len(part) for part in parts) > 6:
        raise ValueError("a part of a version has at most 6 digits")
    major, minor, patch = (int(part) for part in parts)
    return major, minor, patch
