"""What the app is told about what it asked for."""

from __future__ import annotations

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
    """What became of many events: how many were stored, repeated, or had no consent."""

    stored: int = 0
    duplicates: int = 0
    without_consent: int = 0


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """What an update did: whether another release is active now, and which one (0 for none)."""

    updated: bool
    version: int
