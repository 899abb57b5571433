"""The model server: hands out the signed repository over HTTP, read-only.

It needs no secret and is trusted with nothing: devices check signatures, so a bad server can only
withhold. It keeps no access log and sets no cookie; who asked is not recorded.

Rules a reader can check line by line:

1. A path is served only if its name matches `_METADATA_NAME` or `_TARGET_NAME` as a whole; neither
   can hold ``..`` or a second slash. Keys, locks and everything else have no name here.
2. What has a version or a hash in its name never changes: cache it for a year. ``timestamp.json``
   and ``/health`` are asked for anew each time.
3. The strong ETag is the SHA-256 of the bytes that are sent; the compressed form has its own.
4. Anything that is not there is 404, anything but GET and HEAD is 405.

Files that never change are kept in memory up to `MEMORY_BYTES`, the least recently used go first.

Test: tests/aggregator/test_server.py over real HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aggregator.errors import PortInUseError
from aggregator.repository import (
    METADATA_DIRECTORY,
    TARGETS_DIRECTORY,
    ReleaseRepositoryError,
    Repository,
)
from client_sdk.wire import MANIFEST_TARGET, PROGRAMME_PATTERN, RELEASE_FILES, sha256_hex

MEMORY_BYTES: Final = 64 * 1024 * 1024

_FOREVER: Final = "public, max-age=31536000, immutable"
_ANEW: Final = "no-cache"
_TIMESTAMP: Final = "timestamp.json"
_METADATA_NAME: Final = re.compile(
    r"[1-9][0-9]{0,15}\.(?:root|targets|snapshot)\.json|timestamp\.json"
)
_TARGET_NAME: Final = re.compile(
    rf"[0-9a-f]{{64}}\.{re.escape(MANIFEST_TARGET)}"
    rf"|[1-9][0-9]{{0,15}}/[0-9a-f]{{64}}"
    rf"\.(?:{'|'.join(map(re.escape, RELEASE_FILES))}|{PROGRAMME_PATTERN})"
)
_REFRESH_CHECK_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Body:
    """The bytes of one file as they are sent, and their strong ETag."""

    content: bytes
    etag: str


class FileCache:
    """Files that never change, read once while they fit.

    Args:
        max_bytes: How much to keep.
    """

    def __init__(self, *, max_bytes: int = MEMORY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bodies: OrderedDict[Path, Body] = OrderedDict()
        self._bytes = 0

    def get(self, path: Path) -> Body | None:
        """Return the file, or None where there is none."""
        body = self._bodies.get(path)
        if body is not None:
            self._bodies.move_to_end(path)
            return body
        body = read_body(path)
        if body is not None and len(body.content) <= self._max_bytes:
            self._bodies[path] = body
            self._bytes += len(body.content)
            while self._bytes > self._max_bytes:
                _, oldest = self._bodies.popitem(last=False)
                self._bytes -= len(oldest.content)
        return body


def read_body(path: Path) -> Body | None:
    """Read a file; None where there is none."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return Body(content=content, etag=f'"{sha256_hex(content)}"')


