"""Receipts, orders and answers: round trip, closed fields, and whose signature counts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client_sdk.keys import DeviceKey
from client_sdk.testing import FakeAggregator
from client_sdk.wire import (
    Acceptance,
    Catalogue,
    ConsentReceipt,
    Contribution,
    Declined,
    FrameKind,
    Order,
    Purpose,
    Refusal,
    SparseVector,
    TaskKind,
    WireFormatError,
    WireSignatureError,
    read_answer,
    read_frame,
)
from client_sdk.wire.frame import write_frame

KEY = DeviceKey(bytes(32))
OTHER = DeviceKey(bytes(31) + b"\x01")
TASK = "ab" * 16


def a_receipt(**changes: Any) -> ConsentReceipt:
    """A grant for training, valid from 100 to 200."""
    fields: dict[str, Any] = {
        "receipt_id": "cd" * 16,
        "device": KEY.public_key_hex,
        "purpose": Purpose.TRAIN,
        "granted": True,
        "policy_version": "1",
        "policy_sha256": "ef" * 32,
        "issued_at_s": 100,
        "expires_at_s": 200,
        **changes,
    }
    return ConsentReceipt(**fields)


def test_receipt_written_and_read_is_the_same() -> None:
    """A receipt survives its own bytes."""
    assert ConsentReceipt.from_bytes(a_receipt().to_bytes(KEY)) == a_receipt()


def test_receipt_allows_only_its_purpose_until_it_expires() -> None:
    """Consent is for one purpose, ends, and a withdrawal is none."""
    receipt = a_receipt()
    assert receipt.allows(Purpose.TRAIN, now_s=199.9)
    assert not receipt.allows(Purpose.TRAIN, now_s=200)
    assert not receipt.allows(Purpose.STATISTICS, now_s=150)
    assert not replace(receipt, granted=False).allows(Purpose.TRAIN, now_s=150)


def test_receipt_signed_by_another_is_refused() -> None:
    """Nobody signs for another device: neither when writing nor when reading."""
    with pytest.raises(ValueError, match="signed by the device"):
        a_receipt().to_bytes(OTHER)
    forged = write_frame(FrameKind.RECEIPT, vars(a_receipt()), b"", OTHER.sign)
    with pytest.raises(WireSignatureError):
        ConsentReceipt.from_bytes(forged)


@pytest.mark.parametrize(
    "changes",
    [
        {"purpose": "marketing"},
        {"granted": 1},
        {"issued_at_s": 1.5},
        {"device": "AB" * 32},
        {"extra": 1},
        {"receipt_id": "x"},
    ],
)
def test_receipt_with_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    """Fields are typed and closed, however well the frame is signed."""
    frame = write_frame(FrameKind.RECEIPT, {**vars(a_receipt()), **changes}, b"", KEY.sign)
    with pytest.raises(WireFormatError):
        ConsentReceipt.from_bytes(frame)


def test_order_written_and_read_is_the_same(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """An order survives with its payload, an invitation without it."""
    order = aggregator.order(TaskKind.ITEM_STATISTICS, catalogue, top_items=[1, 2])
    assert Order.from_frame(read_frame(aggregator.ask(order))) == order
    invited = Order.from_frame(read_frame(aggregator.invite(order)))
    assert invited == replace(order, payload=b"")
    assert order.purpose is Purpose.TRAIN


def test_order_with_another_payload_is_refused(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """The payload is the one that was named, and an invitation has none."""
    order = aggregator.order(TaskKind.ITEM_STATISTICS, catalogue, top_items=[1, 2])
    with pytest.raises(ValueError, match="payload_sha256"):
        aggregator.ask(replace(order, payload=b"other"))
    header = dict(read_frame(aggregator.ask(order)).header)
    for kind in (FrameKind.ORDER, FrameKind.INVITATION):
        frame = read_frame(write_frame(kind, header, b"other", aggregator.key.sign))
        with pytest.raises(WireFormatError):
            Order.from_frame(frame)


@pytest.mark.parametrize(
    "changes",
    [
        {"dimension": 0},
        {"round": -1},
        {"clip_norm": 0.0},
        {"clip_norm": "1"},
        {"clip_norm": 10**400},
        {"kind": "shell"},
        {"promise": []},
        {"code": "import os"},
        {"task_id": "short"},
    ],
)
def test_order_with_a_wrong_field_is_refused(
    changes: dict[str, Any], aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """An order that is out of shape is a format error."""
    header = dict(
        read_frame(aggregator.ask(aggregator.order(TaskKind.ITEM_COUNTS, catalogue))).header
    )
    frame = read_frame(
        write_frame(FrameKind.ORDER, {**header, **changes}, b"", aggregator.key.sign)
    )
    with pytest.raises(WireFormatError):
        Order.from_frame(frame)


ANSWERS: list[Acceptance | Declined] = [
    Acceptance(task_id=TASK, device=KEY.public_key_hex, receipt=b"receipt"),
    Declined(task_id=TASK, device=KEY.public_key_hex, reason=Refusal.NO_CONSENT),
    Declined(
        task_id=TASK, device=KEY.public_key_hex, reason=Refusal.CONSENT_WITHDRAWN, receipt=b"no"
    ),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_answer_written_and_read_is_the_same(answer: Acceptance | Declined) -> None:
    """Acceptances and refusals survive their own bytes."""
    assert read_answer(read_frame(answer.to_bytes(KEY))) == answer


@pytest.mark.parametrize("entries", [1, 3, 8])
def test_contribution_written_and_read_is_the_same(entries: int) -> None:
    """A contribution survives, whichever encoding is shorter."""
    dense = np.zeros(8, np.float32)
    dense[:entries] = 0.5
    sent = Contribution(
        task_id=TASK,
        device=KEY.public_key_hex,
        vector=SparseVector.from_dense(dense),
        receipt=b"receipt",
    )
    got = read_answer(read_frame(sent.to_bytes(KEY)))
    assert isinstance(got, Contribution)
    assert got.receipt == b"receipt"
    assert np.array_equal(got.vector.to_dense(), dense)


def test_answer_signed_by_another_is_refused() -> None:
    """An answer counts only under the key of the device that it names."""
    for answer in ANSWERS:
        with pytest.raises(WireSignatureError):
            read_answer(read_frame(answer.to_bytes(OTHER)))


def test_answer_of_another_kind_is_refused(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """An order is no answer, and an answer is no order."""
    order = aggregator.order(TaskKind.ITEM_COUNTS, catalogue, task_id=TASK)
    with pytest.raises(WireFormatError):
        read_answer(read_frame(aggregator.ask(order)))
    with pytest.raises(WireFormatError):
        Order.from_frame(read_frame(ANSWERS[0].to_bytes(KEY)))


@pytest.mark.parametrize(
    "changes",
    [{"receipt": "zz"}, {"dimension": 0}, {"encoding": "pickle"}, {"dimension": 3}, {"note": "x"}],
)
def test_contribution_with_a_wrong_field_is_refused(changes: dict[str, Any]) -> None:
    """Encoding, dimension and receipt are checked before anything is believed."""
    header = {
        "task_id": TASK,
        "device": KEY.public_key_hex,
        "encoding": "dense-f32",
        "dimension": 2,
        "receipt": "",
        **changes,
    }
    frame = read_frame(write_frame(FrameKind.CONTRIBUTION, header, bytes(8), KEY.sign))
    with pytest.raises(WireFormatError):
        read_answer(frame)
