"""Snapshots: plain values and arrays in one string of bytes, read strictly.

Rules a reader can check line by line:

1. The layout: ``HBDG``, the version (1 byte), CRC-32 of what follows (4 bytes), then, compressed by
   zlib: the length of the head (4 bytes), the head (JSON), and the arrays, one after the other.
   Numbers are little-endian; the reader knows type and shape of each array from the head.
2. Anything else is a `ValueError`: another version, a wrong checksum, a byte too few or too many,
   more than `MAX_BYTES` when unpacked.
3. The checksum finds accidents. Against a forger the bytes are sealed by whoever stores them.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MAGIC: Final = b"HBDG"
VERSION: Final = 1
MAX_BYTES: Final = 1 << 28
_LEVEL: Final = 1
_FRONT: Final = struct.Struct("<4sBI")
_LENGTH: Final = struct.Struct("<I")


def pack(head: dict[str, Any], arrays: Sequence[npt.NDArray[Any]], text: bytes = b"") -> bytes:
    """Write a snapshot.

    Args:
        head: Plain JSON values.
        arrays: Written in this order.
        text: Written last.
    """
    first = json.dumps(head, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    parts = [_LENGTH.pack(len(first)), first]
    parts += [array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in arrays]
    body = zlib.compress(b"".join([*parts, text]), _LEVEL)
    return _FRONT.pack(MAGIC, VERSION, zlib.crc32(body)) + body


class Unpacked:
    """A snapshot that is being read, part by part.

    Raises:
        ValueError: not a snapshot of this version.

    >>> unpacked = Unpacked(pack({"n": 2}, [np.array([3, 4], "<i4")]))
    >>> unpacked.array(np.dtype("<i4"), (unpacked.head["n"],)).tolist()
    [3, 4]
    >>> unpacked.done()
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < _FRONT.size:
            raise ValueError("snapshot: expected more bytes")
        magic, version, checksum = _FRONT.unpack_from(data)
        body = data[_FRONT.size :]
        if magic != MAGIC or version != VERSION:
            raise ValueError(
                f"snapshot: expected version {VERSION}; got another, or something else"
            )
        if zlib.crc32(body) != checksum:
            raise ValueError("snapshot: expected the bytes that were written; got others")
        self._bytes = _unzipped(body)
        self._at = 0
        (length,) = _LENGTH.unpack(self.take(_LENGTH.size))
        head = json.loads(self.take(length))
        if not isinstance(head, dict):
            raise ValueError("snapshot: expected a head")  # noqa: TRY004 - every refusal of a snapshot is a ValueError
        self.head: dict[str, Any] = head

    def take(self, n_bytes: int) -> bytes:
        """Read the next bytes.

        Raises:
            ValueError: there are fewer.
        """
        end = self._at + n_bytes
        if n_bytes < 0 or end > len(self._bytes):
            raise ValueError("snapshot: expected more bytes")
        taken = self._bytes[self._at : end]
        self._at = end
        return taken

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Read the next array.

        Raises:
            ValueError: there are fewer bytes.
        """
        taken = self.take(dtype.itemsize * int(np.prod(shape, dtype=object)))
        return np.frombuffer(taken, dtype).reshape(shape)

    def rest(self) -> bytes:
        """Read everything that is left."""
        return self.take(len(self._bytes) - self._at)

    def done(self) -> None:
        """Refuse what was not read."""
        if self._at != len(self._bytes):
            raise ValueError("snapshot: expected fewer bytes")


def _unzipped(body: bytes) -> bytes:
    unzip = zlib.decompressobj()
    try:
        plain = unzip.decompress(body, MAX_BYTES)
    except zlib.error as error:
        raise ValueError("snapshot: expected compressed bytes") from error
    if not unzip.eof or unzip.unused_data:
        raise ValueError("snapshot: expected a whole one, and nothing after it")
    return plain
