"""Whether two simulations are the same one: equal settings, people and code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import numpy as np

from client_sdk.wire import canonical_json
from simulations.checkpoints.errors import CheckpointDamagedError
from simulations.code_version import code_sha256
from simulations.engines.holdings import Holdings

_BYTES_AT_A_TIME: Final = 1 << 24
_WHAT: Final = {
    "settings": "other settings, scenario or seed",
    "people": "other people",
    "code": "another version of Homebody or numpy",
}


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What decides a simulation's result, as digests.

    Attributes:
        settings: Of all settings, with the scenario and the seeds.
        people: Of what devices hold.
        code: Of the code.
    """

    settings: str
    people: str
    code: str

    @classmethod
    def of(
        cls, settings: Mapping[str, Any], holdings: Holdings, *, code: str | None = None
    ) -> Fingerprint:
        """Take the fingerprint of a simulation; reads everything that devices hold, once.

        Args:
            settings: All that decides the result, as plain JSON values; not how many workers.
            holdings: What devices hold.
            code: Of the code; by default this process'.

        Raises:
            ValueError: a setting that is no JSON value, or not finite.
        """
        try:
            told = canonical_json(settings)
        except TypeError as error:
            raise ValueError(f"settings must be plain JSON values: {error}") from error
        digest = hashlib.sha256()
        _digest_into(digest, holdings)
        return cls(
            settings=hashlib.sha256(told).hexdigest(),
            people=digest.hexdigest(),
            code=code_sha256() if code is None else code,
        )

    def to_values(self) -> dict[str, str]:
        """Give plain JSON values."""
        return dict(vars(self))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Fingerprint:
        """Read what `to_values` wrote.

        Raises:
            CheckpointDamagedError: anything else.
        """
        if set(values) != set(_WHAT) or not all(isinstance(each, str) for each in values.values()):
            raise CheckpointDamagedError("a checkpoint's fingerprint does not read")
        return cls(**values)

    def differences(self, other: Fingerprint) -> list[str]:
        """Say in words what differs.

        >>> one = Fingerprint(settings="a", people="b", code="c")
        >>> one.differences(Fingerprint(settings="a", people="x", code="c"))
        ['other people']
        """
        return [
            words for name, words in _WHAT.items() if getattr(self, name) != getattr(other, name)
        ]


def _digest_into(digest: Any, value: Any) -> None:
    """Digest a tree of dataclasses, collections and arrays, arrays piece by piece."""
    if isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype.str} {value.shape}\n".encode())
        flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        for start in range(0, flat.size, _BYTES_AT_A_TIME):
            digest.update(flat[start : start + _BYTES_AT_A_TIME])
        return
    inner = _parts_of(value)
    if inner is None:
        digest.update(f"{value!r}\n".encode())
        return
    digest.update(f"{type(value).__qualname__} {len(inner)}\n".encode())
    for name, each in inner:
        digest.update(f"{name}\n".encode())
        _digest_into(digest, each)


def _parts_of(value: Any) -> list[tuple[str, Any]] | None:
    """Give what a value is made of, in an order of its own; None for a plain one.

    Raises:
        ValueError: a value that has no digest.
    """
    if value is None or isinstance(value, str | bytes | int | float):
        return None
    if is_dataclass(value):
        # What is not given was made of the rest, and comes and goes.
        return [(each.name, getattr(value, each.name)) for each in fields(value) if each.init]
    if isinstance(value, Mapping):
        return [(repr(key), value[key]) for key in sorted(value)]
    if isinstance(value, set | frozenset):
        return [("", each) for each in sorted(value)]
    if isinstance(value, list | tuple):
        return [("", each) for each in value]
    raise ValueError(f"holdings with a {type(value).__name__} have no fingerprint")
