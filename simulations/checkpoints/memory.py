"""What simulated people remember, as plain values and arrays: everything that asking them changes.

Rules a reader can check line by line:

1. Every field of a `simulations.engines.crowd.Crowd` is either one of `SETTINGS`, which nobody
   changes and which the fingerprint stands for, or memory, which is written down whole. A field
   that is added is memory by itself.
2. Memory is numbers, texts, arrays, dictionaries by text, and dataclasses of these. Anything else
   is a `TypeError` when it is written: what can't be put back is not saved.
3. What is put back replaces what is there; a field more or less is `CheckpointDamagedError`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulations.checkpoints.errors import CheckpointDamagedError
from simulations.engines.crowd import Crowd

SETTINGS: Final = ("holdings", "names", "clock", "circumstances")
_OURS: Final = ("simulations.", "client_sdk.")
_PREFIX: Final = "crowd"

Arrays = dict[str, NDArray[Any]]


def written_down(crowd: Crowd) -> tuple[dict[str, Any], Arrays]:
    """Give what a crowd remembers, as plain JSON values and arrays.

    Raises:
        TypeError: the crowd remembers something of a kind that can't be put back.
    """
    arrays: Arrays = {}
    values = {
        each.name: _written(getattr(crowd, each.name), f"{_PREFIX}.{each.name}", arrays)
        for each in fields(crowd)
        if each.name not in SETTINGS
    }
    return values, arrays


def put_back(crowd: Crowd, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Make a crowd remember what `written_down` gave.

    Raises:
        CheckpointDamagedError: it is not of such a crowd.
    """
    memory = {each.name for each in fields(crowd)} - set(SETTINGS)
    if set(values) != memory:
        raise CheckpointDamagedError("the checkpoint remembers other things than these people do")
    try:
        found = {name: _read(value, arrays) for name, value in values.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointDamagedError("what people remember does not read") from error
    for name, value in found.items():
        setattr(crowd, name, value)


def _written(value: Any, path: str, arrays: Arrays) -> Any:
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{path}: only dictionaries by text can be put back")
        return {"by": {key: _written(each, f"{path}.{key}", arrays) for key, each in value.items()}}
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        if not kind.__module__.startswith(_OURS):
            raise TypeError(f"{path}: {kind.__name__} can't be put back")
        return {
            "of": [kind.__module__, kind.__qualname__],
            "fields": {
                each.name: _written(getattr(value, each.name), f"{path}.{each.name}", arrays)
                for each in fields(value)
            },
        }
    if value is None or type(value) in (bool, int, float, str):
        return {"value": value}
    raise TypeError(f"{path}: {type(value).__name__} can't be put back")


def _read(told: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Any:
    if "value" in told:
        return told["value"]
    if "array" in told:
        return arrays[told["array"]].copy()
    if "by" in told:
        return {key: _read(each, arrays) for key, each in told["by"].items()}
    module, name = told["of"]
    kind = getattr(sys.modules[module], name) if module.startswith(_OURS) else None
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise ValueError(f"{module}.{name} is no memory of ours")
    return kind(**{key: _read(each, arrays) for key, each in told["fields"].items()})
