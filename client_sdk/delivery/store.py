"""Releases on the device's disk: one file each; the highest number that is whole is in use.

Layout: ``releases/<number>-<SHA-256 of the manifest>.release``, each the magic, the length of a
header, the header (name to size, canonical JSON), then the manifest and the files in the order of
their names.

Rules a reader can check line by line:

1. A release is written and synced under a temporary name; one atomic rename puts it to use. A crash
   at any step leaves the old release in use.
2. Whatever is read is hashed again. What does not match is as good as absent: the release before
   it is used, or none. Reading never raises.
3. The release in use and the one before it are kept; older ones are deleted.

Why no pointer file: numbers only rise (`client_sdk.delivery.release`, rule 2), so the name says
which release is newest; without a pointer there is no state in which both disagree, and activation
waits for the disk twice instead of ten times.

Test: tests/client_sdk/delivery/test_store.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from client_sdk.delivery.release import Release
from client_sdk.wire import MANIFEST_TARGET, ReleaseManifest, canonical_json, sha256_hex

_RELEASES: Final = "releases"
_WRITING: Final = ".writing-"
_NAME: Final = re.compile(r"([1-9][0-9]{0,15})-[0-9a-f]{64}\.release")
_KEPT: Final = 2
_MAGIC: Final = b"HBR1"
_PREFIX: Final = struct.Struct(">4sI")
# Above what `client_sdk.wire.release.MAX_RELEASE_FILES` names and sizes take.
_MAX_HEADER_BYTES: Final = 32 * 1024


class ReleaseStore:
    """The releases below one directory.

    Args:
        directory: Made on the first `activate`.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / _RELEASES

    def active(self) -> Release | None:
        """Return the newest kept release that is whole, or None. Never raises."""
        for path in self._newest_first():
            release = _load(path)
            if release is not None:
                return release
        return None

    def activate(self, release: Release) -> None:
        """Write a release and use it from now on; its number must be the highest.

        Raises:
            OSError: the disk refused; the old release stays in use.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / _name_of(release.manifest)
        _write_whole(place, pack_release(release.manifest.to_bytes(), release.files))
        self._tidy(place)

    def _newest_first(self) -> list[Path]:
        try:
            paths = list(self._folder.iterdir())
        except OSError:
            return []
        found = [(int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def _tidy(self, newest: Path) -> None:
        """Keep the newest and the last whole one before it; delete everything else."""
        kept = [newest]
        for path in self._newest_first():
            if path != newest and len(kept) < _KEPT and _load(path) is not None:
                kept.append(path)
        for path in self._folder.iterdir():
            if path not in kept:
                with contextlib.suppress(OSError):
                    path.unlink()


def pack_release(manifest: bytes, files: Mapping[str, bytes]) -> bytes:
    """Put a manifest and its files into one block of bytes."""
    parts = {MANIFEST_TARGET: manifest, **files}
    header = canonical_json({name: len(content) for name, content in parts.items()})
    contents = [parts[name] for name in sorted(parts)]
    return b"".join([_PREFIX.pack(_MAGIC, len(header)), header, *contents])


def unpack_release(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Take apart what `pack_release` put together; nothing is verified yet.

    Raises:
        ValueError: it is something else.
    """
    if len(data) < _PREFIX.size:
        raise ValueError("too short for a release")
    magic, header_bytes = _PREFIX.unpack_from(data)
    start = _PREFIX.size + header_bytes
    if magic != _MAGIC or header_bytes > _MAX_HEADER_BYTES:
        raise ValueError("not a release")
    sizes = json.loads(data[_PREFIX.size : start])
    parts: dict[str, bytes] = {}
    for name in sorted(sizes):
        size = sizes[name]
        if type(size) is not int or size < 0:
            raise ValueError("a size is not a size")
        parts[name] = data[start : start + size]
        start += size
    if start != len(data) or MANIFEST_TARGET not in parts:
        raise ValueError("the sizes do not fit the release")
    return parts.pop(MANIFEST_TARGET), parts


def _load(path: Path) -> Release | None:
    try:
        data, files = unpack_release(path.read_bytes())
        manifest = ReleaseManifest.from_bytes(data)
        if path.name != _name_of(manifest):
            return None
        return Release(manifest=manifest, files=files)
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _name_of(manifest: ReleaseManifest) -> str:
    return f"{manifest.version}-{sha256_hex(manifest.to_bytes())}.release"


def _write_whole(place: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=_WRITING)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
