"""The door in against servers that do what they like, and metadata that was good once.

Whatever comes, it is refused, and the last good release stays in use.
"""

from __future__ import annotations

import gzip
import http.server
import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aggregator.repository import Repository
from client_sdk.delivery import Delivery, Limits
from client_sdk.errors import ReleaseRejectedError, ServerUnreachableError
from client_sdk.wire import TABLE_FILE

if TYPE_CHECKING:
    from tests.client_sdk.delivery.conftest import HostileServer, MakeDelivery, Site, WallClock

Handler = http.server.BaseHTTPRequestHandler
DAY_S = 24 * 3600.0


def table_of(delivery: Delivery) -> bytes | None:
    """What is in use."""
    release = delivery.active()
    return None if release is None else release.files[TABLE_FILE]


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

    def test_compressed_answer_is_understood(
        self, site: Site, hostile: HostileServer, make_delivery: MakeDelivery
    ) -> None:
        """And is checked after it is decompressed."""
        site.publish(b"row " * 1000)
        hostile.tricks[TABLE_FILE] = answer_gzip(b"row " * 1000)
        release = make_delivery(url=hostile.url).fetch()
        assert release is not None
        assert release.files[TABLE_FILE] == b"row " * 1000

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

    @pytest.mark.parametrize("ending", [TIMESTAMP, SNAPSHOT, TARGETS, ".release.json", TABLE_FILE])
    @pytest.mark.parametrize(
        "trick", [never_end, answer_gzip(bytes(50_000_000))], ids=["endless", "bomb"]
    )
    def test_answer_is_cut_off_at_its_bound(
        self,
        site: Site,
        hostile: HostileServer,
        make_delivery: MakeDelivery,
        ending: str,
        trick: Callable[[Handler, bytes], None],
    ) -> None:
        """While it comes, not after it came: memory is bounded by what was signed."""
        site.publish(b"good " * 100)
        hostile.tricks[ending] = trick
        with pytest.raises(ReleaseRejectedError, match="longer than"):
            make_delivery(url=hostile.url).fetch()

    @pytest.mark.parametrize(
        "trick",
        [
            answer(b"good", Content_Encoding="br"),
            answer(gzip.compress(b"good")[:-3], Content_Encoding="gzip"),
            answer(gzip.compress(b"good") + b"more", Content_Encoding="gzip"),
        ],
        ids=["not asked for", "cut off", "continued"],
    )
    def test_compression_that_is_not_what_was_asked_for_is_refused(
        self,
        site: Site,
        hostile: HostileServer,
        make_delivery: MakeDelivery,
        trick: Callable[[Handler, bytes], None],
    ) -> None:
        """Although what could be read of it is right."""
        site.publish(b"good")
        hostile.tricks[TABLE_FILE] = trick
        with pytest.raises(ServerUnreachableError):
            make_delivery(url=hostile.url).fetch()

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
            forged.publish(files=site.files(b"evil"), aggregator_key=site.key)
        delivery = Delivery(tmp_path / "device", site.url, root, limits=Limits(timeout_s=1.0))
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
