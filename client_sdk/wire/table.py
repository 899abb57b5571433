"""The ranker's release: one table of items and a few settings, and its bytes.

The bytes hold no code and no pickle. Rules a reader can check line by line:

1. Layout, little-endian: magic ``HBRT``, version u16, reserved u16 (0), n_items u32, rank u32,
   kept u32, settings length u32, settings as canonical JSON, then kept indices int32[kept],
   their factors float32[kept, rank] and self weights float32[kept], then scale, bias and
   popularity float32[n_items] each, then the SHA-256 of all that came before.
2. The total length follows from the header and is compared before anything is allocated.
3. The hash finds damage, not forgery: the signed release (delivery) proves who made the bytes.
4. Rows of zeros (items outside the top K) are not shipped.
5. Whatever is wrong with the bytes, the answer is `ReleaseFormatError`; never a partial table.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, cast

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

Weighting = Literal["binary", "log"]
"""What a count is worth in a history vector: 1, or log(1 + count)."""

WEIGHTINGS: Final[tuple[Weighting, ...]] = ("binary", "log")

Form = Literal["project", "ridge"]
"""How u follows from x: ``project`` is u = x F, ``ridge`` solves for u on the history's rows."""

FORMS: Final[tuple[Form, ...]] = ("project", "ridge")
MAX_ITEMS: Final = 5_000_000
MAX_RANK: Final = 4_096
_MAX_SETTINGS_BYTES: Final = 4_096
_MAGIC: Final = b"HBRT"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<4sHHIIII")
_HASH_BYTES: Final = 32
_WEIGHTS: Final = (
    "together_weight", "own_weight", "category_weight", "word_weight", "popularity_weight",
)  # fmt: skip


class ReleaseFormatError(ValueError):
    """The bytes are not a ranker table this version can read: fetch the release again."""


