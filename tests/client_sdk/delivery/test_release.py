"""What a device accepts as a release: pure decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.delivery.release import Limits, Release, judge_files, judge_manifest
from client_sdk.errors import ReleaseRejectedError
from client_sdk.wire import CATALOGUE_FILE, POLICY_FILE, ReleaseManifest, sha256_hex

FILES = {CATALOGUE_FILE: b"catalogue", POLICY_FILE: b"policy"}


def manifest(**changes: Any) -> ReleaseManifest:
    """A small release."""
    values: dict[str, Any] = {
        "version": 5,
        "created_at_s": 1_760_000_000,
        "minimum_sdk_version": "0.1.0",
        "aggregator_key": "0" * 64,
        "files": {name: sha256_hex(content) for name, content in FILES.items()},
        "guarantee": {},
    }
    return ReleaseManifest(**{**values, **changes})


def signed(found: ReleaseManifest) -> dict[str, tuple[int, str]]:
    """What honest metadata says of the files."""
    return {name: (len(FILES[name]), sha256) for name, sha256 in found.files.items()}


class TestJudgeManifest:
    """Rules 2 and 3."""

    def test_first_and_higher_releases_are_accepted(self) -> None:
        """Numbers may jump."""
        assert judge_manifest(manifest().to_bytes(), active=None) == manifest()
        active = manifest(version=2)
        assert judge_manifest(manifest().to_bytes(), active=active) == manifest()

    def test_same_release_is_nothing_new(self) -> None:
        """Byte for byte."""
        assert judge_manifest(manifest().to_bytes(), active=manifest()) is None

    @given(active=st.integers(1, 100), offered=st.integers(1, 100))
    def test_number_never_falls(self, active: int, offered: int) -> None:
        """Whatever was in use."""
        known = manifest(version=active, created_at_s=1)
        data = manifest(version=offered).to_bytes()
        if offered > active:
            assert judge_manifest(data, active=known) == manifest(version=offered)
        else:
            with pytest.raises(ReleaseRejectedError, match=f"above {active}"):
                judge_manifest(data, active=known)

    @pytest.mark.parametrize(
        ("version", "accepted"),
        [("0.0.9", True), ("0.1.0", True), ("0.1.1", False), ("0.10.0", False), ("1.0.0", False)],
    )
    def test_release_for_a_newer_sdk_is_refused(self, version: str, accepted: bool) -> None:
        """Compared as numbers, not as text."""
        data = manifest(minimum_sdk_version=version).to_bytes()
        if accepted:
            assert judge_manifest(data, active=None) is not None
        else:
            with pytest.raises(ReleaseRejectedError, match="update the app"):
                judge_manifest(data, active=None)

    @pytest.mark.parametrize("version", ["", "1", "1.2", "1.2.3.4", "a.b.c", "-1.0.0", "1.0.x"])
    def test_version_that_is_none_is_refused(self, version: str) -> None:
        """Fail closed."""
        with pytest.raises(ReleaseRejectedError, match="malformed"):
            judge_manifest(manifest(minimum_sdk_version=version).to_bytes(), active=None)

    @given(st.binary(max_size=300))
    def test_any_bytes_are_a_release_or_refused(self, data: bytes) -> None:
        """Never another exception."""
        with pytest.raises(ReleaseRejectedError):
            judge_manifest(data, active=None)


class TestJudgeFiles:
    """Rules 1 and 4."""

    def test_signed_files_within_the_limits_are_accepted(self) -> None:
        """The limits themselves still fit."""
        limits = Limits(max_file_bytes=9, max_release_bytes=15)
        judge_files(manifest(), signed(manifest()), limits=limits)

    @pytest.mark.parametrize("limits", [Limits(max_file_bytes=8), Limits(max_release_bytes=14)])
    def test_file_or_release_beyond_a_limit_is_refused(self, limits: Limits) -> None:
        """By one byte."""
        with pytest.raises(ReleaseRejectedError, match="at most"):
            judge_files(manifest(), signed(manifest()), limits=limits)

    def test_file_signed_with_another_hash_is_refused(self) -> None:
        """Manifest and metadata must tell one story."""
        told = {**signed(manifest()), POLICY_FILE: (6, "0" * 64)}
        with pytest.raises(ReleaseRejectedError, match="another hash"):
            judge_files(manifest(), told, limits=Limits())


class TestRelease:
    """A release cannot be made of unchecked bytes."""

    def test_release_of_matching_files_is_made(self) -> None:
        """And can be looked up by hash."""
        release = Release(manifest=manifest(), files=FILES)
        assert release.by_hash()[sha256_hex(b"policy")] == b"policy"

    @pytest.mark.parametrize(
        "files",
        [
            {**FILES, POLICY_FILE: b"polity"},
            {CATALOGUE_FILE: b"catalogue"},
            {**FILES, "more": b""},
            {},
        ],
    )
    def test_release_of_other_files_is_refused(self, files: dict[str, bytes]) -> None:
        """Changed, missing or extra."""
        with pytest.raises(ValueError, match="manifest names"):
            Release(manifest=manifest(), files=files)

    def test_manifest_with_hashes_that_are_none_is_refused(self) -> None:
        """Nothing hashes to a number."""
        odd = replace(manifest(), files={CATALOGUE_FILE: 7, POLICY_FILE: None})
        with pytest.raises(ValueError, match="hash"):
            Release(manifest=odd, files=FILES)
