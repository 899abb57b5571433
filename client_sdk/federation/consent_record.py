"""One answer of the person, and the record of it with the fields of ISO/IEC TS 27560:2023.

Rules a reader can check line by line:

1. A record is made from a signed answer, the current policy, what is true of this SDK for the
   purpose (`_FACTS`), and what the app says of the `Controller`. What nobody stated reads
   ``"not stated"``; nothing is invented.
2. A record holds the signed receipt. `verify_record` refuses one whose signed fields say anything
   else: record and receipt id, principal, policy version and hash, purpose, time, validity, state.
3. Where the policy is still the one that was answered, the record holds all of it, and the hash in
   the receipt vouches for the paragraph. Of an older policy it holds the paragraph alone (as the
   device kept it), without that proof; ``policy`` is then null.
4. What the signature does not cover is the controller's word: the parties, and how is processed.

The names and the four sections (header, PII processing, party identification, event), the receipt's
two fields, and which fields are mandatory are those that the public guide "Consent Records and
Receipts as per ISO/IEC TS 27560:2023 using DPV" (W3C Data Privacy Vocabularies and Controls
Community Group) gives. The text of the standard itself was not read. From no public source could we
confirm: the permitted values of ``event_type``, ``event_state``, ``purpose_type`` and
``party_type`` (ours are plain words), the spelling of the keys of the sections and of
``receipt_metadata``, and whether a refusal has a state of its own (a no is ``"withdrawn"`` here,
also where there was no yes before). ``record_id`` is 128 random bits in hexadecimal; the guide
recommends a UUID. We follow the fields; we do not claim conformance, and nobody certified it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from client_sdk.errors import HomebodyError
from client_sdk.wire import (
    ConsentPolicy,
    ConsentReceipt,
    Purpose,
    WireFormatError,
    WireSignatureError,
    sha256_hex,
)

SCHEMA_VERSION: Final = "homebody-consent-record-1 (fields of ISO/IEC TS 27560:2023)"
NOT_STATED: Final = "not stated"
MAX_STATED_CHARS: Final = 1000
_CONTROLLER_ID: Final = "controller"


class ConsentRecordError(HomebodyError):
    """A record is malformed, or says something else than what was signed; do not rely on it."""


@dataclass(frozen=True, kw_only=True)
class ConsentAnswer:
    """One answer of the person: the receipt, as value and as signed bytes, and what was read."""

    receipt: ConsentReceipt
    signed: bytes
    text: str

    def to_json(self) -> dict[str, Any]:
        """Give the answer as plain JSON, for the vault and for an export."""
        return {**vars(self.receipt), "signed": self.signed.hex(), "text": self.text}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ConsentAnswer:
        """Read what `to_json` wrote; the vault has checked that nobody changed it."""
        fields = {name: value[name] for name in value if name not in ("signed", "text")}
        fields["purpose"] = Purpose(fields["purpose"])
        return cls(
            receipt=ConsentReceipt(**fields),
            signed=bytes.fromhex(value["signed"]),
            text=value["text"],
        )


@dataclass(frozen=True, kw_only=True)
class Controller:
    """Who answers for the processing: the app's operator, in the app's own words.

    Attributes:
        name: The registered name.
        contact: How to reach them about privacy.
        address: Postal address.
        email: E-mail address.
        url: Web address.
        phone: Phone number.
        jurisdiction: Whose law applies, such as ``"EU"`` or ``"DE"``.
        notice_url: Where the privacy notice can be read.
        language: Of the text that was shown, as BCP 47, such as ``"en"``.
        service: What the person uses, such as the name of the app.
        aggregator_location: Where the aggregator adds up what devices send.
        retention_of_sums: How long receipts and sums are kept at the aggregator.
        geographic_restrictions: Where the processing may not take place.
        third_parties: Who else gets what devices send.
        codes_of_conduct: Those that were signed.
        impact_assessment: Where it can be read.
        authority: Whom to complain to.

    Raises:
        ValueError: something that is stated has not 1 to 1000 characters.
    """

    name: str | None = None
    contact: str | None = None
    address: str | None = None
    email: str | None = None
    url: str | None = None
    phone: str | None = None
    jurisdiction: str | None = None
    notice_url: str | None = None
    language: str | None = None
    service: str | None = None
    aggregator_location: str | None = None
    retention_of_sums: str | None = None
    geographic_restrictions: str | None = None
    third_parties: str | None = None
    codes_of_conduct: str | None = None
    impact_assessment: str | None = None
    authority: str | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is None:
                continue
            if not isinstance(value, str) or not 1 <= len(value) <= MAX_STATED_CHARS:
                raise ValueError(
                    f"{name}: expected 1 to {MAX_STATED_CHARS} characters, or None where it is not "
                    "stated; got something else"
                )

    def stated(self, name: str) -> str:
        """What is stated under a name, or ``"not stated"``."""
        value: str | None = getattr(self, name)
        return NOT_STATED if value is None else value


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What is true of this SDK for one purpose; ``leaves`` says whether anything is sent."""

    purpose_type: str
    leaves: bool
    pii_types: tuple[str, ...]
    collection_method: str
    processing_method: str


