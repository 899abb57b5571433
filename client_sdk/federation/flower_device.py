"""The Flower side of a device: one frame in, one frame out.

This is the only file of the SDK that touches Flower, and it is loaded on use (seconds, tens of MB).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flwr.app import ConfigRecord, Error, Message, RecordDict

RECORD: Final = "homebody"
FIELD: Final = "frame"
UNREADABLE_CODE: Final = 100
_UNREADABLE: Final = Error(UNREADABLE_CODE, "homebody: not a frame")

Answer = Callable[[bytes], bytes | None]


def handle_message(answer: Answer, message: Message) -> Message | None:
    """Hand the frame in ``message`` to the device's pinned code, and wrap what it says.

    Args:
        answer: `Participant.answer`, or anything that takes and gives a frame; None is silence.
        message: What came from the grid.

    Returns:
        The reply; an error reply with a fixed text where the message holds no frame, or None where
        the device stays silent.
    """
    frame = _frame_of(message)
    if frame is None:
        return Message(_UNREADABLE, reply_to=message)
    said = answer(frame)
    if said is None:
        return None
    return Message(RecordDict({RECORD: ConfigRecord({FIELD: said})}), reply_to=message)


def _frame_of(message: Message) -> bytes | None:
    if not message.has_content() or len(message.content) != 1:
        return None
    record = message.content.config_records.get(RECORD)
    frame = None if record is None or len(record) != 1 else record.get(FIELD)
    return frame if isinstance(frame, bytes) else None
