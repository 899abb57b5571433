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
        if response.status != 200:
            response.drain_conn()
            response.release_conn()
            raise DownloadHTTPError(f"the server answered {response.status}", response.status)
        return self._pieces(response, deadline_s)

    def _pieces(
        self, response: urllib3.BaseHTTPResponse, deadline_s: float
    ) -> Generator[bytes, None, None]:
        try:
            for piece in response.stream(_CHUNK_BYTES, decode_content=True):
                if time.monotonic() > deadline_s:
                    response.close()
                    raise SlowRetrievalError("the download took too long")
                yield piece
        except urllib3.exceptions.HTTPError as error:
            response.close()
            raise DownloadError("the answer broke off or is malformed") from error
        finally:
            response.release_conn()


def _pool_for(server_url: str) -> urllib3.PoolManager:
    parts = urlsplit(server_url)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(parts.hostname or ""):
        return urllib3.PoolManager()
    return urllib3.ProxyManager(proxy)
