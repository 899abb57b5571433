"""A person's data in an open format: JSON Lines, out and back in, all at once or not at all.

Each line is one JSON object with a ``type``:

| type | is | comes back in |
|---|---|---|
| ``device`` | the pseudonym under which the device answered | no: the new device has its own |
| ``event`` | one thing that the person did | yes, unless its time to be kept is over; once |
| ``preferences`` | what the person set in the preference centre | yes; wishes for less unite |
| ``consent`` | one answer, with its signed receipt | no: a yes counts where it was given |
| ``sent`` | one thing that left that device | no: this device did not send it |
| ``quarantined`` | an event that was refused, and why | no |
| ``decision`` | what was decided, and why | no: it was made with what that device knew |
| ``experiment`` | which arm was shown, and what came of it | no: another device draws anew |
| ``journey`` | where the person is in a journey | no: it begins anew there |
| ``model`` | what a model learned, in parts | no: it learns anew there |

Rules a reader can check line by line:

1. A file is read and checked to its end before anything is taken from it.
2. Anything else than such lines is refused, with the file's name and the line's number.
3. A file is written whole, readable by its owner only, or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from client_sdk.errors import HomebodyError
from client_sdk.experience.decisions import Decision
from client_sdk.experience.preferences import Preferences
from client_sdk.federation.consent_record import ConsentAnswer
from client_sdk.federation.transparency import TransparencyEntry
from client_sdk.signals.events import Event, RejectReason
from client_sdk.signals.quality import Quarantined, Rejected
from client_sdk.signals.vault import Record

MAX_LINE_BYTES: Final = 64 * 1024
MAX_LINES: Final = 2_000_000
LEFT_BEHIND: Final = frozenset(
    {"device", "consent", "sent", "quarantined", "decision", "experiment", "journey", "model"}
)
"""Types of lines that are the person's to see, and not another device's to take over."""


class ArchiveRejectedError(HomebodyError):
    """The file is not an export, or not whole; nothing of it was taken."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What an export has for another device.

    Attributes:
        file: The file's name, without its folder.
        events: The events in their JSON form; not checked yet.
        lines: For each event the number of its line, from 1.
        preferences: What the person had set; None where the export does not say.
        left_behind: How many lines of each type in `LEFT_BEHIND` there are.
    """

    file: str
    events: tuple[Mapping[str, Any], ...]
    lines: tuple[int, ...]
    preferences: Preferences | None
    left_behind: Mapping[str, int]

    def events_to_take(self, rejected: Sequence[Rejected]) -> list[Mapping[str, Any]]:
        """Give the events without those that this device may not keep any more.

        Args:
            rejected: What the intake said of `events`.

        Raises:
            ArchiveRejectedError: an event is not valid; the message names its line.
        """
        too_old = set()
        for one in rejected:
            if one.error.reason is not RejectReason.TOO_OLD:
                raise ArchiveRejectedError(
                    f"{self.file}, line {self.lines[one.position]}: {one.error}; nothing was taken"
                )
            too_old.add(one.position)
        return [event for place, event in enumerate(self.events) if place not in too_old]


def archive_lines(
    *,
    device: str,
    preferences: Preferences,
    events: Iterable[Event],
    quarantined: Iterable[Quarantined],
    answers: Iterable[ConsentAnswer],
    sent: Iterable[TransparencyEntry],
    decisions: Iterable[Decision],
    experiments: Iterable[Record],
    models: Iterable[Mapping[str, Any]],
    journeys: Iterable[Record] = (),
) -> Iterator[dict[str, Any]]:
    """Give everything that is kept about a person as plain JSON, one object a line.

    Args:
        device: The device's pseudonym.
        preferences: What the person set.
        events: What the person did.
        quarantined: What was refused.
        answers: What the person said to each question of consent.
        sent: What left the device.
        decisions: What was decided.
        experiments: The logs of experiments.
        models: What models learned.
        journeys: Where the person is in journeys.
    """
    yield {"type": "device", "device": device}
    yield {"type": "preferences", **preferences.to_json()}
    yield from ({"type": "event", **event.to_json()} for event in events)
    yield from ({"type": "quarantined", **aside.to_json()} for aside in quarantined)
    yield from ({"type": "consent", **answer.to_json()} for answer in answers)
    yield from ({"type": "decision", **decision.to_json()} for decision in decisions)
    yield from ({"type": "experiment", **record.value} for record in experiments)
    yield from ({"type": "journey", **record.value} for record in journeys)
    yield from ({"type": "model", **line} for line in models)
    yield from ({"type": "sent", **entry.to_json(), "in_words": entry.sentence()} for entry in sent)


def read_archive(path: Path) -> Archive:
    """Read what `write_archive` wrote.

    Raises:
        ArchiveRejectedError: the file is no export, is cut off, or a line is not as promised.
        OSError: the file cannot be read.
    """
    events: list[Mapping[str, Any]] = []
    lines: list[int] = []
    preferences: Preferences | None = None
    left_behind: Counter[str] = Counter()
    for number, line in _lines(path):
        kind = line.pop("type", None)
        if kind == "event":
            events.append(line)
            lines.append(number)
        elif kind == "preferences":
            if preferences is not None:
                raise _refused(path, number, "expected preferences once; got them twice")
            try:
                preferences = Preferences.from_json(line)
            except ValueError as error:
                raise _refused(path, number, str(error)) from error
        elif isinstance(kind, str) and kind in LEFT_BEHIND:
            left_behind[kind] += 1
        else:
            known = sorted({"event", "preferences", *LEFT_BEHIND})
            raise _refused(path, number, f"expected a type of {known}; got another one")
    if not left_behind["device"]:
        raise ArchiveRejectedError(
            f"{path.name}: expected an export with a line of type 'device'; got none: "
            "choose a file that an export wrote; nothing was taken"
        )
    return Archive(
        file=path.name,
        events=tuple(events),
        lines=tuple(lines),
        preferences=preferences,
        left_behind=dict(left_behind),
    )


def write_archive(path: Path, lines: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line, readable by the owner only.

    Args:
        path: The file; an older one is replaced only when the new one is complete.
        lines: What to write.

    Returns:
        How many lines there are.

    Raises:
        OSError: it could not be written; ``path`` is as it was.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    count = 0
    try:
        handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        number = 0
        # One byte more than allowed, so that a line that is too long is seen to be.
        while raw := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(raw) > MAX_LINE_BYTES:
                raise _refused(path, number, f"expected at most {MAX_LINE_BYTES} bytes; got more")
            if number > MAX_LINES:
                raise _refused(path, number, f"expected at most {MAX_LINES} lines; got more")
            if not raw.endswith(b"\n"):
                raise _refused(path, number, "expected a whole line; got one that is cut off")
            try:
                value = json.loads(raw)
            except (ValueError, RecursionError) as error:
                raise _refused(path, number, "expected JSON; got something else") from error
            if not isinstance(value, dict):
                raise _refused(path, number, "expected a JSON object; got another value")
            yield number, value


def _refused(path: Path, number: int, problem: str) -> ArchiveRejectedError:
    return ArchiveRejectedError(f"{path.name}, line {number}: {problem}; nothing was taken")
