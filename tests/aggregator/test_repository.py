"""The signed repository: what is on disk after each step, and after a crash at each step."""

from __future__ import annotations

import gzip
import json
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from aggregator.repository import ReleaseRepositoryError, Repository, RepositoryMissingError
from aggregator.signed_metadata import LIFETIME, write_file
from client_sdk.testing import FixedClock, sample_catalogue
from client_sdk.wire import (
    CARD_FILE,
    CATALOGUE_FILE,
    DEFAULT_POLICY,
    GRAPH_FILE,
    POLICY_FILE,
    TABLE_FILE,
    sha256_hex,
)

KEY = "a" * 64
BASE = {CATALOGUE_FILE: sample_catalogue().to_bytes(), POLICY_FILE: DEFAULT_POLICY.to_bytes()}
DAY_S = 24 * 3600


def with_model(table: bytes = b"table") -> dict[str, bytes]:
    """The files of a release with a model."""
    return {**BASE, TABLE_FILE: table, GRAPH_FILE: b"graph", CARD_FILE: b"{}"}


class PowerCutError(OSError):
    """What the test's disk says."""


class DyingDisk:
    """Writes a number of files, then none."""

    def __init__(self, writes: int) -> None:
        self.left = writes

    def __call__(self, path: Path, content: bytes, *, mode: int = 0o644) -> None:
        """Write, or fail as a machine does that loses power."""
        if self.left == 0:
            raise PowerCutError
        self.left -= 1
        write_file(path, content, mode=mode)


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands."""
    return FixedClock()


@pytest.fixture
def repository(tmp_path: Path, clock: FixedClock) -> Repository:
    """An empty repository."""
    return Repository.init(tmp_path / "repository", now_s=clock.now_s)


def served(directory: Path, name: str) -> Any:
    """Read metadata as a device would see it."""
    return Metadata.from_bytes((directory / "metadata" / name).read_bytes()).signed


class TestInit:
    """A new repository."""

    def test_new_repository_is_empty_signed_and_fresh(
        self, repository: Repository, clock: FixedClock
    ) -> None:
        """Four roles, four keys, nothing to serve yet."""
        status = repository.status()
        assert status.manifest is None
        assert status.fresh_until_s == clock.now_s() + LIFETIME["timestamp"].total_seconds()
        assert repository.history() == ()
        root = Metadata.from_bytes(repository.trusted_root()).signed
        assert len(root.keys) == 4
        assert root.consistent_snapshot

    def test_keys_are_for_the_owner_only(self, repository: Repository) -> None:
        """Mode 0600 in a folder of mode 0700."""
        keys = repository.directory / "keys"
        assert stat.S_IMODE(keys.stat().st_mode) == 0o700
        assert sorted(path.name for path in keys.iterdir()) == [
            "root.pem",
            "snapshot.pem",
            "targets.pem",
            "timestamp.pem",
        ]
        assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}

    def test_keys_may_live_elsewhere(self, tmp_path: Path) -> None:
        """On a removable disk, say."""
        made = Repository.init(tmp_path / "r", keys_directory=tmp_path / "safe")
        assert not (tmp_path / "r" / "keys").exists()
        assert made.publish(files=BASE, aggregator_key=KEY).version == 1

    def test_nothing_is_overwritten(self, repository: Repository, tmp_path: Path) -> None:
        """Neither a repository nor keys: both cannot be made again."""
        root = repository.trusted_root()
        with pytest.raises(ReleaseRepositoryError, match="exists already"):
            Repository.init(repository.directory)
        with pytest.raises(ReleaseRepositoryError, match="exists already"):
            Repository.init(tmp_path / "other", keys_directory=repository.directory / "keys")
        assert repository.trusted_root() == root

    def test_missing_repository_says_how_to_make_one(self, tmp_path: Path) -> None:
        """The message is for an operator."""
        with pytest.raises(RepositoryMissingError, match="homebody server init"):
            Repository(tmp_path)


class TestPublish:
    """A new release."""

    def test_published_release_is_signed_under_the_next_number(
        self, repository: Repository, clock: FixedClock
    ) -> None:
        """The manifest names hashes, key and claim."""
        guarantee = {"epsilon": 2.0, "adjacency": "add-or-remove one person"}
        repository.publish(files=BASE, aggregator_key=KEY)
        manifest = repository.publish(files=with_model(), aggregator_key=KEY, guarantee=guarantee)
        assert manifest.version == 2
        assert manifest.created_at_s == int(clock.now_s())
        assert manifest.files[TABLE_FILE] == sha256_hex(b"table")
        assert manifest.guarantee == guarantee
        assert repository.status().manifest == manifest
        assert [each.version for each in repository.history()] == [1, 2]

    def test_files_carry_their_hash_and_stay(self, repository: Repository) -> None:
        """A device in the middle of an update still finds the old ones."""
        first = repository.publish(files=with_model(b"one"), aggregator_key=KEY)
        repository.publish(files=with_model(b"two"), aggregator_key=KEY)
        targets = repository.directory / "targets"
        old = targets / "1" / f"{first.files[TABLE_FILE]}.{TABLE_FILE}"
        assert old.read_bytes() == b"one"
        assert (targets / "2" / f"{sha256_hex(b'two')}.{TABLE_FILE}").read_bytes() == b"two"
        manifest = targets / f"{sha256_hex(first.to_bytes())}.release.json"
        assert manifest.read_bytes() == first.to_bytes()

    def test_metadata_names_lengths_hashes_and_versions(self, repository: Repository) -> None:
        """Timestamp, snapshot and targets rise together."""
        repository.publish(files=BASE, aggregator_key=KEY)
        directory = repository.directory
        assert served(directory, "timestamp.json").version == 2
        assert served(directory, "timestamp.json").snapshot_meta.version == 2
        meta = served(directory, "2.snapshot.json").meta["targets.json"]
        raw = (directory / "metadata" / "2.targets.json").read_bytes()
        assert (meta.version, meta.length, meta.hashes["sha256"]) == (2, len(raw), sha256_hex(raw))
        names = set(served(directory, "2.targets.json").targets)
        assert names == {"release.json", f"1/{CATALOGUE_FILE}", f"1/{POLICY_FILE}"}

    def test_compressed_form_is_kept_where_it_is_smaller(self, repository: Repository) -> None:
        """And not where it is not."""
        files = with_model(bytes(10_000))
        manifest = repository.publish(files=files, aggregator_key=KEY)
        folder = repository.directory / "targets" / "1"
        packed = folder / f"{manifest.files[TABLE_FILE]}.{TABLE_FILE}.gz"
        assert gzip.decompress(packed.read_bytes()) == bytes(10_000)
        assert not (folder / f"{manifest.files[GRAPH_FILE]}.{GRAPH_FILE}.gz").exists()

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"files": {CATALOGUE_FILE: BASE[CATALOGUE_FILE]}}, "catalogue, a policy"),
            ({"files": {**BASE, "evil.py": b""}}, "no unknown file"),
            ({"files": {**BASE, TABLE_FILE: b""}}, "none of them"),
            ({"files": {**BASE, CATALOGUE_FILE: b"{}"}}, "missing"),
            ({"files": {**BASE, POLICY_FILE: b"no"}}, "JSON"),
            ({"aggregator_key": "short"}, "hexadecimal"),
            ({"minimum_sdk_version": "next"}, r"1\.2\.3"),
        ],
    )
    def test_release_that_no_device_could_use_is_refused(
        self, repository: Repository, changes: dict[str, Any], match: str
    ) -> None:
        """Before anything is written."""
        with pytest.raises(ValueError, match=match):
            repository.publish(**{"files": BASE, "aggregator_key": KEY, **changes})
        assert repository.status().manifest is None

    def test_publishing_without_the_keys_is_refused(self, repository: Repository) -> None:
        """And devices still see what they saw."""
        repository.publish(files=BASE, aggregator_key=KEY)
        (repository.directory / "keys" / "snapshot.pem").unlink()
        with pytest.raises(ReleaseRepositoryError, match=r"snapshot\.pem"):
            repository.publish(files=with_model(), aggregator_key=KEY)
        assert repository.history()[-1].version == 1

    def test_root_key_is_not_needed(self, repository: Repository) -> None:
        """It may be locked away."""
        (repository.directory / "keys" / "root.pem").unlink()
        assert repository.publish(files=BASE, aggregator_key=KEY).version == 1

    def test_publishers_take_turns(self, repository: Repository) -> None:
        """Eight at once make eight releases."""
        threads = [
            threading.Thread(
                target=lambda: Repository(repository.directory).publish(
                    files=BASE, aggregator_key=KEY
                )
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [manifest.version for manifest in repository.history()] == list(range(1, 9))


class TestCrash:
    """A power cut between any two writes."""

    def test_old_release_is_served_after_a_crash_at_any_step(
        self, repository: Repository, clock: FixedClock
    ) -> None:
        """The new one appears with the very last write, and not before."""
        repository.publish(files=with_model(b"old"), aggregator_key=KEY)
        before = repository.status()
        files = with_model(b"new" + bytes(1000))
        writes = 0
        while True:
            disk = DyingDisk(writes)
            crashing = Repository(repository.directory, now_s=clock.now_s, write=disk)
            try:
                crashing.publish(files=files, aggregator_key=KEY)
            except PowerCutError:
                assert repository.status() == before
                writes += 1
                continue
            break
        # Six files, up to six compressed, then targets, snapshot and timestamp.
        assert 9 <= writes <= 15
        assert repository.status().manifest != before.manifest
        assert [manifest.version for manifest in repository.history()] == [1, 2]

    def test_rollback_never_finds_what_was_never_served(
        self, repository: Repository, clock: FixedClock
    ) -> None:
        """Signed metadata may lie there after a crash; it is not history."""
        for table in (b"one", b"two"):
            repository.publish(files=with_model(table), aggregator_key=KEY)
        disk = DyingDisk(1000)
        crashing = Repository(repository.directory, now_s=clock.now_s, write=disk)
        crashing.publish(files=with_model(b"three"), aggregator_key=KEY)
        used = 1000 - disk.left
        crashing = Repository(repository.directory, now_s=clock.now_s, write=DyingDisk(used - 1))
        with pytest.raises(PowerCutError):
            crashing.publish(files=with_model(b"four!"), aggregator_key=KEY)
        with pytest.raises(ReleaseRepositoryError, match="known releases: 1, 2, 3"):
            repository.rollback(4)


class TestRollback:
    """An older release, again."""

    def test_rollback_serves_the_old_files_under_a_new_number(
        self, repository: Repository, clock: FixedClock
    ) -> None:
        """Devices never see a number fall."""
        first = repository.publish(
            files=with_model(b"good"), aggregator_key="b" * 64, guarantee={"epsilon": 1.0}
        )
        repository.publish(files=with_model(b"bad"), aggregator_key=KEY)
        clock.advance(60)
        again = repository.rollback(1)
        assert again.version == 3
        assert (again.files, again.guarantee) == (first.files, {"epsilon": 1.0})
        assert again.aggregator_key == KEY
        assert again.created_at_s == first.created_at_s + 60
        assert repository.status().manifest == again

    def test_rollback_to_a_rolled_back_release_works(self, repository: Repository) -> None:
        """Every number that was served can come back."""
        for table in (b"one", b"two"):
            repository.publish(files=with_model(table), aggregator_key=KEY)
        repository.rollback(1)
        assert repository.rollback(2).version == 4
        assert repository.rollback(3).files[TABLE_FILE] == sha256_hex(b"one")

    @pytest.mark.parametrize(
        ("version", "match"), [(2, "served already"), (9, "known releases: 1, 2"), (0, "no rel")]
    )
    def test_rollback_to_nowhere_is_refused(
        self, repository: Repository, version: int, match: str
    ) -> None:
        """With what there is to choose from."""
        for _ in range(2):
            repository.publish(files=BASE, aggregator_key=KEY)
        with pytest.raises(ReleaseRepositoryError, match=match):
            repository.rollback(version)

    def test_rollback_of_an_empty_repository_is_refused(self, repository: Repository) -> None:
        """There is nothing to go back to."""
        with pytest.raises(ReleaseRepositoryError, match="known releases: none"):
            repository.rollback(1)

    def test_rollback_to_damaged_files_is_refused(self, repository: Repository) -> None:
        """What was changed on disk is never signed again."""
        first = repository.publish(files=with_model(b"good"), aggregator_key=KEY)
        repository.publish(files=with_model(b"bad"), aggregator_key=KEY)
        place = repository.directory / "targets" / "1"
        place /= f"{first.files[TABLE_FILE]}.{TABLE_FILE}"
        place.write_bytes(b"forged")
        with pytest.raises(ReleaseRepositoryError, match="changed on disk"):
            repository.rollback(1)
        place.unlink()
        with pytest.raises(ReleaseRepositoryError, match="is gone"):
            repository.rollback(1)


class TestRefresh:
    """Keeping the metadata fresh."""

    def test_refresh_gives_the_timestamp_a_new_lifetime(
        self, repository: Repository, clock: FixedClock
    ) -> None:
        """Only the timestamp, while the others have time."""
        manifest = repository.publish(files=BASE, aggregator_key=KEY)
        clock.advance(3 * DAY_S)
        repository.refresh_timestamp()
        status = repository.status()
        assert status.manifest == manifest
        assert status.timestamp_version == 3
        assert status.fresh_until_s == clock.now_s() + 7 * DAY_S
        assert status.refresh_at_s == clock.now_s() + 3.5 * DAY_S
        assert served(repository.directory, "timestamp.json").snapshot_meta.version == 2

    def test_refresh_renews_whatever_is_past_half_of_its_lifetime(
        self, repository: Repository, clock: FixedClock
    ) -> None:
        """After 50 days the snapshot, after 200 the targets too."""
        manifest = repository.publish(files=BASE, aggregator_key=KEY)
        clock.advance(50 * DAY_S)
        repository.refresh_timestamp()
        snapshot = served(repository.directory, "3.snapshot.json")
        assert snapshot.meta["targets.json"].version == 2
        assert snapshot.expires == datetime.fromtimestamp(clock.now_s(), UTC) + LIFETIME["snapshot"]
        clock.advance(150 * DAY_S)
        repository.refresh_timestamp()
        assert served(repository.directory, "4.snapshot.json").meta["targets.json"].version == 3
        assert repository.status().manifest == manifest
        assert [each.version for each in repository.history()] == [1]


class TestDamage:
    """What others did to the disk."""

    @pytest.mark.parametrize("name", ["1.root.json", "timestamp.json", "2.snapshot.json"])
    def test_damaged_metadata_is_not_built_upon(self, repository: Repository, name: str) -> None:
        """Neither cut off, nor edited, nor gone."""
        repository.publish(files=BASE, aggregator_key=KEY)
        path = repository.directory / "metadata" / name
        original = path.read_bytes()
        edited = json.loads(original)
        edited["signed"]["expires"] = "2099-01-01T00:00:00Z"
        for damage in (original[:-9], json.dumps(edited).encode(), b"{}"):
            path.write_bytes(damage)
            with pytest.raises(ReleaseRepositoryError, match="damaged"):
                repository.publish(files=BASE, aggregator_key=KEY)
        path.write_bytes(original)
        assert repository.publish(files=BASE, aggregator_key=KEY).version == 2

    def test_key_that_is_no_key_is_refused(self, repository: Repository) -> None:
        """The message names the file, never its content."""
        (repository.directory / "keys" / "targets.pem").write_bytes(b"secret")
        with pytest.raises(ReleaseRepositoryError, match=r"targets\.pem cannot be read") as caught:
            repository.publish(files=BASE, aggregator_key=KEY)
        assert "secret" not in str(caught.value)
