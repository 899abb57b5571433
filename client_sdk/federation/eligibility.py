"""Whether this is a moment, and a device, to work for others: conditions in, reason out.

Rules a reader can check line by line; the first that fails is the reason.

1. The device is idle (`NOT_IDLE`), charging (`NOT_CHARGING`), and on a network that costs nothing
   by the byte (`METERED`), each where the rules ask for it.
2. There is room (`LOW_STORAGE`).
3. What the platform does not say, and a platform that fails, count as no.
4. An app that plugs in no `client_sdk.ports.DeviceConditions` has taken the choice of the moment
   upon itself: it calls `Homebody.participate` when it suits. Then only the minimum of data counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from client_sdk.ports import Conditions, DeviceConditions
from client_sdk.wire import Refusal


@dataclass(frozen=True, kw_only=True)
class EligibilityRules:
    """When a device takes part.

    Attributes:
        idle: Only while nobody uses it.
        charging: Only with power from outside.
        unmetered: Only on a network that costs nothing by the byte.
        min_free_bytes: Only with so much room left; 0 does not ask.
        min_items: Only with so many items in the history, at least 1.
    """

    idle: bool = True
    charging: bool = True
    unmetered: bool = True
    min_free_bytes: int = 64 * 1024 * 1024
    min_items: int = 1

    def __post_init__(self) -> None:
        if self.min_free_bytes < 0 or self.min_items < 1:
            raise ValueError("min_free_bytes must be at least 0 and min_items at least 1")


def refusal_of(conditions: Conditions, rules: EligibilityRules) -> Refusal | None:
    """Say why not now, or None.

    >>> fine = Conditions(idle=True, charging=True, unmetered=True, free_bytes=2**30)
    >>> refusal_of(fine, EligibilityRules()) is None
    True
    >>> refusal_of(Conditions(idle=True), EligibilityRules()).value
    'not-charging'
    """
    if rules.idle and conditions.idle is not True:
        return Refusal.NOT_IDLE
    if rules.charging and conditions.charging is not True:
        return Refusal.NOT_CHARGING
    if rules.unmetered and conditions.unmetered is not True:
        return Refusal.METERED
    if rules.min_free_bytes and (conditions.free_bytes or 0) < rules.min_free_bytes:
        return Refusal.LOW_STORAGE
    return None


def conditions_now(port: DeviceConditions) -> Conditions:
    """Ask the platform; one that fails has said nothing, and so no."""
    try:
        return port.now()
    except Exception:  # noqa: BLE001 - rule 3: whatever a platform's adapter raises
        return Conditions()
