"""Holdings as they travel to another process: arrays apart from the rest, memory maps as paths.

Arrays lie apart so that a store of shared memory can keep them, and a worker reads them in place. A
memory map of a whole file can travel as its path: its size and time of change go along, and the
receiver refuses a file that is not the one that was meant.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulations.engines.holdings import Holdings

_PICKLE_PROTOCOL: Final = 5


class MappedFileError(Exception):
    """A file that was sent as its path can't be used here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedHoldings:
    """Holdings in pieces.

    Attributes:
        body: Everything but the arrays.
        arrays: uint8[...] each, in the body's order.
    """

    body: bytes
    arrays: tuple[NDArray[np.uint8], ...]

    @classmethod
    def of(cls, holdings: Holdings, *, by_path: bool) -> PackedHoldings:
        """Pack holdings.

        Args:
            holdings: What devices hold.
            by_path: Whether whoever opens them sees this machine's files: memory maps of whole
                files are then sent as paths.
        """
        body, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        _Packer(body, buffers.append, by_path=by_path).dump(holdings)
        return cls(
            body=body.getvalue(),
            arrays=tuple(np.frombuffer(each.raw(), np.uint8) for each in buffers),
        )

    def open(self) -> Holdings:
        """Give the holdings; arrays that lie in shared memory stay there, read-only.

        Raises:
            MappedFileError: a file is not there, or is not what it was.
        """
        found = pickle.loads(self.body, buffers=self.arrays)  # noqa: S301 - this process made it
        if not isinstance(found, Holdings):
            raise TypeError(f"expected Holdings; got {type(found).__name__}")
        return found


class _Packer(pickle.Pickler):
    """Pickles with arrays apart, and memory maps as their files."""

    def __init__(
        self,
        into: io.BytesIO,
        on_buffer: Callable[[pickle.PickleBuffer], None],
        *,
        by_path: bool,
    ) -> None:
        super().__init__(into, protocol=_PICKLE_PROTOCOL, buffer_callback=on_buffer)
        self._by_path = by_path

    def reducer_override(self, value: Any) -> Any:
        """Say how to pickle; the default for everything but memory maps."""
        if not isinstance(value, np.memmap):
            return NotImplemented
        file = _MappedFile.of(value) if self._by_path else None
        if file is None:
            return np.asarray(value).__reduce_ex__(_PICKLE_PROTOCOL)
        return _MappedFile.open, (file,)


@dataclass(frozen=True, kw_only=True)
class _MappedFile:
    """The file behind a memory map, and how it was when it was sent."""

    path: str
    size: int
    changed_ns: int
    offset: int
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, mapped: np.memmap[Any, Any]) -> _MappedFile | None:
        """Describe a map of a whole file; None for a part of one: by value, then.

        A slice has its parent's file and offset, so it is known by its length only.
        """
        if mapped.filename is None or not mapped.flags.c_contiguous:
            return None
        path, offset = Path(mapped.filename), int(mapped.offset)
        status = path.stat()
        if offset + mapped.nbytes != status.st_size:
            return None
        return cls(
            path=str(path.resolve()),
            size=status.st_size,
            changed_ns=status.st_mtime_ns,
            offset=offset,
            dtype=mapped.dtype.str,
            shape=mapped.shape,
        )

    def open(self) -> NDArray[Any]:
        """Map the file, if it is the one that was meant."""
        try:
            status = Path(self.path).stat()
        except OSError as error:
            raise MappedFileError(f"a worker can't read {self.path}") from error
        if (status.st_size, status.st_mtime_ns) != (self.size, self.changed_ns):
            raise MappedFileError(f"{self.path} changed while the simulation ran; start again")
        return np.memmap(self.path, np.dtype(self.dtype), "r", offset=self.offset, shape=self.shape)
