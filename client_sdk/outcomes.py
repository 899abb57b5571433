"""What the app is told about what it asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

STORED: Final = "stored"
NO_CONSENT: Final = "not stored: no consent"
DUPLICATE: Final = "not stored: this event id is already here"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracked:
    """What became of one event: whether it was stored, and in words why (not)."""

    stored: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class TrackedMany:
    """What became of many events.

    Attributes:
        stored: Kept.
        duplicates: Not kept: their id was already here.
        without_consent: Not kept: no consent to personalise, or a pause.
        rejected: Set aside: not valid.
    """

    stored: int = 0
    duplicates: int = 0
    without_consent: int = 0
    rejected: int = 0


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import took.

    Attributes:
        events: New ones.
        duplicates: Those that were here already.
        expired: Those whose time to be kept is over.
        left_behind: Lines that another device does not take over, by type.
    """

    events: int
    duplicates: int
    expired: int
    left_behind: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """What an update did: whether another release is active now, and which one (0 for none)."""

    updated: bool
    version: int