class _Site:
    """The handlers of one repository."""

    def __init__(
        self, repository_dir: Path, *, cache: FileCache, now_s: Callable[[], float]
    ) -> None:
        self._repository_dir = repository_dir
        self._cache = cache
        self._now_s = now_s

    async def metadata(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not _METADATA_NAME.fullmatch(name):
            return _missing()
        path = self._repository_dir / METADATA_DIRECTORY / name
        if name == _TIMESTAMP:
            return _answer(request, read_body(path), cache_control=_ANEW)
        return _answer(request, self._cache.get(path), cache_control=_FOREVER)

    async def targets(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not _TARGET_NAME.fullmatch(name):
            return _missing()
        path = self._repository_dir / TARGETS_DIRECTORY / name
        compressed = None
        if _accepts_gzip(request):
            compressed = self._cache.get(path.with_name(path.name + ".gz"))
        body = compressed or self._cache.get(path)
        response = _answer(request, body, cache_control=_FOREVER)
        response.headers["Vary"] = "Accept-Encoding"
        if compressed is not None:
            response.headers["Content-Encoding"] = "gzip"
        return response

    async def health(self, _request: Request) -> Response:
        state, healthy = await run_in_threadpool(check_health, self._repository_dir, self._now_s())
        headers = {"Cache-Control": _ANEW}
        return JSONResponse(state, status_code=200 if healthy else 503, headers=headers)


def create_app(
    repository_dir: Path,
    *,
    keep_fresh: bool = False,
    now_s: Callable[[], float] = time.time,
    memory_bytes: int = MEMORY_BYTES,
) -> FastAPI:
    """Make the application.

    Args:
        repository_dir: A repository; it may be made, or come back, later.
        keep_fresh: Sign a new timestamp when half of its lifetime is over; needs the keys.
        now_s: The clock, seconds since 1970.
        memory_bytes: How many bytes of files to keep in memory.
    """
    site = _Site(repository_dir, cache=FileCache(max_bytes=memory_bytes), now_s=now_s)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if not keep_fresh:
            yield
            return
        task = asyncio.create_task(_keep_fresh(repository_dir, now_s))
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.router.routes.extend(
        [
            Route("/metadata/{name}", site.metadata, methods=["GET", "HEAD"]),
            Route("/targets/{name:path}", site.targets, methods=["GET", "HEAD"]),
            Route("/health", site.health, methods=["GET", "HEAD"]),
        ]
    )
    return app


def check_health(repository_dir: Path, now_s: float) -> tuple[dict[str, object], bool]:
    """Say whether devices could update from a repository now, and if not, why.

    Returns:
        What ``/health`` answers, and whether it is good.
    """
    try:
        status = Repository(repository_dir).status()
    except ReleaseRepositoryError as error:
        reason = "repository missing or damaged"
        return {"status": "unavailable", "reason": reason, "kind": type(error).__name__}, False
    release = None if status.manifest is None else status.manifest.version
    if now_s >= status.fresh_until_s:
        reason = "the signed metadata has expired; refresh it"
        return {"status": "unavailable", "reason": reason, "release": release}, False
    return {"status": "ok", "release": release, "fresh_until_s": int(status.fresh_until_s)}, True


def serve(
    repository_dir: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
    keep_fresh: bool = True,
    on_ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve a repository until interrupted.

    Args:
        repository_dir: What to serve.
        host: The address to listen on.
        port: The port; 0 for any free one.
        tls_certificate: PEM certificate chain; with ``tls_key``.
        tls_key: PEM private key.
        keep_fresh: As in `create_app`.
        on_ready: Called with the server's URL once it listens.

    Raises:
        PortInUseError: the address cannot be listened on.
    """
    app = create_app(repository_dir, keep_fresh=keep_fresh)
    with listen(host, port) as listening:
        server = make_server(app, tls_certificate=tls_certificate, tls_key=tls_key)
        scheme = "http" if tls_certificate is None else "https"
        shown = f"[{host}]" if ":" in host else host
        on_ready(f"{scheme}://{shown}:{listening.getsockname()[1]}")
        server.run(sockets=[listening])


def make_server(
    app: FastAPI, *, tls_certificate: Path | None = None, tls_key: Path | None = None
) -> uvicorn.Server:
    """Make the HTTP server around the application; ``run(sockets=[…])`` serves until told to stop.

    Raises:
        OSError: the certificate or its key cannot be read.
    """
    config = uvicorn.Config(
        app,
        ws="none",
        # Configuring logging would close the handlers of whoever runs this in a larger process;
        # warnings reach stderr without it.
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ssl_certfile=tls_certificate,
        ssl_keyfile=tls_key,
    )
    config.load()
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        PortInUseError: another program listens there, or the address is not this machine's.
    """
    try:
        return socket.create_server((host, port), family=_family(host), backlog=1024)
    except OSError as error:
        raise PortInUseError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --port"
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _keep_fresh(repository_dir: Path, now_s: Callable[[], float]) -> None:
    while True:
        # Where the keys are not on this machine, another one refreshes; /health tells if none does.
        with contextlib.suppress(ReleaseRepositoryError, OSError):
            await run_in_threadpool(_refresh_if_due, repository_dir, now_s)
        await asyncio.sleep(_REFRESH_CHECK_S)


def _refresh_if_due(repository_dir: Path, now_s: Callable[[], float]) -> None:
    repository = Repository(repository_dir, now_s=now_s)
    if now_s() >= repository.status().refresh_at_s:
        repository.refresh_timestamp()


def _answer(request: Request, body: Body | None, *, cache_control: str) -> Response:
    if body is None:
        return _missing()
    headers = {"ETag": body.etag, "Cache-Control": cache_control}
    if body.etag in _etags(request):
        return Response(status_code=304, headers=headers)
    return Response(body.content, headers=headers, media_type=_media_type(request.url.path))


def _etags(request: Request) -> list[str]:
    return [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]


def _accepts_gzip(request: Request) -> bool:
    for offer in request.headers.get("accept-encoding", "").split(","):
        coding, _, weight = offer.strip().partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _media_type(path: str) -> str:
    return "application/json" if path.endswith(".json") else "application/octet-stream"


def _missing() -> Response:
    return Response("not found\n", status_code=404, headers={"Cache-Control": _ANEW})