@dataclass(frozen=True, kw_only=True)
class RankerSettings:
    """The scalars of a release: how a history is weighed and how the parts of a score mix.

    The defaults were chosen on validation by ``python -m simulations.tune``.

    Attributes:
        form: see `Form`.
        ridge: penalty of the ridge form, > 0; unused in the project form.
        weighting: what a count is worth in the history vector x.
        half_life_days: how fast x forgets, > 0 (infinity: never).
        own_half_life_days: how fast the person's own frequency forgets, > 0.
        together_weight: weight of what people taught the table together, >= 0.
        own_weight: weight of the person's own unit-norm frequency, >= 0.
        category_weight: weight of the person's own affinity to an item's category, >= 0.
        word_weight: weight of the affinity to an item's words, >= 0.
        category_size_power: 0 ranks categories by share, 1 by share per item in it; in [0, 1].
        popularity_weight: weight of popularity (0 to 1), >= 0; small, it orders what is left.
    """

    form: Form = "project"
    ridge: float = 0.1
    weighting: Weighting = "binary"
    half_life_days: float = 60.0
    own_half_life_days: float = 90.0
    together_weight: float = 1.0
    own_weight: float = 1.0
    category_weight: float = 0.01
    word_weight: float = 0.1
    category_size_power: float = 0.5
    popularity_weight: float = 0.001

    def __post_init__(self) -> None:
        """Refuse settings that no release should carry."""
        if self.form not in FORMS:
            raise ValueError(f"form must be one of {FORMS}, got {self.form!r}")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {WEIGHTINGS}, got {self.weighting!r}")
        for name in ("ridge", "half_life_days", "own_half_life_days"):
            value = getattr(self, name)
            if not (_is_number(value) and value > 0 and (np.isfinite(value) or name != "ridge")):
                raise ValueError(f"{name} must be a number > 0, got {value!r}")
        for name in _WEIGHTS:
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value <= 1e6):
                raise ValueError(f"{name} must be a number from 0 to 1e6, got {value!r}")
        if not (_is_number(self.category_size_power) and 0 <= self.category_size_power <= 1):
            raise ValueError(
                f"category_size_power must be in [0, 1], got {self.category_size_power!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """Give the settings as plain JSON; infinity becomes null."""
        return {
            name: None if value == float("inf") else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RankerSettings:
        """Read what `to_json` wrote.

        Raises:
            ValueError: on an unknown or missing name or a value outside its range.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        if set(value) != names:
            raise ValueError(f"settings must have exactly {sorted(names)}, got {sorted(value)}")
        plain: dict[str, Any] = {k: float("inf") if v is None else v for k, v in value.items()}
        return cls(**plain)


@dataclass(frozen=True, kw_only=True, eq=False)
class RankerTable:
    """What a release ships about n items: factors of rank r, and four numbers an item.

    Attributes:
        factors: float32[n, r] item factors F; zero for items outside the top K.
        self_weight: float32[n] in [0, 1), the part of an item's score that is the item itself.
        scale: float32[n] > 0, c in score = c (u f - x s) + b.
        bias: float32[n].
        popularity: float32[n] in [0, 1].
        settings: the scalars that go with the table.

    Raises:
        ValueError: when a shape, a kind, or a value is not as promised.

    Example:
        >>> table = RankerTable.without_model(3)
        >>> RankerTable.from_bytes(table.to_bytes()).n_items
        3
    """

    factors: FloatArray
    self_weight: FloatArray
    scale: FloatArray
    bias: FloatArray
    popularity: FloatArray
    settings: RankerSettings = field(default_factory=RankerSettings)

    def __post_init__(self) -> None:
        """Check every array once and make it read-only."""
        factors = _float32(self.factors, "factors", 2)
        n, rank = factors.shape
        if n > MAX_ITEMS or rank > MAX_RANK:
            raise ValueError(f"factors must be at most {MAX_ITEMS} x {MAX_RANK}, got {n} x {rank}")
        object.__setattr__(self, "factors", factors)
        for name in ("self_weight", "scale", "bias", "popularity"):
            array = _float32(getattr(self, name), name, 1)
            if len(array) != n:
                raise ValueError(
                    f"{name} must have one value for each of {n} items, got {len(array)}"
                )
            object.__setattr__(self, name, array)
        if n == 0:
            return
        if self.self_weight.min() < 0 or self.self_weight.max() >= 1:
            raise ValueError("self_weight must be in [0, 1)")
        if self.scale.min() <= 0:
            raise ValueError("scale must be > 0")
        if self.popularity.min() < 0 or self.popularity.max() > 1:
            raise ValueError("popularity must be in [0, 1]")

    @property
    def n_items(self) -> int:
        """The number of items in the catalogue."""
        return int(self.factors.shape[0])

    @property
    def rank(self) -> int:
        """The number of factors of an item."""
        return int(self.factors.shape[1])

    @cached_property
    def prior(self) -> FloatArray:
        """What an item scores for somebody new under the table's own settings: float32[n]."""
        return self.prior_for(self.settings)

    def prior_for(self, settings: RankerSettings) -> FloatArray:
        """Give w_together b + w_popularity p, float32[n]."""
        prior: FloatArray = self.bias * np.float32(settings.together_weight)
        prior += self.popularity * np.float32(settings.popularity_weight)
        return prior

    @classmethod
    def from_arrays(
        cls,
        *,
        factors: npt.ArrayLike,
        self_weight: npt.ArrayLike | None = None,
        scale: npt.ArrayLike | None = None,
        bias: npt.ArrayLike | None = None,
        popularity: npt.ArrayLike | None = None,
        settings: RankerSettings | None = None,
    ) -> RankerTable:
        """Build a table from any float arrays; what is left out is neutral (0, and 1 for scale)."""
        table = np.asarray(factors, np.float32)
        n = table.shape[0] if table.ndim else 0

        def column(value: npt.ArrayLike | None, neutral: float) -> FloatArray:
            return (
                np.full(n, neutral, np.float32) if value is None else np.asarray(value, np.float32)
            )

        return cls(
            factors=table,
            self_weight=column(self_weight, 0.0),
            scale=column(scale, 1.0),
            bias=column(bias, 0.0),
            popularity=column(popularity, 0.0),
            settings=RankerSettings() if settings is None else settings,
        )

    @classmethod
    def without_model(cls, n_items: int, *, settings: RankerSettings | None = None) -> RankerTable:
        """Give the table of a device without a release: own taste and catalogue order only."""
        return cls.from_arrays(factors=np.zeros((n_items, 0), np.float32), settings=settings)

    def to_bytes(self) -> bytes:
        """Write the table in the layout of the module's docstring."""
        kept = np.flatnonzero(self.factors.any(axis=1) | (self.self_weight != 0)).astype("<i4")
        text = json.dumps(self.settings.to_json(), sort_keys=True, separators=(",", ":")).encode()
        head = _HEADER.pack(_MAGIC, _VERSION, 0, self.n_items, self.rank, len(kept), len(text))
        columns = (
            self.factors[kept],
            self.self_weight[kept],
            self.scale,
            self.bias,
            self.popularity,
        )
        body = b"".join(
            [
                head,
                text,
                kept.tobytes(),
                *(np.ascontiguousarray(c, "<f4").tobytes() for c in columns),
            ]
        )
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> RankerTable:
        """Read a table, or refuse.

        Args:
            data: what `to_bytes` wrote.

        Returns:
            The table, equal to the one written.

        Raises:
            ReleaseFormatError: when the bytes are cut, changed, of another version, or hold values
                that a table may not have.
        """
        if len(data) < _HEADER.size + _HASH_BYTES:
            raise ReleaseFormatError(f"a ranker table needs a header, got {len(data)} bytes")
        magic, version, reserved, n, rank, kept, text_bytes = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ReleaseFormatError("these bytes are not a ranker table (wrong magic)")
        if version != _VERSION or reserved:
            raise ReleaseFormatError(f"ranker table version {version} is unknown, update the SDK")
        if n > MAX_ITEMS or rank > MAX_RANK or kept > n or text_bytes > _MAX_SETTINGS_BYTES:
            raise ReleaseFormatError("the ranker table's header is out of range")
        expected = _HEADER.size + text_bytes + 4 * (kept * (rank + 2) + 3 * n) + _HASH_BYTES
        if len(data) != expected:
            raise ReleaseFormatError(
                f"a table of {n} items needs {expected} bytes, got {len(data)}"
            )
        if hashlib.sha256(data[:-_HASH_BYTES]).digest() != data[-_HASH_BYTES:]:
            raise ReleaseFormatError("the ranker table is damaged (hash differs), fetch it again")
        try:
            return cls._read_body(data, n=n, rank=rank, kept=kept, text_bytes=text_bytes)
        except (ValueError, TypeError, RecursionError) as error:
            raise ReleaseFormatError(
                f"the ranker table holds a forbidden value: {error}"
            ) from error

    @classmethod
    def _read_body(
        cls, data: bytes, *, n: int, rank: int, kept: int, text_bytes: int
    ) -> RankerTable:
        """Read settings and arrays of bytes whose length and hash were checked."""
        at = _HEADER.size
        settings = json.loads(data[at : at + text_bytes].decode("utf-8"))
        if not isinstance(settings, dict):
            raise TypeError("settings must be a JSON object")
        at += text_bytes

        def take(count: int, kind: str) -> npt.NDArray[Any]:
            nonlocal at
            array = np.frombuffer(data, dtype=kind, count=count, offset=at)
            at += array.nbytes
            return array

        rows = take(kept, "<i4")
        if kept and (rows[0] < 0 or rows[-1] >= n or bool(np.any(rows[1:] <= rows[:-1]))):
            raise ValueError("kept rows must be increasing catalogue indices")
        factors = np.zeros((n, rank), np.float32)
        factors[rows] = take(kept * rank, "<f4").reshape(kept, rank)
        self_weight = np.zeros(n, np.float32)
        self_weight[rows] = take(kept, "<f4")
        return cls(
            factors=factors,
            self_weight=self_weight,
            scale=take(n, "<f4").astype(np.float32),
            bias=take(n, "<f4").astype(np.float32),
            popularity=take(n, "<f4").astype(np.float32),
            settings=RankerSettings.from_json(cast("Mapping[str, Any]", settings)),
        )


def _is_number(value: object) -> bool:
    """Say whether the value is a real number, not a truth value, a text or NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not np.isnan(value)


def _float32(value: npt.NDArray[Any], name: str, dimensions: int) -> FloatArray:
    """Check kind, dimensions and finiteness; give a read-only contiguous float32 array."""
    array = np.asarray(value)
    if array.dtype != np.float32:
        raise ValueError(f"{name} must be float32, got {array.dtype}; see RankerTable.from_arrays")
    if array.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimension(s), got shape {array.shape}")
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C")
        array.setflags(write=False)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite")
    return array
