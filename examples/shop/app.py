"""A tiny shop on one local page, which embeds the SDK as an app would.

    python examples/shop/app.py [--port N] [--store DIR]

Rules a reader can check line by line:

1. It listens on 127.0.0.1 only, and answers only where the ``Host`` is that very address: a name
   that somebody points at this machine does not reach it.
2. Every call of the API carries the token of this start. The token stands behind the ``#`` of the
   printed address, so no server and no other page ever sees it, and nobody reads it from this one.
3. The page may load from here and from nowhere else (`_HEADERS`), and may not make HTML of text.
4. A call has to be JSON of at most `MAX_BYTES` with the very fields of its model; anything else is
   one JSON error with a 4xx status, which never repeats what came.

Exit codes: 0 after Ctrl-C, 1 when it could not start (one line on stderr says why).
"""

from __future__ import annotations

import argparse
import hmac
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import uvicorn
from cards import NotThereError, read_catalogue
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from storefront import Storefront

from client_sdk import Homebody, HomebodyError, Purpose
from client_sdk.experience.guardrails.policy import GuardrailPolicy

HERE: Final = Path(__file__).parent
HOST: Final = "127.0.0.1"
HEADER: Final = "X-Shop-Token"
MAX_BYTES: Final = 4_096
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

Text = Annotated[str, Field(min_length=1, max_length=128)]


class Call(BaseModel):
    """The body of a call: these fields, of these types, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Done(Call):
    """What the person did with an item."""

    kind: Literal["view", "cart", "purchase"]
    item: Text


class Search(Call):
    """What the person searches for; ``typed`` is off where results are only sorted anew."""

    query: Annotated[str, Field(max_length=128)]
    typed: bool


class Answer(Call):
    """A yes or a no to one purpose."""

    purpose: Literal["personalise", "train", "statistics"]
    granted: bool


class Wish(Call):
    """What the person wants more or less of, or by which channel."""

    wish: Literal["more", "less", "less item", "forget", "allow channel", "refuse channel"]
    about: Text


class Pause(Call):
    """For how many hours; 0 ends a pause."""

    hours: Annotated[int, Field(ge=0, le=24 * 30)]


class Sure(Call):
    """That the person means it."""

    sure: Literal[True]


class Ask(Call):
    """Local time minus UTC, for the quiet hours."""

    utc_offset_s: Annotated[int, Field(ge=-15 * 3600, le=15 * 3600)]


class About(Call):
    """A message on the page."""

    message: Text


class End(About):
    """How a message ended."""

    accepted: bool


class Door:
    """Lets in what comes to this very address with the token, and says to browsers what is allowed.

    Args:
        app: What is behind it.
        host: The ``Host`` that is this address.
        token: Of this start.
    """

    def __init__(self, app: ASGIApp, *, host: str, token: str) -> None:
        self._app = app
        self._host = host
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.title() for name in _HEADERS}
                kept = [
                    (name, value)
                    for name, value in message["headers"]
                    if name.decode("latin-1").title() not in names
                ]
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*kept, *added]}
            await send(message)

        refused = self._refused(Request(scope))
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refused(self, request: Request) -> JSONResponse | None:
        if request.headers.get("host", "").lower() != self._host:
            return _error(421, "expected the printed address; got another host: open that one")
        if not request.url.path.startswith("/api/"):
            return None
        given = request.headers.get(HEADER, "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._token):
            return _error(
                403, "expected the token of this start; got another or none: open the printed URL"
            )
        if request.method == "POST":
            length = request.headers.get("content-length", "")
            if not (length.isascii() and length.isdigit()):
                return _error(411, "expected a length of the body; got none: send one")
            # A longer number is no smaller one.
            if len(length) > 9 or int(length) > MAX_BYTES:
                return _error(413, f"expected at most {MAX_BYTES} bytes; got more: send less")
        return None


def make_app(store: Storefront, *, host: str, token: str, close: ExitStack) -> FastAPI:
    """Make the page and its API.

    Args:
        store: What the person can do.
        host: The ``Host`` that is answered.
        token: Needed by every call of the API.
        close: Closed when the server stops.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with close:
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Door, host=host, token=token)
    app.mount("/static", StaticFiles(directory=HERE / "static"))

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(HERE / "static" / "index.html")

    @app.get("/api/state")
    def state() -> dict[str, Any]:
        return store.state()

    _hear(app, store)
    _hear_of_messages(app, store)
    _say_errors(app)
    return app


