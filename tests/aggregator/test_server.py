"""The model server over real HTTP: what it hands out, and what it has no name for."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aggregator.errors import PortInUseError
from aggregator.repository import Repository
from aggregator.server import FileCache, create_app, listen, make_server, serve
from client_sdk.testing import FixedClock, sample_catalogue
from client_sdk.wire import (
    CARD_FILE,
    CATALOGUE_FILE,
    DEFAULT_POLICY,
    GRAPH_FILE,
    POLICY_FILE,
    TABLE_FILE,
    ReleaseManifest,
    sha256_hex,
)

KEY = "a" * 64
TABLE = b"row " * 5000
FILES = {
    CATALOGUE_FILE: sample_catalogue().to_bytes(),
    POLICY_FILE: DEFAULT_POLICY.to_bytes(),
    TABLE_FILE: TABLE,
    GRAPH_FILE: os.urandom(2000),
    CARD_FILE: b"{}",
}
FOREVER = "public, max-age=31536000, immutable"


@dataclass
class Answer:
    """One answer, as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Site:
    """A running server and its repository."""

    repository: Repository
    clock: FixedClock
    port: int

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Send a path exactly as written; no client may tidy it up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=found, body=response.read())
        finally:
            connection.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server of one release, on a port of its own."""
    clock = FixedClock()
    repository = Repository.init(tmp_path / "repository", now_s=clock.now_s)
    repository.publish(files=FILES, aggregator_key=KEY)
    listening = listen("127.0.0.1", 0)
    app = create_app(repository.directory, now_s=clock.now_s)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.005)
    yield Site(repository=repository, clock=clock, port=listening.getsockname()[1])
    server.should_exit = True
    thread.join(20)
    listening.close()


def manifest_of(site: Site) -> ReleaseManifest:
    """What is served."""
    manifest = site.repository.status().manifest
    assert manifest is not None
    return manifest


def target(site: Site, name: str) -> str:
    """The path of one of the release's files."""
    return f"/targets/1/{manifest_of(site).files[name]}.{name}"


class TestFiles:
    """What is handed out."""

    @pytest.mark.parametrize("name", ["1.root.json", "2.targets.json", "1.snapshot.json"])
    def test_versioned_metadata_never_changes(self, site: Site, name: str) -> None:
        """A cache may keep it for a year."""
        answer = site.ask(f"/metadata/{name}")
        assert answer.status == 200
        path = site.repository.directory / "metadata" / name
        assert answer.body == path.read_bytes()
        assert answer.headers["cache-control"] == FOREVER
        assert answer.headers["etag"] == f'"{sha256_hex(answer.body)}"'
        assert answer.headers["content-type"] == "application/json"

    def test_timestamp_is_asked_for_anew_and_changes_at_once(self, site: Site) -> None:
        """The one file that is overwritten."""
        first = site.ask("/metadata/timestamp.json")
        assert first.headers["cache-control"] == "no-cache"
        site.repository.refresh_timestamp()
        second = site.ask("/metadata/timestamp.json", If_None_Match=first.headers["etag"])
        assert second.status == 200
        assert second.body != first.body
        third = site.ask("/metadata/timestamp.json", If_None_Match=second.headers["etag"])
        assert (third.status, third.body) == (304, b"")

    @pytest.mark.parametrize("name", FILES)
    def test_target_has_its_bytes_and_a_strong_tag(self, site: Site, name: str) -> None:
        """Every file of the release."""
        answer = site.ask(target(site, name))
        assert (answer.status, answer.body) == (200, FILES[name])
        assert answer.headers["etag"] == f'"{sha256_hex(FILES[name])}"'
        assert answer.headers["cache-control"] == FOREVER
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "content-encoding" not in answer.headers

    def test_target_with_the_known_tag_is_not_sent_again(self, site: Site) -> None:
        """Among several tags, too."""
        etag = site.ask(target(site, TABLE_FILE)).headers["etag"]
        answer = site.ask(target(site, TABLE_FILE), If_None_Match=f'"old", {etag}')
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["cache-control"] == FOREVER
        assert site.ask(target(site, TABLE_FILE), If_None_Match='"old"').status == 200

    def test_compressed_form_goes_to_who_asks_and_has_its_own_tag(self, site: Site) -> None:
        """A strong tag is of the bytes that are sent."""
        plain = site.ask(target(site, TABLE_FILE))
        packed = site.ask(target(site, TABLE_FILE), Accept_Encoding="br, gzip;q=0.8")
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == TABLE
        assert len(packed.body) < len(TABLE) / 10
        assert packed.headers["etag"] == f'"{sha256_hex(packed.body)}"' != plain.headers["etag"]
        again = site.ask(
            target(site, TABLE_FILE), Accept_Encoding="gzip", If_None_Match=packed.headers["etag"]
        )
        assert again.status == 304

    def test_compressed_form_goes_to_nobody_else(self, site: Site) -> None:
        """Nor where it would be larger."""
        for offer in ("identity", "gzip;q=0", "br", ""):
            answer = site.ask(target(site, TABLE_FILE), Accept_Encoding=offer)
            assert "content-encoding" not in answer.headers
        answer = site.ask(target(site, GRAPH_FILE), Accept_Encoding="gzip")
        assert "content-encoding" not in answer.headers

    def test_head_gives_the_headers_of_get(self, site: Site) -> None:
        """Without a body."""
        for path in ("/metadata/timestamp.json", target(site, TABLE_FILE), "/health"):
            head, get = site.ask(path, "HEAD"), site.ask(path)
            assert (head.status, head.body) == (200, b"")
            for name in ("content-length", "cache-control", "content-type"):
                assert head.headers[name] == get.headers[name]


