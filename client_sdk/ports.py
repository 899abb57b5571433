"""What an app may plug in. Every port has a fake in `client_sdk.testing`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now_s(self) -> float:
        """Seconds since 1970 (UTC)."""
        ...


class KeyStore(Protocol):
    """Keeps small secrets where the platform keeps them best."""

    def load(self, name: str) -> bytes | None:
        """Return the secret, or None where there is none."""
        ...

    def store(self, name: str, secret: bytes) -> None:
        """Keep the secret, durably, in place of an older one."""
        ...

    def destroy(self, name: str) -> None:
        """Make the secret irrecoverable; nothing happens where there is none."""
        ...


class Connection(Protocol):
    """A way to the aggregator; the SDK's own speaks Flower."""

    def exchange(self, answer: Callable[[bytes], bytes], *, timeout_s: float) -> int:
        """Answer every message that comes within ``timeout_s``; return how many there were."""
        ...


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How the device is at the moment; None is "the platform does not say", which counts as no.

    Attributes:
        idle: Nobody uses the device.
        charging: It has power from outside.
        unmetered: Its network costs nothing by the byte.
        free_bytes: Room left for the app's data.
    """

    idle: bool | None = None
    charging: bool | None = None
    unmetered: bool | None = None
    free_bytes: int | None = None


class DeviceConditions(Protocol):
    """Tells whether the moment is good to work for others: the platform's job scheduler knows."""

    def now(self) -> Conditions:
        """How the device is now."""
        ...
