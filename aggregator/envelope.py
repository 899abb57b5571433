"""One frame in one Flower message, on the server's side.

A message holds one record with one field. The device's side is
`client_sdk.federation.flower_device`; the two names are the whole agreement between them.
"""

from __future__ import annotations

from typing import Final

from flwr.app import ConfigRecord, Message, RecordDict

RECORD: Final = "homebody"
FIELD: Final = "frame"

# Flower's own codes for "the message, its reply or its node is gone" (flwr 1.41, ErrorCode).
UNAVAILABLE_CODES: Final = frozenset({3, 4, 5})
SUPERLINK_NODE_ID: Final = 1


def content_of(frame: bytes) -> RecordDict:
    """Wrap a frame."""
    return RecordDict({RECORD: ConfigRecord({FIELD: frame})})


def frame_of(reply: Message) -> bytes | None:
    """Take the one field of the one record, or None where the reply is anything else."""
    content = reply.content
    record = content.config_records.get(RECORD)
    if record is None or len(content) != 1 or len(record) != 1:
        return None
    frame = record.get(FIELD)
    return frame if isinstance(frame, bytes) else None


def is_from(reply: Message, node_id: int) -> bool:
    """Say whether a reply comes from the node, or is the SuperLink's own word about it."""
    source = reply.metadata.src_node_id
    return source == node_id or (reply.has_error() and source == SUPERLINK_NODE_ID)


def says_unavailable(reply: Message) -> bool:
    """Say whether an error reply means that nobody answered."""
    return reply.error.code in UNAVAILABLE_CODES
