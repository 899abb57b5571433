"""The door in, over real HTTP: what is refused, and that the last good release stays in use."""

from __future__ import annotations

import gzip
import http.server
import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aggregator.repository import Repository
from client_sdk.delivery import Delivery, Limits, Release
from client_sdk.errors import ReleaseRejectedError, ServerUnreachableError, VaultError
from client_sdk.wire import CATALOGUE_FILE, TABLE_FILE, sha256_hex
from tests.client_sdk.delivery.conftest import (
    BASE,
    KEY,
    QUICK,
    HostileServer,
    MakeDelivery,
    Site,
    WallClock,
    with_model,
)

Handler = http.server.BaseHTTPRequestHandler
DAY_S = 24 * 3600.0


def table_of(delivery: Delivery) -> bytes | None:
    """What is in use."""
    release = delivery.active()
    return None if release is None else release.files[TABLE_FILE]


class TestFetch:
    """What works."""

    def test_first_fetch_brings_the_release_and_a_second_nothing(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """Nothing newer is no error."""
        site.publish(b"one")
        delivery = make_delivery()
        assert delivery.active() is None
        release = delivery.fetch()
        assert release is not None
        assert release.manifest == site.repository.status().manifest
        assert dict(release.files) == with_model(b"one")
        assert delivery.fetch() is None
        assert delivery.active() == release

    def test_release_survives_a_restart_and_the_next_one_replaces_it(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """From disk, without the network."""
        site.publish(b"one")
        make_delivery().fetch()
        assert table_of(make_delivery(url="http://127.0.0.1:1")) == b"one"
        site.publish(b"two")
        release = make_delivery().fetch()
        assert release is not None
        assert release.manifest.version == 2
        assert table_of(make_delivery()) == b"two"

    def test_release_without_a_model_is_a_release(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """Catalogue and policy come first."""
        site.repository.publish(files=BASE, aggregator_key=KEY)
        release = make_delivery().fetch()
        assert release is not None
        assert dict(release.files) == BASE

    def test_empty_repository_has_nothing_newer(self, make_delivery: MakeDelivery) -> None:
        """Before the first release."""
        assert make_delivery().fetch() is None

    def test_refreshed_timestamp_is_nothing_newer(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """The release is the same."""
        site.publish(b"one")
        make_delivery().fetch()
        site.repository.refresh_timestamp()
        assert make_delivery().fetch() is None

    def test_rolled_back_release_comes_as_a_new_one(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """The operator's way back."""
        site.publish(b"good")
        make_delivery().fetch()
        site.publish(b"bad")
        make_delivery().fetch()
        site.repository.rollback(1)
        release = make_delivery().fetch()
        assert release is not None
        assert (release.manifest.version, release.files[TABLE_FILE]) == (3, b"good")

    def test_device_that_skipped_releases_gets_the_newest(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """Numbers may jump up."""
        for number in range(4):
            site.publish(b"%d" % number)
        release = make_delivery().fetch()
        assert release is not None
        assert release.manifest.version == 4

    def test_known_files_are_not_downloaded_again(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery
    ) -> None:
        """A new table comes alone."""
        site.publish(b"one")
        make_delivery(url=hostile.url).fetch()
        hostile.asked.clear()
        site.publish(b"two")
        release = make_delivery(url=hostile.url).fetch()
        assert release is not None
        assert dict(release.files) == with_model(b"two")
        targets = [path for path in hostile.paths if path.startswith("/targets/2/")]
        assert targets == [f"/targets/2/{sha256_hex(b'two')}.{TABLE_FILE}"]

    def test_requests_carry_nothing_about_the_device(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery
    ) -> None:
        """Three headers, the same for everyone."""
        site.publish(b"one")
        make_delivery(url=hostile.url).fetch()
        sent = [
            {name: value for name, value in headers.items() if name != "Host"}
            for _, headers in hostile.asked
        ]
        expected = {"User-Agent": "homebody/0.1.0", "Accept-Encoding": "gzip"}
        assert all(headers == expected for headers in sent)

    def test_compressed_answer_is_understood(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery
    ) -> None:
        """And is checked after it is decompressed."""
        site.publish(b"row " * 1000)
        hostile.tricks[TABLE_FILE] = answer_gzip(b"row " * 1000)
        release = make_delivery(url=hostile.url).fetch()
        assert release is not None
        assert release.files[TABLE_FILE] == b"row " * 1000

    @pytest.mark.parametrize("url", ["ftp://host", "host:80", "", "file:///etc", "http://"])
    def test_server_that_is_no_web_server_is_a_mistake(
        self, url: str, site: Site, tmp_path: Path
    ) -> None:
        """Told when the delivery is made."""
        with pytest.raises(ValueError, match="server_url"):
            Delivery(tmp_path, url, site.repository.trusted_root())


class TestCheck:
    """The app's own last word."""

    def test_release_that_fails_the_check_is_not_put_to_use(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """And is offered again, in case the check can pass later."""
        site.publish(b"one")
        make_delivery().fetch()
        site.publish(b"two")

        def refuse(release: Release) -> None:
            raise ReleaseRejectedError(f"release {release.manifest.version} scores wrong")

        with pytest.raises(ReleaseRejectedError, match="scores wrong"):
            make_delivery(check=refuse).fetch()
        assert table_of(make_delivery()) == b"one"
        seen: list[Release] = []
        release = make_delivery(check=seen.append).fetch()
        assert seen == [release]


def answer(content: bytes, status: int = 200, **headers: str) -> Callable[[Handler, bytes], None]:
    """Answer with this."""

    def trick(handler: Handler, _honest: bytes) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return trick


def answer_gzip(content: bytes) -> Callable[[Handler, bytes], None]:
    """Answer compressed."""
    return answer(gzip.compress(content), Content_Encoding="gzip")


def break_off(handler: Handler, honest: bytes) -> None:
    """Promise the whole, send half, hang up."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(honest)))
    handler.end_headers()
    handler.wfile.write(honest[: len(honest) // 2])


def cut_short(handler: Handler, honest: bytes) -> None:
    """Send half as if it were the whole."""
    answer(honest[: len(honest) // 2])(handler, honest)


def never_end(handler: Handler, honest: bytes) -> None:
    """Send the whole, and go on."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(honest or b"x" * 100)


def say_nothing(_handler: Handler, _honest: bytes) -> None:
    """Accept, and stay silent."""
    time.sleep(1.5)


def drip(handler: Handler, honest: bytes) -> None:
    """Send a byte at a time, always just in time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for byte in honest * 100:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.3)


def hang_up(_handler: Handler, _honest: bytes) -> None:
    """Say nothing, and hang up."""


TIMESTAMP, SNAPSHOT, TARGETS = "/timestamp.json", ".snapshot.json", ".targets.json"


class TestHostileServer:
    """A server that does what it likes: refused, and the last good release stays."""

    @pytest.mark.parametrize("ending", [TIMESTAMP, SNAPSHOT, TARGETS, ".release.json", TABLE_FILE])
    @pytest.mark.parametrize(
        "bad",
        [
            (answer(b"tampered"), ReleaseRejectedError),
            (cut_short, ReleaseRejectedError),
            (never_end, ReleaseRejectedError),
            (answer_gzip(bytes(50_000_000)), ReleaseRejectedError),
            (break_off, ServerUnreachableError),
            (hang_up, ServerUnreachableError),
            (answer(b"", 500), ServerUnreachableError),
            (answer(b"", 404), ServerUnreachableError),
            (answer(b"not gzip", Content_Encoding="gzip"), ServerUnreachableError),
            (answer(b"", 302, Location="http://127.0.0.1:1/"), ServerUnreachableError),
        ],
        ids=[
            "tampered",
            "shortened",
            "endless",
            "bomb",
            "broken-off",
            "hung-up",
            "error",
            "missing",
            "garbled",
            "moved",
        ],
    )
    def test_bad_answer_is_refused_and_the_next_good_one_is_not(
        self,
        site: Site,
        hostile: HostileServer,
        make_delivery: MakeDelivery,
        ending: str,
        bad: tuple[Callable[[Handler, bytes], None], type[Exception]],
    ) -> None:
        """Each way to fail, at each step of an update."""
        trick, error = bad
        site.publish(b"good " * 100)
        make_delivery(url=hostile.url).fetch()
        site.publish(b"next " * 100)
        hostile.tricks[ending] = trick
        with pytest.raises(error):
            make_delivery(url=hostile.url).fetch()
        assert table_of(make_delivery()) == b"good " * 100
        hostile.tricks.clear()
        assert make_delivery(url=hostile.url).fetch() is not None
        assert table_of(make_delivery()) == b"next " * 100

    @pytest.mark.parametrize("ending", [TIMESTAMP, TABLE_FILE])
    @pytest.mark.parametrize("trick", [say_nothing, drip])
    def test_slow_server_does_not_hold_the_device(
        self,
        site: Site,
        hostile: HostileServer,
        make_delivery: MakeDelivery,
        ending: str,
        trick: Callable[[Handler, bytes], None],
    ) -> None:
        """Silence ends after ``timeout_s``, a trickle after ``download_s``."""
        site.publish(b"good")
        hostile.tricks[ending] = trick
        limits = Limits(timeout_s=0.4, download_s=0.8)
        started_s = time.monotonic()
        with pytest.raises(ServerUnreachableError):
            make_delivery(url=hostile.url, limits=limits).fetch()
        assert time.monotonic() - started_s < 6.0
        assert make_delivery().active() is None

    @pytest.mark.parametrize("ending", ["/2.root.json", TIMESTAMP])
    def test_error_without_end_does_not_hold_the_device(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery, ending: str
    ) -> None:
        """Each device asks for the next root and is told 404: that answer is bounded, too."""

        def never_end_an_error(handler: Handler, _honest: bytes) -> None:
            handler.send_response(404)
            handler.end_headers()
            while True:
                handler.wfile.write(bytes(100_000))

        site.publish(b"good")
        hostile.tricks[ending] = never_end_an_error
        started_s = time.monotonic()
        if ending == TIMESTAMP:
            with pytest.raises(ServerUnreachableError, match="404"):
                make_delivery(url=hostile.url).fetch()
        else:
            assert make_delivery(url=hostile.url).fetch() is not None
        assert time.monotonic() - started_s < 2.5

    def test_one_connection_serves_a_whole_update(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery
    ) -> None:
        """Errors that are no errors, like the next root's 404, do not cost a handshake."""
        site.publish(b"good")
        make_delivery(url=hostile.url).fetch()
        assert len(hostile.paths) == 10
        assert len(hostile.connections) == 1

    def test_server_that_is_down_changes_nothing(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """No one listens there."""
        site.publish(b"good")
        make_delivery().fetch()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        delivery = make_delivery(url=f"http://127.0.0.1:{port}")
        with pytest.raises(ServerUnreachableError, match="nothing changed"):
            delivery.fetch()
        assert table_of(delivery) == b"good"

    def test_server_of_another_repository_is_refused(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path
    ) -> None:
        """Keys that the app does not know sign nothing here."""
        site.publish(b"good")
        make_delivery().fetch()
        root = site.repository.trusted_root()
        shutil.rmtree(site.repository.directory)
        forged = Repository.init(site.repository.directory)
        for _ in range(3):
            forged.publish(files=with_model(b"evil"), aggregator_key=KEY)
        delivery = Delivery(tmp_path / "device", site.url, root, limits=QUICK)
        with pytest.raises(ReleaseRejectedError):
            delivery.fetch()
        assert table_of(delivery) == b"good"

    @pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
    def test_edited_metadata_is_refused(
        self, site: Site, make_delivery: MakeDelivery, name: str
    ) -> None:
        """With the old signature on it."""
        site.publish(b"one")
        path = site.metadata / name
        edited = json.loads(path.read_bytes())
        edited["signed"]["expires"] = "2099-01-01T00:00:00Z"
        path.write_text(json.dumps(edited))
        with pytest.raises(ReleaseRejectedError):
            make_delivery().fetch()

    def test_tampered_file_on_the_server_is_refused(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """Of the same length, too."""
        site.publish(b"good")
        make_delivery().fetch()
        site.publish(b"next")
        site.target(TABLE_FILE).write_bytes(b"evil")
        with pytest.raises(ReleaseRejectedError):
            make_delivery().fetch()
        assert table_of(make_delivery()) == b"good"


class TestReplay:
    """Metadata that was good once."""

    def snapshot_of(self, site: Site, tmp_path: Path, name: str) -> Path:
        """Keep a copy of the whole repository."""
        return Path(shutil.copytree(site.repository.directory, tmp_path / name))

    def restore(self, site: Site, copy: Path, *names: str) -> None:
        """Serve the copy's metadata again: all of it, or these files."""
        for path in (copy / "metadata").iterdir():
            if not names or path.name in names:
                shutil.copy(path, site.metadata / path.name)

    def test_rolled_back_repository_is_refused(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path
    ) -> None:
        """A lower timestamp than the device has seen."""
        site.publish(b"one")
        copy = self.snapshot_of(site, tmp_path, "copy")
        site.publish(b"two")
        make_delivery().fetch()
        self.restore(site, copy, "timestamp.json")
        with pytest.raises(ReleaseRejectedError, match="BadVersionNumberError"):
            make_delivery().fetch()
        assert table_of(make_delivery()) == b"two"

    def test_roll_back_is_refused_also_when_the_device_lost_its_metadata(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path
    ) -> None:
        """The release number is a second lock."""
        site.publish(b"one")
        copy = self.snapshot_of(site, tmp_path, "copy")
        site.publish(b"two")
        make_delivery().fetch()
        shutil.rmtree(tmp_path / "device" / "tuf")
        self.restore(site, copy, "timestamp.json")
        with pytest.raises(ReleaseRejectedError, match="above 2"):
            make_delivery().fetch()
        assert table_of(make_delivery()) == b"two"

    def test_frozen_repository_is_refused(
        self, site: Site, clock: WallClock, make_delivery: MakeDelivery
    ) -> None:
        """An expired timestamp: somebody withholds what is new."""
        clock.offset_s = -8 * DAY_S
        site.publish(b"one")
        with pytest.raises(ReleaseRejectedError, match="ExpiredMetadataError"):
            make_delivery().fetch()
        clock.offset_s = 0.0
        site.repository.refresh_timestamp()
        assert make_delivery().fetch() is not None

    @pytest.mark.parametrize("name", ["2.snapshot.json", "2.targets.json"])
    def test_mixed_metadata_is_refused(
        self, site: Site, make_delivery: MakeDelivery, name: str
    ) -> None:
        """Old and new parts, each well signed, that never belonged together."""
        site.publish(b"one")
        site.publish(b"two")
        shutil.copy(site.metadata / name, site.metadata / name.replace("2.", "3."))
        with pytest.raises(ReleaseRejectedError):
            make_delivery().fetch()
        assert make_delivery().active() is None


class TestLimits:
    """Sizes, told by the signed metadata before anything is downloaded."""

    @pytest.mark.parametrize(
        "limits",
        [
            {"max_manifest_bytes": 100},
            {"max_metadata_bytes": 300},
            {"max_file_bytes": 4999},
            {"max_release_bytes": 5100},
        ],
    )
    def test_release_beyond_a_limit_is_refused(
        self,
        site: Site,
        hostile: HostileServer,
        make_delivery: MakeDelivery,
        limits: dict[str, Any],
    ) -> None:
        """Signed or not."""
        site.publish(b"x" * 5000)
        with pytest.raises(ReleaseRejectedError):
            make_delivery(url=hostile.url, limits=Limits(**limits)).fetch()
        assert not [path for path in hostile.paths if path.startswith("/targets/1/")]

    def test_release_for_a_newer_sdk_is_refused_before_it_is_downloaded(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery
    ) -> None:
        """The last good one stays until the app is updated."""
        site.publish(b"one")
        make_delivery(url=hostile.url).fetch()
        hostile.asked.clear()
        site.publish(b"two", minimum_sdk_version="99.0.0")
        with pytest.raises(ReleaseRejectedError, match=r"needs SDK 99\.0\.0"):
            make_delivery(url=hostile.url).fetch()
        assert not [path for path in hostile.paths if path.startswith("/targets/2/")]
        assert table_of(make_delivery()) == b"one"


class TestDisk:
    """What happens to the device's disk."""

    def test_damaged_release_is_fetched_again(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path
    ) -> None:
        """Although the repository has nothing newer."""
        site.publish(b"one")
        make_delivery().fetch()
        (path,) = (tmp_path / "device" / "releases").iterdir()
        path.write_bytes(path.read_bytes()[:-1])
        assert make_delivery().active() is None
        release = make_delivery().fetch()
        assert release is not None
        assert table_of(make_delivery()) == b"one"

    def test_damaged_newest_release_gives_way_to_the_one_before(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path
    ) -> None:
        """And comes back with the next fetch."""
        for table in (b"one", b"two"):
            site.publish(table)
            make_delivery().fetch()
        newest = max((tmp_path / "device" / "releases").iterdir())
        newest.write_bytes(b"damaged")
        assert table_of(make_delivery()) == b"one"
        assert make_delivery().fetch() is not None
        assert table_of(make_delivery()) == b"two"

    @pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
    def test_damaged_metadata_on_the_device_is_fetched_again(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path, name: str
    ) -> None:
        """It is a cache."""
        site.publish(b"one")
        make_delivery().fetch()
        (tmp_path / "device" / "tuf" / name).write_bytes(b"\xff")
        site.publish(b"two")
        assert make_delivery().fetch() is not None

    def test_disk_that_refuses_is_a_clear_error(
        self, site: Site, make_delivery: MakeDelivery, tmp_path: Path
    ) -> None:
        """A file stands where the folder should be."""
        site.publish(b"one")
        (tmp_path / "device").write_bytes(b"")
        with pytest.raises(VaultError, match="delivery folder"):
            make_delivery().fetch()
        assert make_delivery().active() is None

    def test_trusted_root_that_is_none_is_refused(self, site: Site, tmp_path: Path) -> None:
        """An app that embedded the wrong file."""
        site.publish(b"one")
        delivery = Delivery(tmp_path / "device", site.url, b"{}", limits=QUICK)
        with pytest.raises(ReleaseRejectedError):
            delivery.fetch()

    def test_catalogue_comes_through_unchanged(
        self, site: Site, make_delivery: MakeDelivery
    ) -> None:
        """Over the wire, through compression, to disk and back."""
        site.publish(b"one")
        make_delivery().fetch()
        active = make_delivery().active()
        assert active is not None
        assert active.files[CATALOGUE_FILE] == BASE[CATALOGUE_FILE]
