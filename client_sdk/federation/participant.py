"""Taking part in a federated task: bytes in, signed bytes out, and never an exception.

Rules a reader can check line by line; the first that fails gives the reason of the refusal.

1. Only what the active release's aggregator signed is obeyed. Without a release, or with another
   signature, or with bytes that are no order: `UNTRUSTED_ORDER`.
2. Consent to the task's purpose, for the order's very policy text, is there *before* any work
   (`NO_CONSENT`, `CONSENT_WITHDRAWN` with the signed withdrawal, `CONSENT_EXPIRED`). A history that
   may not even be used here, without consent to personalise, counts as none (`TOO_LITTLE_DATA`).
3. This is a moment to work for others (`federation.eligibility`): `NOT_IDLE`, `NOT_CHARGING`,
   `METERED`, `LOW_STORAGE`.
4. The order is open (`LATE`), about this device's catalogue (`STALE_CATALOGUE`), of a known task
   (`UNKNOWN_TASK`), its clip norm in (0, 10] and its parameters and dimension what the task and the
   clipping imply (`OUT_OF_BOUNDS_ORDER`).
5. This device has not contributed to the task yet (`ALREADY_CONTRIBUTED`), may be in this round of
   its run (`federation.participations`), and has enough to contribute (`TOO_LITTLE_DATA`).
6. The vector passes the outbound guard (`OUTBOUND_GUARD`). Where the order asks for local noise,
   it gets it then, and what the guard let through does not leave without it.
7. Consent is checked *again* when the vector is ready, under the lock that a withdrawal takes.
   Under the same lock the participation and its transparency entry become durable. Only then is
   the contribution returned: a crash may lose a contribution, never send a second one.
8. Whatever fails otherwise is `DEVICE_ERROR`. No text of an exception is ever part of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from client_sdk.federation.consent import ConsentCentre, ConsentState
from client_sdk.federation.eligibility import EligibilityRules, conditions_now, refusal_of
from client_sdk.federation.encoders import (
    ENCODERS,
    Encoder,
    EncoderInput,
    OrderOutOfBoundsError,
    TaskUnavailableError,
    TooLittleDataError,
    expected_dimension,
    participation_key,
)
from client_sdk.federation.guard import OutboundGuardError, guard
from client_sdk.federation.local_noise import add_local_noise, message_norm, read_local_noise
from client_sdk.federation.participations import PARTICIPATION_STREAM, Participations
from client_sdk.federation.transparency import Sent, TransparencyEntry
from client_sdk.ports import Clock, DeviceConditions
from client_sdk.signals.vault import Record, Vault
from client_sdk.wire import (
    Acceptance,
    Contribution,
    Declined,
    FrameKind,
    Order,
    Purpose,
    Refusal,
    Signer,
    SparseVector,
    TaskKind,
    WireFormatError,
    read_frame,
)

MAX_CLIP_NORM: Final = 10.0
_NO_TASK: Final = "0" * 32
_NO_CONSENT: Final = {
    ConsentState.NEVER_ASKED: Refusal.NO_CONSENT,
    ConsentState.TEXT_CHANGED: Refusal.NO_CONSENT,
    ConsentState.PAUSED: Refusal.NO_CONSENT,
    ConsentState.WITHDRAWN: Refusal.CONSENT_WITHDRAWN,
    ConsentState.EXPIRED: Refusal.CONSENT_EXPIRED,
}


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """What the device is at the moment at which it is asked.

    Attributes:
        aggregator_key: The active release's; whose orders are obeyed.
        catalogue_sha256: The active release's.
        given: Reads what an encoder may see, for a purpose that the person said yes to.
    """

    aggregator_key: str
    catalogue_sha256: str
    given: Callable[[Purpose], EncoderInput]


class _RefusedError(Exception):
    """Carries a reason from the rule that failed to the answer; never leaves this module."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Participant:
    """Answers invitations and orders for one device.

    Args:
        vault: Keeps participations and the transparency log.
        consent: Is asked before the work and before the upload.
        signer: The device's key.
        clock: Tells the time.
        lock: The lock that `consent` and `vault` share.
        device_state: Gives the state to answer from; None before any release.
        conditions: How the device is; None where the app chooses the moment itself.
        rules: When a device takes part.
        encoders: By default those of this SDK; a test may pass others.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        consent: ConsentCentre,
        signer: Signer,
        clock: Clock,
        lock: AbstractContextManager[object],
        device_state: Callable[[], DeviceState | None],
        conditions: DeviceConditions | None = None,
        rules: EligibilityRules | None = None,
        encoders: Mapping[TaskKind, Encoder] = ENCODERS,
    ) -> None:
        self._vault = vault
        self._consent = consent
        self._signer = signer
        self._clock = clock
        self._lock = lock
        self._device_state = device_state
        self._conditions = conditions
        self._rules = rules or EligibilityRules()
        self._encoders = encoders
        with lock:
            self._participations = Participations(vault, now_s=clock.now_s())

    def answer(self, frame_bytes: bytes) -> bytes:
        """Answer an invitation or an order.

        Args:
            frame_bytes: Any bytes.

        Returns:
            A signed `Acceptance`, `Contribution` or `Declined`, as a frame. Never raises for what
            the bytes are, nor for what goes wrong with them.
        """
        try:
            with self._lock:
                state = self._device_state()
            order, invited, verified = _read(frame_bytes, state)
        except Exception:  # noqa: BLE001 - rule 7
            return self._signed_refusal(_NO_TASK, Refusal.DEVICE_ERROR)
        if order is None or state is None or not verified:
            return self._refuse_unverified(_NO_TASK if order is None else order.task_id)
        try:
            return self._answer(order, state, invited=invited)
        except _RefusedError as refused:
            return self._refuse(order, refused.reason)
        except Exception:  # noqa: BLE001 - rule 7
            return self._refuse(order, Refusal.DEVICE_ERROR)

    def _answer(self, order: Order, state: DeviceState, *, invited: bool) -> bytes:
        receipt = self._consented(order)
        self._check_conditions()
        with self._lock:
            given = state.given(order.purpose)
        self._check(order, state, given)
        if invited:
            acceptance = Acceptance(
                task_id=order.task_id, device=self._signer.public_key_hex, receipt=receipt
            ).to_bytes(self._signer)
            with self._lock:
                self._vault.write(self._entry(order, "acceptance", acceptance).to_record())
            return acceptance
        vector = self._encode(order, given)
        with self._lock:
            # The person may have changed their mind, or another thread may have answered.
            receipt = self._consented(order)
            self._check_first_time(order)
            contribution = Contribution(
                task_id=order.task_id,
                device=self._signer.public_key_hex,
                vector=vector,
                receipt=receipt,
            ).to_bytes(self._signer)
            entry = self._entry(order, "contribution", contribution, vector=vector)
            took_part = Record(
                stream=PARTICIPATION_STREAM,
                key=participation_key(order),
                value={"time_s": entry.time_s},
            )
            remembered = self._participations.records(order, now_s=entry.time_s)
            self._vault.write(took_part, *remembered, entry.to_record(), durable=True)
        return contribution

    def _consented(self, order: Order) -> bytes:
        with self._lock:
            state = self._consent.state(order.purpose)
            receipt = self._consent.receipt(order.purpose)
            signed = self._consent.signed_receipt(order.purpose)
        if state is not ConsentState.GRANTED:
            raise _RefusedError(_NO_CONSENT[state])
        if receipt is None or receipt.policy_sha256 != order.policy_sha256:
            raise _RefusedError(Refusal.NO_CONSENT)
        if not self._consent.allows(Purpose.PERSONALISE):
            raise _RefusedError(Refusal.TOO_LITTLE_DATA)
        return signed

    def _check_conditions(self) -> None:
        if self._conditions is None:
            return
        reason = refusal_of(conditions_now(self._conditions), self._rules)
        if reason is not None:
            raise _RefusedError(reason)

    def _check(self, order: Order, state: DeviceState, given: EncoderInput) -> None:
        if self._clock.now_s() >= order.closes_at_s:
            raise _RefusedError(Refusal.LATE)
        if order.catalogue_sha256 != state.catalogue_sha256:
            raise _RefusedError(Refusal.STALE_CATALOGUE)
        if order.kind not in self._encoders:
            raise _RefusedError(Refusal.UNKNOWN_TASK)
        try:
            dimension = expected_dimension(order, n_items=given.n_items)
        except OrderOutOfBoundsError:
            raise _RefusedError(Refusal.OUT_OF_BOUNDS_ORDER) from None
        dimension += order.clipping.extra_entries
        if order.dimension != dimension or not 0 < order.clip_norm <= MAX_CLIP_NORM:
            raise _RefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
        self._check_first_time(order)
        if len(given.history) < self._rules.min_items:
            raise _RefusedError(Refusal.TOO_LITTLE_DATA)

    def _check_first_time(self, order: Order) -> None:
        with self._lock:
            if self._vault.read(PARTICIPATION_STREAM, participation_key(order)) is not None:
                raise _RefusedError(Refusal.ALREADY_CONTRIBUTED)
            reason = self._participations.refusal(order, now_s=self._clock.now_s())
        if reason is not None:
            raise _RefusedError(reason)

    def _encode(self, order: Order, given: EncoderInput) -> SparseVector:
        try:
            vector = guard(
                self._encoders[order.kind](order, given),
                dimension=order.dimension,
                clip_norm=order.clip_norm,
                clipping=order.clipping,
            )
            return add_local_noise(
                vector, clip_norm=order.clip_norm, noise_multiplier=read_local_noise(order)
            )
        except TooLittleDataError:
            raise _RefusedError(Refusal.TOO_LITTLE_DATA) from None
        except OrderOutOfBoundsError:
            raise _RefusedError(Refusal.OUT_OF_BOUNDS_ORDER) from None
        except TaskUnavailableError:
            raise _RefusedError(Refusal.UNKNOWN_TASK) from None
        except OutboundGuardError:
            raise _RefusedError(Refusal.OUTBOUND_GUARD) from None

    def _refuse(self, order: Order, reason: Refusal) -> bytes:
        withdrawal = b""
        if reason is Refusal.CONSENT_WITHDRAWN:
            withdrawal = self._consent.signed_receipt(order.purpose)
        refusal = self._signed_refusal(order.task_id, reason, withdrawal)
        self._log(lambda: self._entry(order, "refusal", refusal, reason=reason))
        return refusal

    def _refuse_unverified(self, task_id: str) -> bytes:
        refusal = self._signed_refusal(task_id, Refusal.UNTRUSTED_ORDER)
        self._log(lambda: self._counted(len(refusal)))
        return refusal

    def _signed_refusal(self, task_id: str, reason: Refusal, receipt: bytes = b"") -> bytes:
        return Declined(
            task_id=task_id,
            device=self._signer.public_key_hex,
            reason=reason,
            receipt=receipt,
        ).to_bytes(self._signer)

    def _log(self, entry: Callable[[], TransparencyEntry]) -> None:
        try:
            with self._lock:
                self._vault.write(entry().to_record())
        except Exception:  # noqa: BLE001 - a vault that fails must not turn a no into silence
            return

    def _counted(self, length: int) -> TransparencyEntry:
        fresh = TransparencyEntry(
            time_s=self._clock.now_s(), sent="unverified", bytes_sent=length, promise={}
        )
        record = fresh.to_record()
        earlier = self._vault.read(record.stream, record.key)
        times = 0 if earlier is None else TransparencyEntry.from_json(earlier).times
        return TransparencyEntry(**{**vars(fresh), "times": times + 1})

    def _entry(
        self,
        order: Order,
        sent: Sent,
        message: bytes,
        *,
        vector: SparseVector | None = None,
        reason: Refusal | None = None,
    ) -> TransparencyEntry:
        return TransparencyEntry(
            time_s=self._clock.now_s(),
            sent=sent,
            bytes_sent=len(message),
            task_id=order.task_id,
            task=order.kind.value,
            purpose=order.purpose.value,
            population=order.population,
            round=order.round,
            reason="" if reason is None else reason.value,
            norm=None if vector is None else vector.norm(),
            clip_norm=message_norm(
                clip_norm=order.clip_norm,
                noise_multiplier=read_local_noise(order),
                dimension=order.dimension,
            ),
            entries=0 if vector is None else int(vector.indices.size),
            promise=order.promise,
        )


def _read(data: bytes, state: DeviceState | None) -> tuple[Order | None, bool, bool]:
    """Give the order (None for no order), whether it is an invitation, whether it is trusted."""
    try:
        frame = read_frame(data)
        order = Order.from_frame(frame)
    except WireFormatError:
        return None, False, False
    trusted = state is not None and frame.verify(state.aggregator_key)
    return order, frame.kind is FrameKind.INVITATION, trusted
