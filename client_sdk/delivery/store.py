"""Releases on the device's disk: one folder each, and one pointer that says which is in use.

Layout::

    releases/<number>-<hash>/   release.json and the files, as published
    active.json                 the folder in use, the one before it, their manifests' hashes

Rules a reader can check line by line:

1. A release is complete and synced under a temporary name before its folder gets its name, and the
   pointer changes last, by an atomic rename: a crash at any step leaves the old release in use.
2. Whatever is read is hashed again. What does not match is as good as absent: the release before
   it is used, or none. Reading never raises.
3. The release in use and the one before it are kept; older ones are deleted.

Test: tests/client_sdk/delivery/test_store.py.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from client_sdk.delivery.release import Release
from client_sdk.wire import MANIFEST_TARGET, ReleaseManifest, canonical_json, sha256_hex

_POINTER: Final = "active.json"
_RELEASES: Final = "releases"
_WRITING: Final = ".writing-"


class ReleaseStore:
    """The releases below one directory.

    Args:
        directory: Made on the first `activate`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def active(self) -> Release | None:
        """Return the newest of the two kept releases that is whole, or None. Never raises."""
        for entry in self._entries():
            release = self._load(entry)
            if release is not None:
                return release
        return None

    def activate(self, release: Release) -> None:
        """Write a release and use it from now on.

        Raises:
            OSError: the disk refused; the old release stays in use.
        """
        folder = self._directory / _RELEASES
        folder.mkdir(parents=True, exist_ok=True)
        manifest = release.manifest.to_bytes()
        sha256 = sha256_hex(manifest)
        name = f"{release.manifest.version}-{sha256[:16]}"
        kept = [entry for entry in self._entries() if entry["folder"] != name]
        kept = [entry for entry in kept if self._load(entry) is not None][:1]
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=_WRITING))
        try:
            for file, content in {**release.files, MANIFEST_TARGET: manifest}.items():
                _write_synced(temporary / file, content)
            _sync_folder(temporary)
            shutil.rmtree(folder / name, ignore_errors=True)
            temporary.rename(folder / name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(folder)
        entries = [{"folder": name, "sha256": sha256}, *kept]
        self._write_pointer(canonical_json({"releases": entries}))
        self._delete_all_but({entry["folder"] for entry in entries})

    def _entries(self) -> list[dict[str, str]]:
        try:
            pointer = json.loads((self._directory / _POINTER).read_bytes())
            entries = [
                {"folder": str(entry["folder"]), "sha256": str(entry["sha256"])}
                for entry in pointer["releases"]
            ]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return []
        return [entry for entry in entries if Path(entry["folder"]).name == entry["folder"]]

    def _load(self, entry: Mapping[str, Any]) -> Release | None:
        folder = self._directory / _RELEASES / entry["folder"]
        try:
            data = (folder / MANIFEST_TARGET).read_bytes()
            if sha256_hex(data) != entry["sha256"]:
                return None
            manifest = ReleaseManifest.from_bytes(data)
            files = {name: (folder / name).read_bytes() for name in manifest.files}
            return Release(manifest=manifest, files=files)
        except (OSError, ValueError):
            return None

    def _write_pointer(self, data: bytes) -> None:
        temporary = self._directory / (_WRITING + _POINTER)
        _write_synced(temporary, data)
        temporary.replace(self._directory / _POINTER)
        _sync_folder(self._directory)

    def _delete_all_but(self, kept: set[str]) -> None:
        for folder in _folders(self._directory / _RELEASES):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _folders(directory: Path) -> Iterator[Path]:
    return (path for path in directory.iterdir() if path.is_dir())


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
