"""Taking part, from outside: every reason to refuse, once a task, and an answer to any bytes."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_sdk import Homebody
from client_sdk.federation import Participant
from client_sdk.testing import FakeAggregator, FakeConnection, FixedClock
from client_sdk.wire import (
    DEFAULT_POLICY,
    PURPOSE_OF,
    Acceptance,
    Answer,
    Catalogue,
    ConsentReceipt,
    Contribution,
    Declined,
    FrameKind,
    Purpose,
    Refusal,
    TaskKind,
    read_answer,
    read_frame,
    sha256_hex,
)
from client_sdk.wire.frame import write_frame

OpenHome = Callable[..., Homebody]
COUNTS, STATISTICS, TRAINING = (
    TaskKind.ITEM_COUNTS,
    TaskKind.ITEM_STATISTICS,
    TaskKind.ITEM_TRAINING,
)
STRANGER = FakeAggregator(b"s" * 32)


def ask(home: Homebody | Participant, frame: bytes) -> Answer:
    """Give the verified answer to one frame."""
    return read_answer(read_frame(home.answer(frame)))


def refusal(home: Homebody | Participant, frame: bytes) -> Refusal:
    """Give the reason of a refusal."""
    answer = ask(home, frame)
    assert isinstance(answer, Declined)
    return answer.reason


@pytest.mark.parametrize("kind", [COUNTS, STATISTICS])
def test_participant_invited_and_asked_contributes(
    kind: TaskKind, home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Invitation, acceptance with the receipt; order, one bounded vector with the receipt."""
    order = aggregator.order(kind, catalogue)
    connection = FakeConnection([aggregator.invite(order), aggregator.ask(order)])
    assert home.participate(connection) == 2
    accepted, contributed = connection.read()
    assert isinstance(accepted, Acceptance)
    assert isinstance(contributed, Contribution)
    for answer in (accepted, contributed):
        receipt = ConsentReceipt.from_bytes(answer.receipt)
        assert receipt.allows(PURPOSE_OF[kind], now_s=0)
        assert (answer.task_id, answer.device) == (order.task_id, home.device)
    assert contributed.vector.dimension == order.dimension
    assert 0 < contributed.vector.norm() <= order.clip_norm


def test_participant_before_any_release_trusts_nobody(
    open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Without a release there is no key to trust."""
    home = open_home(releases=None)
    home.consent.grant("personalise", "statistics")
    home.track("purchase", item="mug")
    order = aggregator.order(COUNTS, catalogue)
    assert refusal(home, aggregator.ask(order)) is Refusal.UNTRUSTED_ORDER


def test_participant_order_of_another_signer_is_refused(
    home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A stranger's order and a changed order are answered with nothing but a refusal."""
    order = aggregator.order(COUNTS, catalogue)
    changed = bytearray(aggregator.ask(order))
    changed[-1] ^= 1
    for frame in (STRANGER.ask(order), STRANGER.invite(order), bytes(changed)):
        answer = ask(home, frame)
        assert isinstance(answer, Declined)
        assert (answer.reason, answer.receipt) == (Refusal.UNTRUSTED_ORDER, b"")
        assert answer.task_id == order.task_id


def test_participant_stranger_learns_nothing_of_a_withdrawal(
    home: Homebody, catalogue: Catalogue
) -> None:
    """Who is not trusted is not told how consent stands."""
    home.consent.withdraw("statistics")
    answer = ask(home, STRANGER.ask(STRANGER.order(COUNTS, catalogue)))
    assert isinstance(answer, Declined)
    assert (answer.reason, answer.receipt) == (Refusal.UNTRUSTED_ORDER, b"")


@pytest.mark.parametrize("invited", [True, False])
def test_participant_without_consent_refuses(
    invited: bool, open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Consent is for the very purpose: one to statistics is none to training."""
    home = open_home()
    home.consent.grant("personalise", "statistics")
    home.track("purchase", item="mug")
    order = aggregator.order(STATISTICS, catalogue)
    frame = aggregator.invite(order) if invited else aggregator.ask(order)
    assert refusal(home, frame) is Refusal.NO_CONSENT


def test_participant_after_withdrawal_sends_the_signed_withdrawal(
    home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """The aggregator gets the proof, so that it stops asking."""
    home.consent.withdraw("train")
    answer = ask(home, aggregator.invite(aggregator.order(STATISTICS, catalogue)))
    assert isinstance(answer, Declined)
    assert answer.reason is Refusal.CONSENT_WITHDRAWN
    receipt = ConsentReceipt.from_bytes(answer.receipt)
    assert (receipt.granted, receipt.purpose, receipt.device) == (
        False,
        Purpose.TRAIN,
        home.device,
    )


def test_participant_after_expiry_refuses(
    home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue, clock: FixedClock
) -> None:
    """An old yes is no yes."""
    clock.advance(DEFAULT_POLICY.valid_for_s)
    order = aggregator.order(COUNTS, catalogue, closes_at_s=int(clock.now_s()) + 10)
    assert refusal(home, aggregator.ask(order)) is Refusal.CONSENT_EXPIRED


def test_participant_without_consent_to_personalise_has_no_history(
    home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A history that may not be used here is not used for a sum either."""
    home.consent.withdraw("personalise")
    order = aggregator.order(COUNTS, catalogue)
    assert refusal(home, aggregator.ask(order)) is Refusal.TOO_LITTLE_DATA


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"closes_at_s": 1_800_000_000}, Refusal.LATE),
        ({"catalogue_sha256": "0" * 64}, Refusal.STALE_CATALOGUE),
        ({"policy_sha256": "0" * 64}, Refusal.NO_CONSENT),
        ({"dimension": 7}, Refusal.OUT_OF_BOUNDS_ORDER),
        ({"clip_norm": 10.1}, Refusal.OUT_OF_BOUNDS_ORDER),
        ({"parameters": {"steps": 1}}, Refusal.OUT_OF_BOUNDS_ORDER),
        ({"payload": b"x"}, Refusal.OUT_OF_BOUNDS_ORDER),
    ],
)
def test_participant_order_outside_its_bounds_is_refused(
    changes: dict[str, Any],
    reason: Refusal,
    home: Homebody,
    aggregator: FakeAggregator,
    catalogue: Catalogue,
) -> None:
    """A trusted aggregator is not a boundless one."""
    order = aggregator.order(COUNTS, catalogue, **changes)
    assert refusal(home, aggregator.ask(order)) is reason
    assert refusal_or_acceptance(home, aggregator.invite(order), reason)


