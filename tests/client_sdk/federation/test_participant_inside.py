"""Taking part, from inside: consent twice, the guard last, and no failure that gets out."""

from pathlib import Path
from threading import RLock

import numpy as np
import pytest

from client_sdk.federation import ConsentCentre, DeviceState, Participant
from client_sdk.federation.encoders import ENCODERS, Encoder, EncoderInput
from client_sdk.intelligence import History
from client_sdk.keys import DeviceKey
from client_sdk.signals import Vault
from client_sdk.testing import FakeAggregator, FixedClock, MemoryKeyStore
from client_sdk.wire import (
    DEFAULT_POLICY,
    Answer,
    Catalogue,
    Contribution,
    Declined,
    Order,
    Purpose,
    Refusal,
    SparseVector,
    TaskKind,
    read_answer,
    read_frame,
)

COUNTS = TaskKind.ITEM_COUNTS


def ask(participant: Participant, frame: bytes) -> Answer:
    """Give the verified answer to one frame."""
    return read_answer(read_frame(participant.answer(frame)))


def refusal(participant: Participant, frame: bytes) -> Refusal:
    """Give the reason of a refusal."""
    answer = ask(participant, frame)
    assert isinstance(answer, Declined)
    return answer.reason


class Device:
    """A participant over a real vault, with a history of its own and any encoder."""

    def __init__(self, folder: Path, catalogue: Catalogue, clock: FixedClock) -> None:
        self.vault = Vault.open(folder, MemoryKeyStore())
        self.signer, self.lock, self.clock = DeviceKey.generate(), RLock(), clock
        self.aggregator = FakeAggregator()
        self.catalogue = catalogue
        self.consent = ConsentCentre(
            vault=self.vault,
            signer=self.signer,
            policy=DEFAULT_POLICY,
            clock=clock,
            lock=self.lock,
            answers=[],
        )
        self.consent.grant(*Purpose)

    def with_encoder(self, encoder: Encoder) -> Participant:
        """Give a participant that encodes item counts in this way."""
        history = History.from_events(items=[1], times_s=[0.0], now_s=1.0)
        state = DeviceState(
            aggregator_key=self.aggregator.key.public_key_hex,
            catalogue_sha256=self.catalogue.sha256,
            given=lambda _: EncoderInput(history=history, n_items=len(self.catalogue.items)),
        )
        return Participant(
            vault=self.vault,
            consent=self.consent,
            signer=self.signer,
            clock=self.clock,
            lock=self.lock,
            device_state=lambda: state,
            encoders={COUNTS: encoder},
        )

    def order(self) -> Order:
        """Give an order for item counts."""
        return self.aggregator.order(COUNTS, self.catalogue)


@pytest.fixture
def device(tmp_path: Path, catalogue: Catalogue, clock: FixedClock) -> Device:
    """A device whose person agreed to everything."""
    return Device(tmp_path / "device", catalogue, clock)


@pytest.mark.parametrize(
    ("purpose", "reason"),
    [
        (Purpose.STATISTICS, Refusal.CONSENT_WITHDRAWN),
        (Purpose.PERSONALISE, Refusal.TOO_LITTLE_DATA),
    ],
)
def test_participant_consent_withdrawn_during_the_work_stops_the_upload(
    purpose: Purpose, reason: Refusal, device: Device
) -> None:
    """The person's no while the vector is computed comes in time."""

    def encode(order: Order, given: EncoderInput) -> SparseVector:
        vector = ENCODERS[COUNTS](order, given)
        device.consent.withdraw(purpose)
        return vector

    order = device.order()
    participant = device.with_encoder(encode)
    assert refusal(participant, device.aggregator.ask(order)) is reason
    sent = [record.value["sent"] for record in device.vault.records() if "sent" in record.value]
    assert sent == ["refusal"]


def test_participant_answering_twice_at_once_contributes_once(device: Device) -> None:
    """A second answer that began before the first one ended is refused at the end."""
    inner: list[Answer] = []

    def encode(order: Order, given: EncoderInput) -> SparseVector:
        if not inner:
            inner.append(ask(device.with_encoder(ENCODERS[COUNTS]), device.aggregator.ask(order)))
        return ENCODERS[COUNTS](order, given)

    order = device.order()
    outer = refusal(device.with_encoder(encode), device.aggregator.ask(order))
    assert isinstance(inner[0], Contribution)
    assert outer is Refusal.ALREADY_CONTRIBUTED


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_participant_vector_not_finite_is_stopped_by_the_guard(bad: float, device: Device) -> None:
    """Whatever an encoder does, the guard looks last."""
    participant = device.with_encoder(
        lambda _, given: SparseVector.from_dense(np.full(given.n_items, bad, np.float32))
    )
    order = device.order()
    assert refusal(participant, device.aggregator.ask(order)) is Refusal.OUTBOUND_GUARD


def test_participant_vector_too_long_is_clipped_and_logged(device: Device) -> None:
    """What leaves is within the clip norm, and the log says how large it was."""
    participant = device.with_encoder(
        lambda _, given: SparseVector.from_dense(np.full(given.n_items, 9, np.float32))
    )
    answer = ask(participant, device.aggregator.ask(device.order()))
    assert isinstance(answer, Contribution)
    assert 0.999 < answer.vector.norm() <= 1.0


def test_participant_error_in_the_work_is_a_device_error_without_its_text(device: Device) -> None:
    """The text of an exception may hold anything: none of it leaves."""

    def encode(_order: Order, _given: EncoderInput) -> SparseVector:
        raise RuntimeError("green-tea was bought by u-1")

    participant = device.with_encoder(encode)
    frame = participant.answer(device.aggregator.ask(device.order()))
    answer = read_answer(read_frame(frame))
    assert isinstance(answer, Declined)
    assert answer.reason is Refusal.DEVICE_ERROR
    assert b"green-tea" not in frame


def test_participant_vault_that_fails_sends_no_vector(device: Device) -> None:
    """What can't be written down does not leave, and the answer is still a signed no."""
    participant = device.with_encoder(ENCODERS[COUNTS])
    device.vault.close()
    order = device.order()
    for frame in (device.aggregator.ask(order), device.aggregator.invite(order), b"forged"):
        assert refusal(participant, frame) in (Refusal.DEVICE_ERROR, Refusal.UNTRUSTED_ORDER)


def test_participant_state_that_fails_is_a_device_error(device: Device) -> None:
    """Even the state of the device may fail without an exception getting out."""

    def broken() -> DeviceState | None:
        raise OSError("disk")

    participant = Participant(
        vault=device.vault,
        consent=device.consent,
        signer=device.signer,
        clock=device.clock,
        lock=device.lock,
        device_state=broken,
    )
    assert refusal(participant, b"anything") is Refusal.DEVICE_ERROR
