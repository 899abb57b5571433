"""The moment in which features are read: the local time, the kind of device, the coarse region.

Rules a reader can check line by line:

1. The app says them; nothing here asks the operating system or the network.
2. Both lists are closed and short, so neither can point at a person; what is not said is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEVICES: Final = ("mobile", "tablet", "desktop", "television", "watch", "other")
REGIONS: Final = (
    "africa",
    "antarctica",
    "asia",
    "europe",
    "north america",
    "oceania",
    "south america",
)
_FARTHEST_S: Final = 15 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Where and on what the person is now.

    Attributes:
        utc_offset_s: Local time minus UTC, seconds, within 15 hours; None for unknown.
        device: One of `DEVICES`, or empty for unknown.
        region: One of `REGIONS`, or empty for unknown.

    Raises:
        ValueError: another value.
    """

    utc_offset_s: int | None = None
    device: str = ""
    region: str = ""

    def __post_init__(self) -> None:
        offset = self.utc_offset_s
        if offset is not None and not (type(offset) is int and abs(offset) <= _FARTHEST_S):
            raise ValueError("utc_offset_s: expected whole seconds within 15 hours; got another")
        if self.device not in ("", *DEVICES):
            raise ValueError(f"device: expected one of {DEVICES} or nothing; got another word")
        if self.region not in ("", *REGIONS):
            raise ValueError(f"region: expected one of {REGIONS} or nothing; got another word")
