"""Admission: every rule of the module docstring, one row each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.admission import CLOCK_SKEW_S, Admission, Standing, Verdict, supersedes
from client_sdk.wire import (
    Acceptance,
    ConsentReceipt,
    Declined,
    Order,
    Purpose,
    Refusal,
    SparseVector,
    TaskKind,
    sha256_hex,
)
from simulations.scripted import EARLIER_TASK, EXPECTED, Behaviour, ScriptedDevice, SoftwareKey

NOW_S = 1_800_000_000
NODE = 7
ORDER = Order(
    task_id="1" * 32,
    kind=TaskKind.ITEM_STATISTICS,
    population="tests",
    round=0,
    policy_sha256="2" * 64,
    catalogue_sha256="3" * 64,
    dimension=4,
    clip_norm=1.0,
    closes_at_s=NOW_S + 60,
    promise={},
    parameters={},
    payload_sha256=sha256_hex(b""),
)
KEY = SoftwareKey()
INVITATION = ORDER.to_invitation_bytes(KEY)
ORDER_FRAME = ORDER.to_bytes(KEY)


class MemoryConsents:
    """The registry's port, in memory."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, Purpose], ConsentReceipt] = {}

    def record(self, receipt: ConsentReceipt, frame: bytes) -> None:
        """Keep the receipt if the production rule says that it supersedes the one held."""
        key = receipt.device, receipt.purpose
        if key not in self.held or supersedes(receipt, self.held[key]):
            self.held[key] = receipt

    def standing(self, device: str, purpose: Purpose) -> Standing | None:
        """Give the latest answer for one purpose, or None where the device never gave one."""
        held = self.held.get((device, purpose))
        if held is None:
            return None
        return Standing(granted=held.granted, issued_at_s=held.issued_at_s)


def device_that(behaviour: Behaviour = Behaviour.HONEST, *, said_yes_s: int = -10):
    """Give a consenting device that holds a dense unit vector and behaves as told."""
    return ScriptedDevice(
        vector=SparseVector.from_dense(np.array([0.6, 0.0, 0.0, 0.8], np.float32)),
        consented_at_s=NOW_S + said_yes_s,
        behaviour=behaviour,
    )


def admission_of(*devices: ScriptedDevice, now_s: float = NOW_S, **options) -> Admission:
    """Give the admission to `ORDER`, with the devices enrolled on consecutive nodes from `NODE`."""
    return Admission(
        order=ORDER,
        directory={NODE + number: device.public_key_hex for number, device in enumerate(devices)},
        consents=options.pop("consents", MemoryConsents()),
        clock=lambda: now_s,
        earlier_tasks=frozenset({EARLIER_TASK}),
        **options,
    )


def receipt_of(device: ScriptedDevice, **changes) -> bytes:
    """Give a valid, signed receipt of the device, except for the fields that a test changes."""
    receipt = ConsentReceipt(
        receipt_id="4" * 32,
        device=device.public_key_hex,
        purpose=Purpose.TRAIN,
        granted=True,
        policy_version="1",
        policy_sha256=ORDER.policy_sha256,
        issued_at_s=NOW_S - 10,
        expires_at_s=NOW_S + 1000,
    )
    return replace(receipt, **changes).to_bytes(device.signer)


def accept_with(device: ScriptedDevice, receipt: bytes, *, task_id: str = ORDER.task_id) -> bytes:
    """Give a signed acceptance that carries the receipt, whatever that is."""
    return Acceptance(task_id=task_id, device=device.public_key_hex, receipt=receipt).to_bytes(
        device.signer
    )


def test_honest_device_is_admitted_with_the_vector_it_sent():
    """An honest answer passes both stages unchanged, so that no rule costs a contribution."""
    device = device_that()
    admission = admission_of(device)
    assert admission.check_acceptance(NODE, device.answer(INVITATION)) == Verdict()
    verdict = admission.check_contribution(NODE, device.answer(ORDER_FRAME))
    assert verdict.admitted
    assert verdict.vector.to_dense().tolist() == pytest.approx([0.6, 0.0, 0.0, 0.8])
    assert not admission.refusals


@pytest.mark.parametrize("answers", [[False], [True, False]])
def test_device_that_was_in_the_run_too_often_is_refused_before_and_after_the_order(answers):
    """Looked up again right before adding: another aggregator may have let it in meanwhile."""
    device, left = device_that(), list(answers)
    admission = admission_of(
        device, may_take_part=lambda key: key == device.public_key_hex and left.pop(0)
    )
    verdict = admission.check_acceptance(NODE, device.answer(INVITATION))
    if verdict.admitted:
        verdict = admission.check_contribution(NODE, device.answer(ORDER_FRAME))
    assert verdict.refusal is Refusal.PARTICIPATION_EXCEEDED
    assert not left
    assert admission.contributors == frozenset()