def _hear(app: FastAPI, store: Storefront) -> None:
    @app.post("/api/search")
    def search(call: Search) -> dict[str, Any]:
        return {"found": store.search(call.query, typed=call.typed)}

    @app.post("/api/did")
    def did(call: Done) -> dict[str, Any]:
        kept = store.did(call.kind, call.item)
        return {**store.state(), "stored": kept}

    @app.post("/api/consent")
    def consent(call: Answer) -> dict[str, Any]:
        store.answer(Purpose(call.purpose), granted=call.granted)
        return store.state()

    @app.post("/api/wish")
    def wish(call: Wish) -> dict[str, Any]:
        store.prefer(call.wish, call.about)
        return store.state()

    @app.get("/api/export")
    def export() -> PlainTextResponse:
        return PlainTextResponse(store.export(), media_type="application/jsonl")

    @app.post("/api/erase")
    def erase(_: Sure) -> dict[str, Any]:
        store.erase()
        return store.state()

    @app.post("/api/pause")
    def pause(call: Pause) -> dict[str, Any]:
        store.pause(call.hours)
        return store.state()


def _hear_of_messages(app: FastAPI, store: Storefront) -> None:
    @app.post("/api/message/ask")
    def ask(call: Ask) -> dict[str, Any]:
        store.ask(call.utc_offset_s)
        return store.state()

    @app.post("/api/message/open")
    def opened(call: About) -> dict[str, Any]:
        store.opened(call.message)
        return store.state()

    @app.post("/api/message/end")
    def end(call: End) -> dict[str, Any]:
        store.ended(call.message, accepted=call.accepted)
        return store.state()

    @app.post("/api/message/why")
    def why(call: About) -> dict[str, Any]:
        return store.why(call.message)


def _say_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    def not_valid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        kind, place = first["type"], first["loc"]
        if kind == "json_invalid":
            return _error(400, "expected JSON; got something else")
        if kind == "extra_forbidden":
            return _error(422, "expected the fields of this call only; got another field")
        if len(place) < 2:
            return _error(422, "expected a JSON object in the body; got something else")
        # The place is a field of ours, and the words are pydantic's about its type.
        return _error(422, f"{place[1]}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def no_such_page(_: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail))

    @app.exception_handler(ValueError)
    def not_as_promised(_: Request, error: ValueError) -> JSONResponse:
        return _error(422, str(error))

    @app.exception_handler(NotThereError)
    def not_there(_: Request, error: NotThereError) -> JSONResponse:
        return _error(404, str(error))

    @app.exception_handler(HomebodyError)
    def not_now(_: Request, error: HomebodyError) -> JSONResponse:
        return _error(409, str(error))


def _error(status: int, words: str) -> JSONResponse:
    return JSONResponse({"error": words}, status_code=status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the shop until it is stopped.

    Args:
        arguments: Of the command line; the process's own by default.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description="A tiny shop that embeds Homebody.")
    parser.add_argument("--port", type=int, default=0, help="0 for any that is free (default)")
    parser.add_argument("--store", type=Path, help="where the person's store is; a temporary one")
    given = parser.parse_args(arguments)
    with ExitStack() as opening:
        try:
            listening = opening.enter_context(socket.create_server((HOST, given.port)))
            folder = given.store or Path(opening.enter_context(tempfile.TemporaryDirectory()))
            catalogue = read_catalogue(HERE / "catalogue.toml")
            store = Storefront(
                lambda: Homebody.open(folder / "person", catalogue=catalogue),
                GuardrailPolicy.read(HERE / "policy.toml"),
            )
            opening.callback(store.close)
        except (OSError, OverflowError, HomebodyError) as error:
            print(f"cannot start: {error}", file=sys.stderr)
            return 1
        token = secrets.token_urlsafe(24)
        host = f"{HOST}:{listening.getsockname()[1]}"
        # From here on the server closes everything, also when a signal ends the process.
        app = make_app(store, host=host, token=token, close=opening.pop_all())
        config = uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        print(f"http://{host}/#{token}", flush=True)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