_PSEUDONYM: Final = "the device's pseudonym (a public key) and the signed consent receipt"
_VECTOR: Final = (
    "{}. The vector's length is bounded; it is sent signed to the aggregator, which sees it before "
    "it adds it to those of other devices; noise is added to the sum before the sum is used"
)
_FACTS: Final[Mapping[Purpose, _Facts]] = {
    Purpose.PERSONALISE: _Facts(
        purpose_type="personalisation on the device",
        leaves=False,
        pii_types=(
            (
                "what the person does in the app: kind of act, item, time, quantity, price, and "
                "further facts that the app records with it"
            ),
            "what is computed from it on the device",
        ),
        collection_method="recorded on the device by the app when the person acts",
        processing_method=(
            "automated, on the device alone: what the app shows is sorted by what the person did"
        ),
    ),
    Purpose.TRAIN: _Facts(
        purpose_type="improvement of suggestions for everyone",
        leaves=True,
        pii_types=(
            (
                "one vector a task, computed on the device from the history of items; one of item "
                "statistics shows which of the top items are in it"
            ),
            _PSEUDONYM,
        ),
        collection_method="computed on the device when the trusted aggregator's signed order asks",
        processing_method=_VECTOR.format(
            "automated: which items go together, or small changes to the item model"
        ),
    ),
    Purpose.STATISTICS: _Facts(
        purpose_type="statistics",
        leaves=True,
        pii_types=(
            "one vector a task, with a bounded count for each item of the history",
            _PSEUDONYM,
        ),
        collection_method="computed on the device when the trusted aggregator's signed order asks",
        processing_method=_VECTOR.format("automated: counts of items"),
    ),
}


def consent_record(
    answer: ConsentAnswer, policy: ConsentPolicy, controller: Controller | None = None
) -> dict[str, Any]:
    """Write one answer down with the fields of ISO/IEC TS 27560.

    Args:
        answer: What the person answered, with its signed receipt.
        policy: The current text; the record says whether it is the one that was answered.
        controller: Who answers for the processing; "not stated" by default.

    Returns:
        Plain JSON; `verify_record` reads it.
    """
    receipt = answer.receipt
    said = controller or Controller()
    answered = policy.sha256 == receipt.policy_sha256
    return {
        "schema_version": SCHEMA_VERSION,
        "record_id": receipt.receipt_id,
        "pii_principal_id": receipt.device,
        "pii_processing": {
            "privacy_notice": {
                "uri": said.stated("notice_url"),
                "version": receipt.policy_version,
                "policy_sha256": receipt.policy_sha256,
                "text": answer.text,
                "is_current": answered,
                "policy": policy.to_bytes().decode() if answered else None,
            },
            "language": said.stated("language"),
            "purposes": [_purpose(receipt.purpose, said)],
        },
        "party_identification": [
            {
                "party_id": _CONTROLLER_ID,
                "party_name": said.stated("name"),
                "party_role": "pii controller",
                "party_type": "operator of the app",
                "party_address": said.stated("address"),
                "party_contact": said.stated("contact"),
                "party_email": said.stated("email"),
                "party_url": said.stated("url"),
                "party_phone": said.stated("phone"),
            }
        ],
        "event": [_event(receipt)],
        "receipt_metadata": {
            "schema_version": SCHEMA_VERSION,
            "receipt_id": receipt.receipt_id,
            "signature": "Ed25519, with the device's key, over the whole receipt",
            "signed_receipt": answer.signed.hex(),
        },
    }


