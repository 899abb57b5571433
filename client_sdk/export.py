"""A person's data in an open format: JSON Lines, written all at once or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from client_sdk.federation.consent import ConsentAnswer
from client_sdk.federation.transparency import TransparencyEntry
from client_sdk.signals.events import Event


def export_lines(
    *,
    device: str,
    events: Iterable[Event],
    answers: Iterable[ConsentAnswer],
    sent: Iterable[TransparencyEntry],
) -> list[dict[str, Any]]:
    """Give everything that is kept about a person as plain JSON, one object a line.

    Args:
        device: The device's pseudonym.
        events: What the person did.
        answers: What the person said to each question of consent.
        sent: What left the device.
    """
    return [
        {"type": "device", "device": device},
        *({"type": "event", **event.to_json()} for event in events),
        *({"type": "consent", **answer.to_json()} for answer in answers),
        *({"type": "sent", **entry.to_json(), "in_words": entry.sentence()} for entry in sent),
    ]


def write_export(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, readable by the owner only.

    Args:
        path: The file; an older one is replaced only when the new one is complete.
        lines: What to write.

    Raises:
        OSError: it could not be written; ``path`` is as it was.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