def refusal_or_acceptance(home: Homebody, frame: bytes, reason: Refusal) -> bool:
    """An invitation is refused for the same reason; only a payload comes with the order alone."""
    answer = ask(home, frame)
    return isinstance(answer, Acceptance) or answer.reason is reason  # type: ignore[union-attr]


def test_participant_without_history_has_too_little_data(
    open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Nothing stored, nothing sent."""
    home = open_home()
    home.consent.grant("personalise", "statistics")
    order = aggregator.order(COUNTS, catalogue)
    for frame in (aggregator.invite(order), aggregator.ask(order)):
        assert refusal(home, frame) is Refusal.TOO_LITTLE_DATA


def test_participant_without_a_model_cannot_train(
    home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A device without a graph says that it does not know the task."""
    order = aggregator.order(
        TRAINING,
        catalogue,
        payload=bytes(4 * 8 * 4),
        parameters={
            "rank": 4, "learning_rate": 0.5, "steps": 1, "negatives": 1, "ridge": 0.1, "seed": 1,
        },
    )  # fmt: skip
    assert refusal(home, aggregator.ask(order)) is Refusal.UNKNOWN_TASK


def test_participant_order_replayed_is_refused_also_after_reopening(
    open_home: OpenHome, home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """One contribution a task, whatever is sent again and whenever."""
    order = aggregator.order(COUNTS, catalogue)
    assert isinstance(ask(home, aggregator.ask(order)), Contribution)
    assert refusal(home, aggregator.ask(order)) is Refusal.ALREADY_CONTRIBUTED
    home.close()
    again = open_home()
    for frame in (aggregator.ask(order), aggregator.invite(order)):
        assert refusal(again, frame) is Refusal.ALREADY_CONTRIBUTED


def test_participant_everything_that_left_is_in_the_log(
    home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """The log has what, why, how much, how large, under which promise, and when."""
    order = aggregator.order(STATISTICS, catalogue)
    invited, contributed = home.answer(aggregator.invite(order)), home.answer(aggregator.ask(order))
    home.answer(aggregator.ask(order))
    home.answer(b"forged")
    home.answer(b"forged again")
    log = home.transparency()
    assert [(entry.sent, entry.bytes_sent) for entry in log[:2]] == [
        ("acceptance", len(invited)),
        ("contribution", len(contributed)),
    ]
    assert (log[1].task_id, log[1].task, log[1].purpose) == (
        order.task_id,
        "item-statistics",
        "train",
    )
    assert log[1].norm == pytest.approx(1.0)
    assert log[1].promise == order.promise
    assert (log[2].sent, log[2].reason) == ("refusal", "already-contributed")
    assert (log[3].sent, log[3].times) == ("unverified", 2)
    assert len(log) == 4


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None
)
@given(data=st.data())
def test_participant_any_bytes_get_a_signed_answer(
    data: st.DataObject, home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Arbitrary bytes, changed frames, and well-signed orders with arbitrary fields."""
    kind = data.draw(st.sampled_from(["bytes", "changed", "fields"]))
    order = aggregator.order(data.draw(st.sampled_from(TaskKind)), catalogue)
    if kind == "bytes":
        frame = data.draw(st.binary(max_size=300))
    elif kind == "changed":
        good = bytearray(aggregator.ask(order))
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
        frame = bytes(good[: data.draw(st.integers(0, len(good)))])
    else:
        header = dict(read_frame(aggregator.ask(order)).header)
        field = data.draw(st.sampled_from(sorted(header)))
        header[field] = data.draw(VALUES)
        body = data.draw(st.binary(max_size=16))
        if data.draw(st.booleans()):
            header["payload_sha256"] = sha256_hex(body)
        try:
            frame = write_frame(
                data.draw(st.sampled_from([FrameKind.ORDER, FrameKind.INVITATION])),
                header,
                body,
                aggregator.key.sign,
            )
        except ValueError:
            return
    answer = ask(home, frame)
    assert answer.device == home.device