@pytest.mark.parametrize(
    "behaviour", [b for b in Behaviour if EXPECTED[b] is not Refusal.NO_ANSWER]
)
def test_each_behaviour_is_counted_under_its_own_reason(behaviour):
    """The operator reads one exact reason per attack, and no device is counted twice."""
    device = device_that(behaviour)
    admission = admission_of(device)
    verdict = admission.check_acceptance(NODE, device.answer(INVITATION))
    if verdict.admitted:
        verdict = admission.check_contribution(NODE, device.answer(ORDER_FRAME))
    assert verdict.refusal is EXPECTED[behaviour]
    expected = {} if EXPECTED[behaviour] is None else {EXPECTED[behaviour]: 1}
    assert dict(admission.refusals) == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"granted": False}, Refusal.CONSENT_WITHDRAWN),
        ({"purpose": Purpose.STATISTICS}, Refusal.BAD_RECEIPT),
        ({"policy_sha256": "9" * 64}, Refusal.BAD_RECEIPT),
        ({"issued_at_s": NOW_S + int(CLOCK_SKEW_S) + 1}, Refusal.BAD_RECEIPT),
        ({"issued_at_s": NOW_S + int(CLOCK_SKEW_S)}, None),
        ({"expires_at_s": NOW_S}, Refusal.CONSENT_EXPIRED),
        ({"expires_at_s": NOW_S + 1}, None),
    ],
)
def test_receipt_that_is_not_consent_to_this_order_is_refused(changes, reason):
    """Only an unexpired yes to this purpose and text counts, with some grace for fast clocks."""
    device = device_that()
    frame = accept_with(device, receipt_of(device, **changes))
    assert admission_of(device).check_acceptance(NODE, frame).refusal is reason


def test_acceptance_without_a_receipt_is_no_consent():
    """Saying yes to the order is not enough: the signed receipt is the proof of consent."""
    device = device_that()
    verdict = admission_of(device).check_acceptance(NODE, accept_with(device, b""))
    assert verdict.refusal is Refusal.NO_CONSENT


def test_withdrawal_on_record_beats_an_older_grant_and_a_tie():
    """A no on record wins unless the yes is strictly newer, so that doubt never favours us."""
    device, consents = device_that(), MemoryConsents()
    for withdrawn_at_s, reason in [
        (NOW_S - 11, None),
        (NOW_S - 10, Refusal.CONSENT_WITHDRAWN),
        (NOW_S - 9, Refusal.CONSENT_WITHDRAWN),
    ]:
        consents.held.clear()
        withdrawal = receipt_of(device, granted=False, issued_at_s=withdrawn_at_s)
        consents.record(ConsentReceipt.from_bytes(withdrawal), withdrawal)
        admission = admission_of(device, consents=consents)
        assert admission.check_acceptance(NODE, device.answer(INVITATION)).refusal is reason


def test_grant_that_is_admitted_goes_on_record():
    """An admitted yes is kept, because a later audit asks what the contribution rested on."""
    device, consents = device_that(), MemoryConsents()
    admission_of(device, consents=consents).check_acceptance(NODE, device.answer(INVITATION))
    assert consents.standing(device.public_key_hex, Purpose.TRAIN) == Standing(
        granted=True, issued_at_s=NOW_S - 10
    )


def test_withdrawal_after_acceptance_stops_the_contribution():
    """Consent is looked up again at upload, since a person may change their mind in between."""
    device, consents = device_that(), MemoryConsents()
    admission = admission_of(device, consents=consents)
    assert admission.check_acceptance(NODE, device.answer(INVITATION)).admitted
    withdrawal = receipt_of(device, granted=False, issued_at_s=NOW_S)
    consents.record(ConsentReceipt.from_bytes(withdrawal), withdrawal)
    verdict = admission.check_contribution(NODE, device.answer(ORDER_FRAME))
    assert verdict.refusal is Refusal.CONSENT_WITHDRAWN


def test_refusal_with_a_signed_withdrawal_records_it_even_for_another_task():
    """A person's no must not be lost because the message around it is wrong."""
    device, consents = device_that(), MemoryConsents()
    frame = Declined(
        task_id="8" * 32,
        device=device.public_key_hex,
        reason=Refusal.CONSENT_WITHDRAWN,
        receipt=receipt_of(device, granted=False),
    ).to_bytes(device.signer)
    verdict = admission_of(device, consents=consents).check_contribution(NODE, frame)
    assert verdict.refusal is Refusal.WRONG_TASK
    assert not consents.standing(device.public_key_hex, Purpose.TRAIN).granted


