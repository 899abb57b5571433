"""What a device accepts as a release. Bytes in, verdict out; no input or output.

Rules a reader can check line by line (who signed it has been checked before, by the TUF client):

1. A manifest has at most ``max_manifest_bytes``, a file at most ``max_file_bytes``, a release at
   most ``max_release_bytes``, as signed, before anything is downloaded.
2. The release number is higher than the active one's. The same bytes are nothing new; a lower
   number, or other content under the same number, is refused.
3. The release does not need a newer SDK.
4. Each file's signed hash is the one that the manifest names, and so is the hash of its bytes.

Test: tests/client_sdk/delivery/test_release.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from client_sdk.errors import ReleaseRejectedError
from client_sdk.version import SDK_VERSION, read_version
from client_sdk.wire import ReleaseManifest, WireFormatError, sha256_hex


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a device takes in, and how long it waits.

    Attributes:
        max_manifest_bytes: Of ``release.json``.
        max_metadata_bytes: Of one TUF metadata file.
        max_file_bytes: Of one file of a release.
        max_release_bytes: Of all files of a release together.
        timeout_s: For a connection, and between two pieces of an answer.
        download_s: For one whole download.
    """

    max_manifest_bytes: int = 64 * 1024
    max_metadata_bytes: int = 256 * 1024
    max_file_bytes: int = 64 * 1024 * 1024
    max_release_bytes: int = 128 * 1024 * 1024
    timeout_s: float = 10.0
    download_s: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release whose every byte was checked.

    Attributes:
        manifest: What it is made of.
        files: File name to content; each has the hash that the manifest names.
    """

    manifest: ReleaseManifest
    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if set(self.files) != set(self.manifest.files):
            raise ValueError("the files are not those that the manifest names")
        for name, content in self.files.items():
            if sha256_hex(content) != self.manifest.files[name]:
                raise ValueError(f"{name} does not have the hash that the manifest names")

    def by_hash(self) -> dict[str, bytes]:
        """Return SHA-256 to content."""
        return {self.manifest.files[name]: content for name, content in self.files.items()}


def judge_manifest(data: bytes, *, active: ReleaseManifest | None) -> ReleaseManifest | None:
    """Decide whether a signed manifest is a release to fetch.

    Args:
        data: The manifest's bytes.
        active: What the device uses now.

    Returns:
        The manifest, or None where it is what the device uses already.

    Raises:
        ReleaseRejectedError: rules 2 and 3, or malformed.
    """
    try:
        manifest = ReleaseManifest.from_bytes(data)
        needs_newer = read_version(manifest.minimum_sdk_version) > read_version(SDK_VERSION)
    except (WireFormatError, ValueError) as error:
        raise ReleaseRejectedError("the release's manifest is malformed") from error
    if needs_newer:
        raise ReleaseRejectedError(
            f"release {manifest.version} needs SDK {manifest.minimum_sdk_version}; this is "
            f"{SDK_VERSION}: update the app"
        )
    if active is None or manifest.version > active.version:
        return manifest
    if manifest == active:
        return None
    raise ReleaseRejectedError(
        f"expected a release above {active.version}; got another release {manifest.version}"
    )


def judge_files(
    manifest: ReleaseManifest, signed: Mapping[str, tuple[int, str]], *, limits: Limits
) -> None:
    """Decide, before anything is downloaded, whether a release's files are acceptable.

    Args:
        manifest: The release.
        signed: File name to length in bytes and SHA-256, as in the signed metadata.
        limits: The device's limits.

    Raises:
        ReleaseRejectedError: rules 1 and 4.
    """
    total = 0
    for name, expected in manifest.files.items():
        size, sha256 = signed[name]
        if sha256 != expected:
            raise ReleaseRejectedError(
                f"{name} of release {manifest.version} is signed with another hash than its "
                "manifest names"
            )
        total += check_size(name, size, limits.max_file_bytes)
    check_size(f"release {manifest.version}", total, limits.max_release_bytes)


def check_size(what: str, size: int, limit: int) -> int:
    """Return ``size``, or refuse.

    Raises:
        ReleaseRejectedError: it is above the limit.
    """
    if size > limit:
        raise ReleaseRejectedError(f"{what} has {size} bytes; this device takes at most {limit}")
    return size
