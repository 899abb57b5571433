"""The consent record: every field is there, what is signed holds, and nothing is invented."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk import Homebody, Purpose
from client_sdk.federation.consent_record import (
    NOT_STATED,
    ConsentAnswer,
    ConsentRecordError,
    Controller,
    consent_record,
    verify_record,
)
from client_sdk.keys import DeviceKey
from client_sdk.wire import DEFAULT_POLICY, ConsentReceipt

OpenHome = Callable[..., Homebody]

KEY = DeviceKey(bytes(range(32)))
LATER = replace(DEFAULT_POLICY, version="2")
SHOP = Controller(
    name="Example Shop Ltd",
    contact="privacy officer",
    jurisdiction="EU",
    notice_url="https://shop.example/privacy",
    language="en",
    aggregator_location="Ireland",
)
PROCESSING = {
    "purpose",
    "purpose_type",
    "lawful_basis",
    "pii_information",
    "pii_controllers",
    "collection_method",
    "processing_method",
    "storage_locations",
    "retention_period",
    "processing_locations",
    "geographic_restrictions",
    "service",
    "jurisdiction",
    "recipient_third_parties",
    "withdrawal_method",
    "privacy_rights",
    "codes_of_conduct",
    "impact_assessment",
    "authority_party",
}
PARTY = {
    "party_id",
    "party_name",
    "party_role",
    "party_type",
    "party_address",
    "party_contact",
    "party_email",
    "party_url",
    "party_phone",
}
EVENT = {"event_time", "validity_duration", "entity_id", "event_type", "event_state"}


def an_answer(purpose: Purpose = Purpose.TRAIN, **changes: Any) -> ConsentAnswer:
    """A yes, signed by the device."""
    fields: dict[str, Any] = {
        "receipt_id": "ab" * 16,
        "device": KEY.public_key_hex,
        "purpose": purpose,
        "granted": True,
        "policy_version": DEFAULT_POLICY.version,
        "policy_sha256": DEFAULT_POLICY.sha256,
        "issued_at_s": 1_800_000_000,
        "expires_at_s": 1_800_000_000 + 365 * 24 * 3600,
        **changes,
    }
    receipt = ConsentReceipt(**fields)
    return ConsentAnswer(
        receipt=receipt, signed=receipt.to_bytes(KEY), text=DEFAULT_POLICY.texts[purpose]
    )


def a_record(purpose: Purpose = Purpose.TRAIN, **changes: Any) -> dict[str, Any]:
    """The record of it."""
    return consent_record(an_answer(purpose, **changes), DEFAULT_POLICY, SHOP)


@pytest.mark.parametrize("purpose", list(Purpose))
def test_record_has_the_fields_of_the_technical_specification(purpose: Purpose) -> None:
    """Four sections, each field by its name, whatever the purpose."""
    record = a_record(purpose)
    assert {"schema_version", "record_id", "pii_principal_id"} < set(record)
    processing = record["pii_processing"]
    assert {"privacy_notice", "language", "purposes"} == set(processing)
    (only,) = processing["purposes"]
    assert set(only) == PROCESSING
    assert all("pii_type" in pii for pii in only["pii_information"])
    (party,) = record["party_identification"]
    assert set(party) == PARTY
    assert only["pii_controllers"] == [party["party_id"]]
    (event,) = record["event"]
    assert set(event) == EVENT
    assert {"schema_version", "receipt_id"} < set(record["receipt_metadata"])
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_record_says_when_what_and_for_how_long() -> None:
    """Time, validity and state are the receipt's; a no has no end."""
    (event,) = a_record()["event"]
    assert event["event_time"] == "2027-01-15T08:00:00Z"
    assert (event["validity_duration"], event["event_state"]) == ("P365D", "given")
    (event,) = a_record(expires_at_s=1_800_000_090)["event"]
    assert event["validity_duration"] == "PT90S"
    (event,) = a_record(granted=False)["event"]
    assert event["validity_duration"] == "until the next answer"
    assert event["event_state"] == "withdrawn"


def test_record_without_a_controller_says_not_stated() -> None:
    """Nothing that nobody said is made up."""
    record = consent_record(an_answer(), DEFAULT_POLICY)
    (party,) = record["party_identification"]
    stated = {"party_id", "party_role", "party_type"}
    assert {party[name] for name in PARTY - stated} == {NOT_STATED}
    (only,) = record["pii_processing"]["purposes"]
    assert only["jurisdiction"] == only["authority_party"] == NOT_STATED
    assert only["recipient_third_parties"] == [NOT_STATED]
    assert record["pii_processing"]["language"] == NOT_STATED
    assert a_record()["pii_processing"]["purposes"][0]["jurisdiction"] == "EU"