def test_refusal_cannot_withdraw_for_somebody_else_or_smuggle_a_grant_in():
    """A refusal records nothing but the sender's own withdrawal, and never fails on nonsense."""
    device, other, consents = device_that(), device_that(), MemoryConsents()
    for receipt in (receipt_of(other, granted=False), receipt_of(device), b"nonsense"):
        frame = Declined(
            task_id=ORDER.task_id,
            device=device.public_key_hex,
            reason=Refusal.DEVICE_ERROR,
            receipt=receipt,
        ).to_bytes(device.signer)
        admission_of(device, consents=consents).check_acceptance(NODE, frame)
    assert not consents.held


def test_device_behind_two_nodes_is_added_once():
    """The privacy bound counts one vector per device, so a second node must not add another."""
    device = device_that()
    admission = admission_of(device, device)
    assert admission.check_contribution(NODE, device.answer(ORDER_FRAME)).admitted
    verdict = admission.check_contribution(NODE + 1, device.answer(ORDER_FRAME))
    assert verdict.refusal is Refusal.REPLAYED


def test_node_without_an_enrolled_device_is_not_invited():
    """A node that the directory does not know is refused before anything is sent to it."""
    admission = admission_of(device_that())
    assert admission.check_node(NODE).admitted
    assert admission.check_node(99).refusal is Refusal.UNKNOWN_DEVICE


def test_answer_at_closing_time_is_late():
    """The closing second itself is too late, so that the order's promise to devices is exact."""
    device = device_that()
    frame = device.answer(ORDER_FRAME)
    assert admission_of(device, now_s=NOW_S + 59.9).check_contribution(NODE, frame).admitted
    late = admission_of(device, now_s=NOW_S + 60).check_contribution(NODE, frame)
    assert late.refusal is Refusal.LATE


def test_oversized_frame_is_refused_before_it_is_read():
    """A frame over the limit costs the server no parsing, whoever sent it."""

    class Unreadable(bytes):
        def __getitem__(self, key):
            """Fail at the first attempt to look inside."""
            raise AssertionError("parsed before its size was checked")

    admission = admission_of(device_that())
    verdict = admission.check_contribution(NODE, Unreadable(4 * 4 + 16 * 1024 + 1))
    assert verdict.refusal is Refusal.OVERSIZED


def test_answer_of_the_wrong_stage_is_malformed():
    """A contribution cannot pass for an acceptance, nor the other way round."""
    device = device_that()
    admission = admission_of(device)
    early = admission.check_acceptance(NODE, device.answer(ORDER_FRAME))
    assert early.refusal is Refusal.MALFORMED
    again = admission.check_contribution(NODE, device.answer(INVITATION))
    assert again.refusal is Refusal.MALFORMED


def test_infinite_entry_is_not_finite():
    """One infinity would destroy everybody's sum, so it is refused as NaN is."""
    device = replace(
        device_that(), vector=SparseVector.from_dense(np.array([np.inf, 0, 0, 0], np.float32))
    )
    verdict = admission_of(device).check_contribution(NODE, device.answer(ORDER_FRAME))
    assert verdict.refusal is Refusal.NOT_FINITE


def test_node_is_counted_once_under_the_last_reason():
    """Counts add up to the number of nodes even where one is judged more than once."""
    admission = admission_of(device_that())
    admission.refuse(NODE, Refusal.MALFORMED)
    admission.refuse(NODE, Refusal.NOT_FINITE)
    assert dict(admission.refusals) == {Refusal.NOT_FINITE: 1}


@given(noise=st.binary(max_size=300), flip=st.integers(min_value=0, max_value=8 * 500))
def test_any_bytes_give_a_verdict(noise, flip):
    """Noise and single flipped bits are refused without an exception that could end the round."""
    device = device_that()
    admission = admission_of(device)
    assert not admission.check_acceptance(NODE, noise).admitted
    frame = bytearray(device.answer(ORDER_FRAME))
    frame[(flip // 8) % len(frame)] ^= 1 << (flip % 8)
    assert not admission.check_contribution(NODE, bytes(frame)).admitted


def test_verdict_with_a_refusal_and_a_vector_is_a_mistake():
    """A refused answer has no vector, so that no caller can add it by accident."""
    vector = SparseVector.from_dense(np.ones(1, np.float32))
    with pytest.raises(ValueError, match="no vector"):
        Verdict(refusal=Refusal.LATE, vector=vector)
