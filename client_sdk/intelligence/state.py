"""What a model learned on this device, as bytes that are read back strictly.

Rules a reader can check line by line:

1. ``b"HBLS" | version | header length | header | arrays | SHA-256``; integers are big-endian, the
   header is canonical JSON, the arrays are little-endian float64 in the order of the header. One
   state has one encoding.
2. Reading is total: any bytes give the state of the asked model, or `LearnedStateError`. Sizes are
   checked before anything is allocated, the hash before anything is used, and every number is
   finite.
3. The hash finds damage, not an attacker: the vault encrypts and authenticates what it keeps.
4. What the numbers mean is for each model to check; it refuses with the same error.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.errors import HomebodyError
from client_sdk.wire.frame import canonical_json

MAX_STATE_BYTES: Final = 64 * 1024 * 1024
_MAGIC: Final = b"HBLS"
_VERSION: Final = 1
_PREFIX: Final = struct.Struct(">4sBI")
_HASH_BYTES: Final = 32
_FIELDS: Final = {"arrays", "facts", "model"}

FloatArray = NDArray[np.float64]


class LearnedStateError(HomebodyError):
    """The bytes are not the state of this model: start it anew, the events are still there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedState:
    """One model's state: plain facts and finite arrays.

    Attributes:
        model: Which kind of model wrote it.
        facts: Plain JSON.
        arrays: float64 arrays by name, finite.
    """

    model: str
    facts: Mapping[str, Any]
    arrays: Mapping[str, FloatArray]

    def to_bytes(self) -> bytes:
        """Write the layout of rule 1.

        Raises:
            ValueError: an array is not finite, or the state is larger than 64 MiB.

        >>> state = LearnedState(model="m", facts={"n": 2}, arrays={"w": np.array([1.0, 2.0])})
        >>> LearnedState.from_bytes(state.to_bytes(), model="m").arrays["w"].tolist()
        [1.0, 2.0]
        """
        names = sorted(self.arrays)
        if not all(np.isfinite(self.arrays[name]).all() for name in names):
            raise ValueError("arrays: expected finite numbers; got another")
        header = canonical_json(
            {
                "arrays": [[name, list(self.arrays[name].shape)] for name in names],
                "facts": dict(self.facts),
                "model": self.model,
            }
        )
        body = b"".join(
            [
                _PREFIX.pack(_MAGIC, _VERSION, len(header)),
                header,
                *(np.ascontiguousarray(self.arrays[name], "<f8").tobytes() for name in names),
            ]
        )
        if len(body) + _HASH_BYTES > MAX_STATE_BYTES:
            raise ValueError(f"expected a state of at most {MAX_STATE_BYTES} bytes; got more")
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes, *, model: str) -> LearnedState:
        """Read what `to_bytes` wrote for this kind of model.

        Raises:
            LearnedStateError: cut, changed, of another version or model, or not finite.
        """
        if not _PREFIX.size + _HASH_BYTES <= len(data) <= MAX_STATE_BYTES:
            raise LearnedStateError("expected the state of a model; got too few or too many bytes")
        magic, version, header_bytes = _PREFIX.unpack_from(data)
        if magic != _MAGIC or version != _VERSION:
            raise LearnedStateError(f"expected a state of version {_VERSION}; got other bytes")
        start, end = _PREFIX.size + header_bytes, len(data) - _HASH_BYTES
        if start > end or hashlib.sha256(data[:end]).digest() != data[end:]:
            raise LearnedStateError("the state is damaged (its hash differs)")
        header = _header(data[_PREFIX.size : start])
        if header["model"] != model:
            raise LearnedStateError(f"expected the state of {model!r}; got another model's")
        shapes = _shapes(header["arrays"])
        if start + 8 * sum(math.prod(shape) for shape in shapes.values()) != end:
            raise LearnedStateError("the state is as long as its header says; got another length")
        arrays = {}
        for name, shape in shapes.items():
            count = math.prod(shape)
            values = np.frombuffer(data, "<f8", count, start).astype(np.float64).reshape(shape)
            if not np.isfinite(values).all():
                raise LearnedStateError("expected finite numbers in the state; got another")
            arrays[name] = values
            start += 8 * count
        return cls(model=model, facts=header["facts"], arrays=arrays)

    def array(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """Give one array of exactly this shape.

        Raises:
            LearnedStateError: it is missing or has another shape.
        """
        found = self.arrays.get(name)
        if found is None or found.shape != shape:
            raise LearnedStateError(f"expected {name} of shape {list(shape)} in the state")
        return found

    def whole(self, name: str, *, least: int = 0) -> int:
        """Give one fact that is a whole number.

        Raises:
            LearnedStateError: it is missing, no whole number, or below ``least``.
        """
        found = self.facts.get(name)
        if type(found) is not int or found < least:
            raise LearnedStateError(f"expected {name} of {least} or more in the state")
        return found


def _header(encoded: bytes) -> dict[str, Any]:
    try:
        header = json.loads(encoded)
        good = isinstance(header, dict) and canonical_json(header) == encoded
    except (ValueError, RecursionError) as error:
        raise LearnedStateError("the state's header is not JSON") from error
    if not good or set(header) != _FIELDS or not isinstance(header["facts"], dict):
        raise LearnedStateError("the state's header has other fields")
    return dict(header)


def _shapes(listed: Any) -> dict[str, tuple[int, ...]]:
    """Read names and shapes: strictly increasing names, no negative size."""
    try:
        shapes = {name: tuple(shape) for name, shape in listed}
        sizes = [size for shape in shapes.values() for size in shape]
        good = list(shapes) == sorted(shapes) and len(shapes) == len(listed)
    except (TypeError, ValueError) as error:
        raise LearnedStateError("the state's list of arrays cannot be read") from error
    if not good or not all(type(size) is int and size >= 0 for size in sizes):
        raise LearnedStateError("the state's list of arrays cannot be read")
    return shapes