class TestDoors:
    """What has no name."""

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/keys/targets.pem",
            "/metadata/../keys/targets.pem",
            "/metadata/..%2fkeys%2ftargets.pem",
            "/metadata/%2e%2e/keys/targets.pem",
            "/targets/../keys/targets.pem",
            "/targets/..%2f..%2fkeys%2ftargets.pem",
            "/targets/1/../../keys/targets.pem",
            "/targets/%2e%2e/keys/targets.pem",
            "/targets//etc/passwd",
            "/targets/%2fetc%2fpasswd",
            "/metadata//etc/passwd",
            "/metadata/timestamp.json%00",
            "/metadata/timestamp.json/",
            "/metadata/root.json",
            "/metadata/01.root.json",
            "/metadata/9.root.json",
            "/metadata/.lock",
            "/.lock",
            "/targets/release.json",
            "/targets/1/catalogue.json",
            "/targets/1/" + "0" * 64 + ".catalogue.json",
            "/targets/1/" + "0" * 64 + ".evil.py",
            "/targets/" + "0" * 64 + ".catalogue.json",
            "/docs",
            "/redoc",
            "/openapi.json",
        ],
    )
    def test_anything_else_is_not_there(self, site: Site, path: str) -> None:
        """Neither keys, nor locks, nor documentation, however the path is written."""
        answer = site.ask(path)
        assert answer.status == 404
        assert b"PRIVATE KEY" not in answer.body

    def test_compressed_file_has_no_name_of_its_own(self, site: Site) -> None:
        """It is another form of the file, not another file."""
        assert site.ask(target(site, TABLE_FILE) + ".gz").status == 404

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_nothing_can_be_written(self, site: Site, method: str) -> None:
        """Reading is all there is."""
        assert site.ask("/metadata/timestamp.json", method).status == 405

    def test_answers_tell_nothing_and_remember_nobody(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No cookie, no server name, no line in any log."""
        with caplog.at_level(logging.DEBUG):
            for path in ("/health", "/metadata/timestamp.json", "/nowhere"):
                headers = site.ask(path, Cookie="id=7").headers
                assert "set-cookie" not in headers
        assert "127.0.0.1" not in caplog.text
        assert "/nowhere" not in caplog.text


class TestHealth:
    """What an operator watches."""

    def test_healthy_server_names_its_release(self, site: Site) -> None:
        """And until when it is fresh."""
        answer = site.ask("/health")
        assert answer.status == 200
        state = json.loads(answer.body)
        assert (state["status"], state["release"]) == ("ok", 1)
        assert state["fresh_until_s"] == site.clock.now_s() + 7 * 24 * 3600
        assert answer.headers["cache-control"] == "no-cache"

    def test_expired_timestamp_is_a_reason(self, site: Site) -> None:
        """Devices would refuse it."""
        site.clock.advance(7 * 24 * 3600)
        answer = site.ask("/health")
        assert answer.status == 503
        assert "expired" in json.loads(answer.body)["reason"]

    def test_missing_repository_is_a_reason(self, site: Site) -> None:
        """The path is nobody's business."""
        site.repository.directory.rename(site.repository.directory.with_name("moved"))
        answer = site.ask("/health")
        assert answer.status == 503
        assert "missing" in json.loads(answer.body)["reason"]
        assert str(site.repository.directory).encode() not in answer.body
        assert site.ask("/metadata/timestamp.json").status == 404


class TestServe:
    """The process around the application."""

    def test_taken_port_is_one_clear_error(self, tmp_path: Path) -> None:
        """Before anything is loaded."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(PortInUseError, match=f"cannot listen on 127.0.0.1:{port}"):
                serve(tmp_path, port=port)

    @pytest.mark.parametrize("fresh_for_days", [6, 3])
    def test_server_keeps_the_timestamp_fresh(self, tmp_path: Path, fresh_for_days: int) -> None:
        """Signed anew once half of its lifetime is over, and not before."""
        clock = FixedClock()
        repository = Repository.init(tmp_path / "repository", now_s=clock.now_s)
        clock.advance((7 - fresh_for_days) * 24 * 3600)
        listening = listen("127.0.0.1", 0)
        app = create_app(repository.directory, now_s=clock.now_s, keep_fresh=True)
        server = make_server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        deadline_s = time.monotonic() + 20
        expected = 2 if fresh_for_days == 3 else 1
        while time.monotonic() < deadline_s and not (
            server.started and repository.status().timestamp_version == expected
        ):
            time.sleep(0.02)
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert repository.status().timestamp_version == expected


class TestFileCache:
    """Memory is bounded."""

    def test_least_recently_used_file_goes_first(self, tmp_path: Path) -> None:
        """What was kept is served from memory, what went is read again."""
        cache = FileCache(max_bytes=25)
        for name in "abc":
            (tmp_path / name).write_bytes(name.encode() * 10)
        for name in ("a", "b", "a", "c"):
            assert cache.get(tmp_path / name) is not None
        for name in "abc":
            (tmp_path / name).unlink()
        assert cache.get(tmp_path / "a") is not None
        assert cache.get(tmp_path / "b") is None
        assert cache.get(tmp_path / "c") is not None

    def test_file_that_does_not_fit_is_served_all_the_same(self, tmp_path: Path) -> None:
        """From disk, each time."""
        cache = FileCache(max_bytes=5)
        (tmp_path / "large").write_bytes(b"0123456789")
        for _ in range(2):
            body = cache.get(tmp_path / "large")
            assert body is not None
            assert body.content == b"0123456789"
        (tmp_path / "large").unlink()
        assert cache.get(tmp_path / "large") is None

    def test_folder_is_no_file(self, tmp_path: Path) -> None:
        """It is as good as absent."""
        assert FileCache().get(tmp_path) is None
