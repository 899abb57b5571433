"""Federation, the only door out: consent, encoders, the outbound guard, the transparency log.

One bounded vector at a time leaves, after consent, and is written down before it does.
"""

from client_sdk.federation.consent import (
    ConsentAnswer,
    ConsentCentre,
    ConsentState,
    ConsentStatus,
)
from client_sdk.federation.guard import OutboundGuardError, guard
from client_sdk.federation.participant import DeviceState, Participant
from client_sdk.federation.transparency import TransparencyEntry

__all__ = [
    "ConsentAnswer",
    "ConsentCentre",
    "ConsentState",
    "ConsentStatus",
    "DeviceState",
    "OutboundGuardError",
    "Participant",
    "TransparencyEntry",
    "guard",
]