def verify_record(record: Mapping[str, Any]) -> ConsentReceipt:
    """Check a record against the receipt in it, and give that receipt.

    That the device is who it should be, that the answer still counts, and that no later one was
    given, is for the caller to check.

    Raises:
        ConsentRecordError: malformed, not signed by the device that it names, or a field that the
            signature covers says something else.
    """
    try:
        signed = bytes.fromhex(record["receipt_metadata"]["signed_receipt"])
        receipt = ConsentReceipt.from_bytes(signed)
        processing = record["pii_processing"]
        notice = processing["privacy_notice"]
        (purpose,) = processing["purposes"]
        (event,) = record["event"]
        said = {
            "record_id": (record["record_id"], receipt.receipt_id),
            "receipt_id": (record["receipt_metadata"]["receipt_id"], receipt.receipt_id),
            "pii_principal_id": (record["pii_principal_id"], receipt.device),
            "version": (notice["version"], receipt.policy_version),
            "policy_sha256": (notice["policy_sha256"], receipt.policy_sha256),
            "text": (notice["text"], _proven_text(notice, receipt)),
            "purpose": (purpose["purpose"], receipt.purpose.value),
            "event": (event, _event(receipt)),
        }
    except (WireFormatError, WireSignatureError) as error:
        raise ConsentRecordError(f"the record's receipt is not good: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ConsentRecordError(
            "expected a consent record with one purpose, one event and a signed receipt; got "
            "another value"
        ) from error
    for name, (stated, meant) in said.items():
        if stated != meant:
            raise ConsentRecordError(
                f"{name}: expected what was signed; got something else: the record was changed"
            )
    return receipt


def _proven_text(notice: Mapping[str, Any], receipt: ConsentReceipt) -> object:
    """The paragraph that the signed hash vouches for; without the policy, the one that is said."""
    policy = notice["policy"]
    if policy is None:
        return notice["text"]
    if sha256_hex(policy.encode()) != receipt.policy_sha256:
        raise ConsentRecordError("policy: expected the text that was answered; got another one")
    return ConsentPolicy.from_bytes(policy.encode()).texts[receipt.purpose]


def _event(receipt: ConsentReceipt) -> dict[str, str]:
    issued = datetime.fromtimestamp(receipt.issued_at_s, tz=UTC)
    valid_s = receipt.expires_at_s - receipt.issued_at_s
    days, seconds = divmod(valid_s, 24 * 3600)
    validity = f"PT{valid_s}S" if seconds else f"P{days}D"
    return {
        "event_time": issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "validity_duration": validity if receipt.granted else "until the next answer",
        "entity_id": receipt.device,
        "event_type": "explicit",
        "event_state": "given" if receipt.granted else "withdrawn",
    }


def _purpose(purpose: Purpose, said: Controller) -> dict[str, Any]:
    facts = _FACTS[purpose]
    here = "the person's device"
    at_home = f"{here}, in an encrypted store whose key is in the platform's key store"
    away = f"the aggregator: {said.stated('aggregator_location')}"
    stays = "as long as the app keeps it, at the longest until the person erases it"
    at_aggregator = f"at the aggregator: {said.stated('retention_of_sums')}"
    return {
        "purpose": purpose.value,
        "purpose_type": facts.purpose_type,
        "lawful_basis": "consent",
        "pii_information": [
            {"pii_type": pii_type, "pii_optional": True} for pii_type in facts.pii_types
        ],
        "pii_controllers": [_CONTROLLER_ID],
        "collection_method": facts.collection_method,
        "processing_method": facts.processing_method,
        "storage_locations": [at_home, away] if facts.leaves else [at_home],
        "retention_period": f"{stays}; {at_aggregator}" if facts.leaves else stays,
        "processing_locations": [here, away] if facts.leaves else [here],
        "geographic_restrictions": (
            said.stated("geographic_restrictions")
            if facts.leaves
            else "nothing leaves the device for this purpose"
        ),
        "service": said.stated("service"),
        "jurisdiction": said.stated("jurisdiction"),
        "recipient_third_parties": [said.stated("third_parties")] if facts.leaves else [],
        "withdrawal_method": (
            "in the app's consent centre, at any time; it counts on the device from the next use on"
        ),
        "privacy_rights": [
            "withdraw consent",
            "pause",
            "see what is kept, and what was sent",
            "export",
            "erase",
        ],
        "codes_of_conduct": said.stated("codes_of_conduct"),
        "impact_assessment": said.stated("impact_assessment"),
        "authority_party": said.stated("authority"),
    }
