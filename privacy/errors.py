"""The privacy folder's errors, named by what the caller can do. A caller's mistake is `ValueError`.

No message holds anything about a person.
"""

from __future__ import annotations

from client_sdk.wire import Refusal


class PrivacyError(Exception):
    """Base of every error that this folder, or the ledger, raises on purpose."""


class ContributionRejectedError(PrivacyError):
    """One contribution is not added to the sum; count ``reason`` and go on with the others."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(f"contribution refused: {reason.value}")
        self.reason = reason


class AlreadyReleasedError(PrivacyError):
    """A sum is released once. Start a new task; noise is never drawn twice for one sum."""


class SumOverflowError(PrivacyError):
    """The sum is full: release it, and fold the rest into another task."""


class NoiseSourceError(PrivacyError):
    """The noise is not of the source that the reserved event names. Do not release."""


class NoiseStateError(PrivacyError):
    """The state of a run's noise is damaged, used, or at its end. Restore it; never start anew."""


class EventFormatError(PrivacyError):
    """Stored bytes do not describe a release of a kind that this version can account for."""


class BudgetExhaustedError(PrivacyError):
    """The release would cost more than the population's budget has left. Do not release."""


class AccountantsDisagreeError(PrivacyError):
    """Two accountants contradict each other. State no ε until it is known which one is wrong."""


class PolicyFormatError(PrivacyError):
    """A policy file says something that cannot be so; the message names the line."""


class PolicyUntrustedError(PrivacyError):
    """A policy is unsigned, altered, expired, or of a key that isn't trusted. Run nothing."""


class BudgetMissingError(PrivacyError):
    """No budget was set for the population. Set one; without it nothing is released."""


class ReservationError(PrivacyError):
    """The reservation is unknown, already settled, or already exists for the task."""


class LedgerTamperedError(PrivacyError):
    """The ledger's chain is broken; ``row`` is where. Release nothing until it is explained."""

    def __init__(self, row: int, detail: str) -> None:
        super().__init__(f"ledger row {row}: {detail}; release nothing until this is explained")
        self.row = row
