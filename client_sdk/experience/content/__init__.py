"""Content: what can be said, filled with what the person allowed, and guarded where generated."""

from client_sdk.experience.content.claims import (
    BANNED,
    FINANCIAL_PROMISES,
    MEDICAL_CLAIMS,
    OFFERS,
    PRESSURE,
    Claim,
)
from client_sdk.experience.content.copywriter import Copy, CopyDesk, Copywriter, brief_for, compose
from client_sdk.experience.content.guard import Brief, CopyGuard, Objection, Tone
from client_sdk.experience.content.slots import SlotRule
from client_sdk.experience.content.usable import Usable
from client_sdk.experience.content.variants import (
    ContentLibrary,
    Variant,
    Written,
    content_schema,
)
from client_sdk.experience.toml_file import FileMistakeError

__all__ = [
    "BANNED",
    "FINANCIAL_PROMISES",
    "MEDICAL_CLAIMS",
    "OFFERS",
    "PRESSURE",
    "Brief",
    "Claim",
    "ContentLibrary",
    "Copy",
    "CopyDesk",
    "CopyGuard",
    "Copywriter",
    "FileMistakeError",
    "Objection",
    "SlotRule",
    "Tone",
    "Usable",
    "Variant",
    "Written",
    "brief_for",
    "compose",
    "content_schema",
]