def test_record_of_personalisation_says_that_nothing_leaves() -> None:
    """Only what goes to the aggregator names it."""
    (only,) = a_record(Purpose.PERSONALISE)["pii_processing"]["purposes"]
    assert only["recipient_third_parties"] == []
    assert "aggregator" not in json.dumps(only)
    (only,) = a_record(Purpose.STATISTICS)["pii_processing"]["purposes"]
    assert only["processing_locations"][1] == "the aggregator: Ireland"


@pytest.mark.parametrize("value", ["", "x" * 1001, 5])
def test_controller_with_a_bad_field_raises(value: Any) -> None:
    """What is stated is a text of bounded size."""
    with pytest.raises(ValueError, match="jurisdiction: expected"):
        Controller(jurisdiction=value)


def test_verify_record_gives_the_receipt() -> None:
    """What was written is read back, after a round through JSON too."""
    record = json.loads(json.dumps(a_record()))
    assert verify_record(record) == an_answer().receipt
    older = consent_record(an_answer(), LATER, SHOP)
    assert older["pii_processing"]["privacy_notice"]["is_current"] is False
    assert older["pii_processing"]["privacy_notice"]["policy"] is None
    assert verify_record(older) == an_answer().receipt


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("record_id",), "cd" * 16),
        (("pii_principal_id",), "00" * 32),
        (("pii_processing", "privacy_notice", "version"), "2"),
        (("pii_processing", "privacy_notice", "policy_sha256"), "0" * 64),
        (("pii_processing", "privacy_notice", "text"), "You agreed to everything."),
        (("pii_processing", "privacy_notice", "policy"), LATER.to_bytes().decode()),
        (("pii_processing", "privacy_notice", "policy"), 5),
        (("pii_processing", "purposes", 0, "purpose"), "statistics"),
        (("pii_processing", "purposes"), []),
        (("pii_processing", "purposes"), [{"purpose": "train"}, {"purpose": "statistics"}]),
        (("event", 0, "event_time"), "2027-01-15T08:00:01Z"),
        (("event", 0, "validity_duration"), "P3650D"),
        (("event", 0, "entity_id"), "someone"),
        (("event", 0, "event_type"), "implicit"),
        (("event", 0, "event_state"), "withdrawn"),
        (("event",), []),
        (("receipt_metadata", "receipt_id"), "cd" * 16),
        (("receipt_metadata", "signed_receipt"), ""),
        (("receipt_metadata", "signed_receipt"), "zz"),
        (("receipt_metadata", "signed_receipt"), None),
        (("receipt_metadata",), None),
        (("pii_processing",), []),
    ],
)
def test_verify_record_that_was_changed_raises(path: tuple[Any, ...], value: Any) -> None:
    """Each field that the signature covers is held against it."""
    record = copy.deepcopy(a_record())
    place: Any = record
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ConsentRecordError):
        verify_record(record)


@given(st.integers(0, 2000), st.integers(1, 255))
def test_verify_record_with_a_changed_receipt_raises(position: int, flip: int) -> None:
    """No byte of the signed receipt can be another one."""
    record = a_record()
    signed = bytearray.fromhex(record["receipt_metadata"]["signed_receipt"])
    signed[position % len(signed)] ^= flip
    record["receipt_metadata"]["signed_receipt"] = signed.hex()
    with pytest.raises(ConsentRecordError):
        verify_record(record)


@pytest.mark.parametrize("issued_at_s", [10**30, -(10**15)])
def test_verify_record_with_an_impossible_time_raises(issued_at_s: int) -> None:
    """A receipt that somebody signed with no time that there is has no record."""
    record = a_record()
    hostile = an_answer(issued_at_s=issued_at_s)
    record["receipt_metadata"]["signed_receipt"] = hostile.signed.hex()
    with pytest.raises(ConsentRecordError):
        verify_record(record)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=10,
    )
)
def test_verify_record_of_anything_else_raises(value: Any) -> None:
    """Whatever comes, the answer is one clear refusal."""
    with pytest.raises(ConsentRecordError):
        verify_record(value)


def test_centre_gives_a_record_for_each_answer(open_home: OpenHome) -> None:
    """Grants and withdrawals, oldest first, each with its own receipt."""
    consent = open_home().consent
    consent.grant("train", "statistics")
    consent.withdraw("train")
    records = consent.records(SHOP)
    assert [verify_record(record) for record in records] == [
        answer.receipt for answer in consent.history()
    ]
    assert [record["event"][0]["event_state"] for record in records] == [
        "given",
        "given",
        "withdrawn",
    ]
    assert records[0]["party_identification"][0]["party_name"] == "Example Shop Ltd"
    assert consent.records()[0]["party_identification"][0]["party_name"] == NOT_STATED
