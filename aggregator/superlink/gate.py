"""The gate: the only thing that devices can reach, in front of a SuperLink that they cannot.

Rules a reader can check line by line:

1. The eight calls in `ALLOWED` go through; everything else is 404: no Control, no Runtime, no
   registration of oneself, and no download of code.
2. A body above ``max_body_bytes`` is 413, and is not read to its end.
3. A reply goes through only if it names as its source the node that signs the call. The SuperLink
   checks that the caller's key belongs to ``node``, but not that the message comes from it; without
   this rule a node could use up another node's place with a reply in its name.

It terminates TLS and speaks TLS to the SuperLink. One machine needs no more; with many, give the
same rules to the proxy that you have (`aggregator.superlink.process` shows them for Caddy) and keep
rule 3 here, behind it.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx
import uvicorn
from flwr.proto.fleet_pb2 import PushMessagesRequest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aggregator.errors import SuperLinkError
from aggregator.superlink.process import Endpoint, claim_port

PUSH_MESSAGES: Final = "/v1/fleet/push-messages"
ALLOWED: Final = (
    "/v1/fleet/activate-node",
    "/v1/fleet/deactivate-node",
    "/v1/fleet/send-node-heartbeat",
    "/v1/fleet/pull-messages",
    PUSH_MESSAGES,
    "/v1/fleet/pull-object",
    "/v1/fleet/push-object",
    "/v1/fleet/confirm-message-received",
)
MAX_BODY_BYTES: Final = 8 * 1024 * 1024

_DROPPED_HEADERS: Final = frozenset({"host", "content-length", "connection", "transfer-encoding"})
_START_TIMEOUT_S: Final = 30.0


class _TooLargeError(Exception):
    """The body is longer than the gate lets through."""


def make_gate(inner: Endpoint, *, max_body_bytes: int = MAX_BODY_BYTES) -> Starlette:
    """Make the gate as an ASGI application.

    Args:
        inner: The SuperLink behind it.
        max_body_bytes: Largest request; a frame, and some.

    Returns:
        The application; serve it with TLS.
    """
    context = ssl.create_default_context(cadata=inner.root_certificates_pem.decode("ascii"))
    client = httpx.AsyncClient(
        base_url=f"https://{inner.address}",
        verify=context,
        timeout=30.0,
        limits=httpx.Limits(max_connections=64),
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        async with client:
            yield

    async def forward(request: Request) -> Response:
        try:
            body = await _read(request, max_body_bytes)
        except _TooLargeError:
            return Response(status_code=httpx.codes.REQUEST_ENTITY_TOO_LARGE)
        if request.url.path == PUSH_MESSAGES and not speaks_for_itself(body):
            return Response(status_code=httpx.codes.BAD_REQUEST)
        try:
            answer = await client.post(
                request.url.path, content=body, headers=_passed_on(request.headers.items())
            )
        except httpx.TransportError:
            return Response(status_code=httpx.codes.BAD_GATEWAY)
        return Response(
            answer.content,
            status_code=answer.status_code,
            media_type=answer.headers.get("content-type"),
        )

    routes = [Route(path, forward, methods=["POST"]) for path in ALLOWED]
    return Starlette(routes=routes, lifespan=lifespan)


def speaks_for_itself(body: bytes) -> bool:
    """Say whether every message in a push names the calling node as its source.

    >>> speaks_for_itself(b"not protobuf")
    False
    """
    try:
        push = PushMessagesRequest.FromString(body)
    except DecodeError:
        return False
    return bool(push.messages_list) and all(
        message.metadata.src_node_id == push.node.node_id for message in push.messages_list
    )


async def _read(request: Request, max_bytes: int) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > max_bytes:
            raise _TooLargeError
    return bytes(parts)


def _passed_on(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name not in _DROPPED_HEADERS]


@contextmanager
def running_gate(
    inner: Endpoint,
    *,
    directory: Path,
    port: int | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Iterator[Endpoint]:
    """Serve the gate from a thread of this process, with the SuperLink's own certificate.

    Args:
        inner: The SuperLink behind it.
        directory: Where `running_superlink` put the certificates.
        port: The port to bind; by default a free one.
        max_body_bytes: Largest request.

    Yields:
        Where devices connect.

    Raises:
        PortInUseError: another program has the port.
        SuperLinkError: it did not start.
    """
    chosen = claim_port(inner.host, port)
    server = uvicorn.Server(
        uvicorn.Config(
            make_gate(inner, max_body_bytes=max_body_bytes),
            host=inner.host,
            port=chosen,
            ssl_certfile=str(directory / "server.pem"),
            ssl_keyfile=str(directory / "server.key"),
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
    )
    thread = threading.Thread(target=server.run, name="superlink-gate", daemon=True)
    thread.start()
    try:
        ends_s = time.monotonic() + _START_TIMEOUT_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > ends_s:
                raise SuperLinkError(f"the gate did not start on port {chosen}")
            time.sleep(0.02)
        yield replace(inner, port=chosen)
    finally:
        server.should_exit = True
        thread.join()
