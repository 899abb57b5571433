"""The network of delivery: bounded GET requests, for python-tuf's client.

In place of python-tuf's own fetcher because this one also bounds a whole download in time, asks for
compressed answers (counted after decompression, so a bomb hits the size limit), follows no
redirect, and tells a network failure in the middle of an answer as a download error.

Nothing about the device or the person is sent: no cookie, no identifier, one fixed user agent.

Test: tests/client_sdk/delivery/test_delivery.py over real HTTP.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Generator
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)
from tuf.ngclient import FetcherInterface

from client_sdk.delivery.release import Limits
from client_sdk.version import SDK_VERSION

_CHUNK_BYTES: Final = 256 * 1024
_GZIP: Final = 31
_ERROR_PIECES: Final = 4
_HEADERS: Final = {"User-Agent": f"homebody/{SDK_VERSION}", "Accept-Encoding": "gzip"}


class BoundedFetcher(FetcherInterface):
    """Downloads within limits, over one kept connection.

    Args:
        server_url: The only server that is asked.
        limits: Timeouts.
    """

    def __init__(self, *, server_url: str, limits: Limits) -> None:
        self._limits = limits
        self._pool = _pool_for(server_url)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Download in memory, so that nothing unchecked touches the disk.

        Raises:
            DownloadLengthMismatchError: more than ``max_length`` bytes came.
            DownloadError: no, or a broken, answer.
        """
        pieces, received = [], 0
        with contextlib.closing(self._start(url)) as answer:
            for piece in answer:
                received += len(piece)
                if received > max_length:
                    raise DownloadLengthMismatchError(f"expected at most {max_length} bytes")
                pieces.append(piece)
        return b"".join(pieces)

    def _start(self, url: str) -> Generator[bytes, None, None]:
        try:
            return self._fetch(url)
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError("no answer") from error

    def _fetch(self, url: str) -> Generator[bytes, None, None]:
        deadline_s = time.monotonic() + self._limits.download_s
        response = self._pool.request(
            "GET",
            url,
            headers=_HEADERS,
            preload_content=False,
            redirect=False,
            retries=urllib3.Retry(connect=1, read=1, redirect=0, status=0, other=0),
            timeout=urllib3.Timeout(self._limits.timeout_s),
        )
        raw = _raw_pieces(response, deadline_s)
        if response.status == 200:
            return _decoded(raw, response.headers.get("Content-Encoding", "identity").lower())
        # Read to its end, a short answer leaves the connection usable; a long one closes it.
        with contextlib.closing(raw):
            for _ in zip(raw, range(_ERROR_PIECES), strict=False):
                pass
        raise DownloadHTTPError(f"the server answered {response.status}", response.status)


def _raw_pieces(
    response: urllib3.BaseHTTPResponse, deadline_s: float
) -> Generator[bytes, None, None]:
    whole = False
    try:
        # Not response.stream(): it waits for a whole chunk; a trickle would hold it for ever.
        while piece := response.read1(_CHUNK_BYTES, decode_content=False):
            if time.monotonic() > deadline_s:
                raise SlowRetrievalError("the download took too long")
            yield piece
        whole = True
    except urllib3.exceptions.HTTPError as error:
        raise DownloadError("the answer broke off or is malformed") from error
    finally:
        if not whole:
            response.close()
        response.release_conn()


def _decoded(raw: Generator[bytes, None, None], encoding: str) -> Generator[bytes, None, None]:
    with contextlib.closing(raw):
        if encoding == "identity":
            yield from raw
        elif encoding == "gzip":
            yield from _decompressed(raw)
        else:
            raise DownloadError("an encoding that was not asked for")


def _decompressed(raw: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    decoder = zlib.decompressobj(wbits=_GZIP)
    try:
        for piece in raw:
            yield decoder.decompress(piece, _CHUNK_BYTES)
            while decoder.unconsumed_tail:
                yield decoder.decompress(decoder.unconsumed_tail, _CHUNK_BYTES)
    except zlib.error as error:
        raise DownloadError("the compressed answer is malformed") from error
    if not decoder.eof or decoder.unused_data:
        raise DownloadError("the compressed answer is not whole")


def _pool_for(server_url: str) -> urllib3.PoolManager:
    parts = urlsplit(server_url)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(parts.hostname or ""):
        return urllib3.PoolManager()
    return urllib3.ProxyManager(proxy)
