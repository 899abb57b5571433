"""What can go wrong when an arm is made."""

from __future__ import annotations


class ArmError(Exception):
    """An arm cannot be made; the message says what to do."""


class UnknownArmError(ArmError, ValueError):
    """There is no arm of this name."""


class PrivacyNotAskedError(ArmError, ValueError):
    """An arm that spends a privacy budget was asked for without one."""


class LibraryMissingError(ArmError):
    """An arm needs a library that is an extra of this package.

    >>> str(LibraryMissingError("iALS", library="implicit", extra="peers"))
    "iALS needs the library implicit: install 'homebody[peers]'"
    """

    def __init__(self, what: str, *, library: str, extra: str) -> None:
        super().__init__(f"{what} needs the library {library}: install 'homebody[{extra}]'")
