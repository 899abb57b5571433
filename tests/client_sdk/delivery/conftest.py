"""A signed repository and two servers of it: the real one, and one that does what it likes."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aggregator.repository import Repository
from aggregator.server import create_app, listen, make_server
from client_sdk.delivery import Delivery, Limits
from client_sdk.testing import sample_catalogue
from client_sdk.wire import (
    CARD_FILE,
    CATALOGUE_FILE,
    DEFAULT_POLICY,
    GRAPH_FILE,
    POLICY_FILE,
    TABLE_FILE,
)

QUICK = Limits(timeout_s=1.0, download_s=3.0)


class WallClock:
    """The true time, moved: what the repository's operator believes."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def now_s(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.offset_s


@dataclass
class Site:
    """A repository and the URL of its server."""

    repository: Repository
    clock: WallClock
    url: str
    key: str = "a" * 64
    base: Mapping[str, bytes] = field(
        default_factory=lambda: {
            CATALOGUE_FILE: sample_catalogue().to_bytes(),
            POLICY_FILE: DEFAULT_POLICY.to_bytes(),
        }
    )

    @property
    def metadata(self) -> Path:
        """The folder of the metadata."""
        return self.repository.directory / "metadata"

    def files(self, table: bytes) -> dict[str, bytes]:
        """The files of a release with a model."""
        return {**self.base, TABLE_FILE: table, GRAPH_FILE: b"graph", CARD_FILE: b"{}"}

    def publish(self, table: bytes, **changes: Any) -> int:
        """Publish a release with a model; give its number."""
        files = self.files(table)
        manifest = self.repository.publish(
            **{"files": files, "aggregator_key": self.key, **changes}
        )
        return manifest.version

    def target(self, name: str) -> Path:
        """The file of a target of the newest release."""
        manifest = self.repository.status().manifest
        assert manifest is not None
        folder = self.repository.directory / "targets" / str(manifest.version)
        return folder / f"{manifest.files[name]}.{name}"


@pytest.fixture
def clock() -> WallClock:
    """The operator's clock."""
    return WallClock()


@pytest.fixture
def repository(tmp_path: Path, clock: WallClock) -> Repository:
    """An empty repository."""
    return Repository.init(tmp_path / "repository", now_s=clock.now_s)


@pytest.fixture
def site(repository: Repository, clock: WallClock) -> Iterator[Site]:
    """The real server, without memory, so that tests can change files under it."""
    listening = listen("127.0.0.1", 0)
    server = make_server(create_app(repository.directory, memory_bytes=0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.005)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    yield Site(repository=repository, clock=clock, url=url)
    server.should_exit = True
    thread.join(20)
    listening.close()


MakeDelivery = Callable[..., Delivery]


@pytest.fixture
def make_delivery(site: Site, tmp_path: Path) -> MakeDelivery:
    """Make a device's delivery; by default all of them share one folder, as restarts do."""

    def make(folder: str = "device", url: str | None = None, **options: Any) -> Delivery:
        settings = {"limits": QUICK, **options}
        root = site.repository.trusted_root()
        return Delivery(tmp_path / folder, url or site.url, root, **settings)

    return make


@dataclass
class HostileServer:
    """Serves the repository, but answers some paths in its own way.

    Attributes:
        url: Where it listens.
        tricks: End of a path to what is done instead of an honest answer.
        asked: Every path and its headers, in order.
        connections: The other end of every connection.
    """

    url: str
    tricks: dict[str, Callable[[http.server.BaseHTTPRequestHandler, bytes], None]]
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    @property
    def paths(self) -> list[str]:
        """What was asked for."""
        return [path for path, _ in self.asked]


@pytest.fixture
def hostile(site: Site) -> Iterator[HostileServer]:
    """A server that nobody should trust."""
    found = HostileServer(url="", tricks={})

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            found.asked.append((self.path, dict(self.headers)))
            found.connections.add(self.client_address)
            path = site.repository.directory / self.path.lstrip("/")
            content = path.read_bytes() if path.is_file() else None
            for ending, trick in found.tricks.items():
                if self.path.endswith(ending):
                    self.close_connection = True
                    trick(self, content or b"")
                    return
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A device that hangs up is no error here."""

    server = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    server.shutdown()
    thread.join(20)
    server.server_close()
