"""The edge of this room: results go to disk whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_PRIVATE: tuple[str, ...] = ("example",)


class OutputError(ValueError):
    """A result cannot be written where it was asked for; choose another place."""


def check_writable(*, json_path: Path | None, folder: Path | None) -> None:
    """Find out, before long work, whether the results can be written; leaves nothing behind.

    Args:
        json_path: The JSON file; its folder must exist, or be the report's.
        folder: The report's folder; it is made later where it does not exist.

    Raises:
        OutputError: when a place is not a file or folder, or cannot be written to.
    """
    if json_path is not None:
        if json_path.exists() and not json_path.is_file():
            raise OutputError(f"{json_path} is not a file; expected a file name for the JSON")
        if json_path.parent != folder:
            if not json_path.parent.is_dir():
                raise OutputError(f"the folder {json_path.parent} does not exist")
            _probe(json_path.parent)
    if folder is not None:
        existing = folder
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise OutputError(f"{existing} is not a folder; expected a folder for the report")
        _probe(existing)


def write_results(
    result: Mapping[str, Any], *, json_path: Path | None, report_path: Path | None
) -> list[Path]:
    """Write the JSON and the HTML page that were asked for.

    Args:
        result: What a run found.
        json_path: Where the JSON goes; the example, one person's list, stays out of it.
        report_path: Where the page goes; its folder is made.

    Returns:
        What was written.

    Raises:
        OutputError: when writing fails; a file that was there before is then unchanged.
    """
    texts: list[tuple[Path, str]] = []
    if json_path is not None:
        public = {key: value for key, value in result.items() if key not in _PRIVATE}
        texts.append((json_path, _as_json(public)))
    if report_path is not None:
        from simulations.report.page import render_page

        texts.append((report_path, render_page(result)))
    for path, text in texts:
        write_whole(path, text)
    return [path for path, _ in texts]


def write_plain(value: Any, path: Path) -> None:
    """Write plain values as JSON.

    Raises:
        OutputError: when writing fails; a file that was there before is then unchanged.
    """
    write_whole(path, _as_json(value))


def _as_json(value: Any) -> str:
    return json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_plain(value: Any) -> Any:
    """Turn numpy's numbers, tuples and paths into JSON values; what is not finite becomes null.

    Example:
        >>> to_plain({"a": (np.float32(0.5), float("nan"))})
        {'a': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _probe(folder: Path) -> None:
    """Try to make a file; permission bits alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {folder} ({error.strerror})") from error


def write_whole(path: Path, text: str) -> None:
    """Write beside the target and move into place; the target's folder is made.

    Raises:
        OutputError: when writing fails; a file that was there before is then unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror})") from error
    beside = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        beside.chmod(0o644)
        beside.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror})") from error
    finally:
        beside.unlink(missing_ok=True)
