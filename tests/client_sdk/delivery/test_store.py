"""Releases on the device's disk: whole or absent, and never an exception on the way in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_sdk.delivery.release import Release
from client_sdk.delivery.store import ReleaseStore, pack_release, unpack_release
from client_sdk.wire import CATALOGUE_FILE, POLICY_FILE, ReleaseManifest, sha256_hex


def release(version: int) -> Release:
    """A small release."""
    files = {CATALOGUE_FILE: b"catalogue %d" % version, POLICY_FILE: b""}
    manifest = ReleaseManifest(
        version=version,
        created_at_s=1_760_000_000,
        minimum_sdk_version="0.1.0",
        aggregator_key="0" * 64,
        files={name: sha256_hex(content) for name, content in files.items()},
        guarantee={},
    )
    return Release(manifest=manifest, files=files)


def only_file(directory: Path) -> Path:
    """The one kept release."""
    (path,) = (directory / "releases").iterdir()
    return path


class TestPack:
    """The file format."""

    @given(
        manifest=st.binary(max_size=50),
        files=st.dictionaries(
            st.text("abc.", min_size=1, max_size=9), st.binary(max_size=50), max_size=5
        ),
    )
    def test_release_survives_packing(self, manifest: bytes, files: dict[str, bytes]) -> None:
        """Empty files, too."""
        assert unpack_release(pack_release(manifest, files)) == (manifest, files)

    @given(cut=st.integers(0, 400))
    def test_cut_off_or_longer_file_is_refused(self, cut: int) -> None:
        """At each byte."""
        packed = pack_release(b"manifest", {"a": b"1" * 100, "b": b"2" * 200})
        for damaged in (packed[: min(cut, len(packed) - 1)], packed + b"x" * (cut + 1)):
            with pytest.raises(ValueError, match=r"."):
                unpack_release(damaged)


class TestReleaseStore:
    """The three rules of `client_sdk.delivery.store`."""

    def test_newest_release_is_in_use(self, tmp_path: Path) -> None:
        """Also after a restart; by number, not by name: 10 comes after 9."""
        store = ReleaseStore(tmp_path)
        assert store.active() is None
        for version in (8, 9, 10):
            store.activate(release(version))
            assert ReleaseStore(tmp_path).active() == release(version)

    def test_last_good_release_is_kept_and_older_ones_are_deleted(self, tmp_path: Path) -> None:
        """Together with whatever a crash left behind."""
        store = ReleaseStore(tmp_path)
        for version in (1, 2):
            store.activate(release(version))
        (tmp_path / "releases" / ".writing-left").write_bytes(b"half")
        store.activate(release(3))
        names = sorted(path.name.split("-")[0] for path in (tmp_path / "releases").iterdir())
        assert names == ["2", "3"]

    def test_damaged_release_before_is_not_kept_as_the_last_good_one(self, tmp_path: Path) -> None:
        """The one that could still be used is kept in its place."""
        store = ReleaseStore(tmp_path)
        for version in (1, 2):
            store.activate(release(version))
        max((tmp_path / "releases").iterdir()).write_bytes(b"")
        store.activate(release(3))
        names = sorted(path.name.split("-")[0] for path in (tmp_path / "releases").iterdir())
        assert names == ["1", "3"]

    def test_same_release_can_be_written_again(self, tmp_path: Path) -> None:
        """In place of a damaged one."""
        store = ReleaseStore(tmp_path)
        store.activate(release(1))
        only_file(tmp_path).write_bytes(b"damaged")
        assert store.active() is None
        store.activate(release(1))
        assert store.active() == release(1)

    @given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_flipped_bit_falls_back_to_the_release_before(
        self, tmp_path: Path, position: int, bit: int
    ) -> None:
        """And never raises."""
        store = ReleaseStore(tmp_path)
        for version in (1, 2):
            store.activate(release(version))
        newest = max((tmp_path / "releases").iterdir())
        data = bytearray(newest.read_bytes())
        data[position % len(data)] ^= 1 << bit
        newest.write_bytes(data)
        assert store.active() == release(1)
        shutil.rmtree(tmp_path / "releases")

    @pytest.mark.parametrize(
        "name", ["x.release", "1-0.release", "0-" + "0" * 64 + ".release", "9" * 30 + ".release"]
    )
    def test_files_of_other_names_are_not_read(self, tmp_path: Path, name: str) -> None:
        """Whatever else lies there."""
        store = ReleaseStore(tmp_path)
        store.activate(release(1))
        shutil.copy(only_file(tmp_path), tmp_path / "releases" / name)
        assert store.active() == release(1)

    def test_renamed_release_is_not_newer(self, tmp_path: Path) -> None:
        """A higher number in the name of an old file does not make it active for ever."""
        store = ReleaseStore(tmp_path)
        store.activate(release(1))
        path = only_file(tmp_path)
        path.rename(path.with_name("9" + path.name[1:]))
        assert store.active() is None

    def test_folder_in_place_of_a_file_is_as_good_as_absent(self, tmp_path: Path) -> None:
        """Reading never raises."""
        store = ReleaseStore(tmp_path)
        store.activate(release(1))
        path = only_file(tmp_path)
        path.unlink()
        path.mkdir()
        assert store.active() is None
