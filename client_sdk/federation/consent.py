"""Consent: what the person said yes to, purpose by purpose, with signed receipts.

Rules a reader can check line by line:

1. The default is no. So is every state but `ConsentState.GRANTED`: withdrawn, expired, and a yes
   to a text that is no longer the current one.
2. A yes to `Purpose.PERSONALISE` counts as long as its own paragraph stands unchanged. A yes to
   what leaves the device counts only for the very policy that was shown: the receipt has its hash.
3. Every answer is a `ConsentReceipt` signed by the device and kept, with the paragraph that the
   person read, in the vault. Older answers stay as history.
4. A withdrawal is durable before `ConsentCentre.withdraw` returns, and counts from that moment on.
5. A later answer has a later time, even within one second or after a clock was set back, so that
   nobody who sees two receipts can take the older one for the newer.
6. While the person's pause lasts, a yes stands at `ConsentState.PAUSED` and does not count. A pause
   is no withdrawal: nothing is signed, and the yes counts again when the pause is over.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from client_sdk.errors import ConsentRequiredError
from client_sdk.federation.consent_record import ConsentAnswer, Controller, consent_record
from client_sdk.ports import Clock
from client_sdk.signals.vault import Record, Vault
from client_sdk.wire import ConsentPolicy, ConsentReceipt, Purpose, Signer

__all__ = [
    "CONSENT_STREAM",
    "ConsentAnswer",
    "ConsentCentre",
    "ConsentState",
    "ConsentStatus",
]

CONSENT_STREAM: Final = "consent"


class ConsentState(StrEnum):
    """Where one purpose stands; only ``granted`` is a yes."""

    NEVER_ASKED = "never asked"
    GRANTED = "granted"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    TEXT_CHANGED = "text changed"
    PAUSED = "paused"


@dataclass(frozen=True, kw_only=True)
class ConsentStatus:
    """Where one purpose stands, and since when.

    Attributes:
        state: One of `ConsentState`.
        answered_at_s: When the person last answered, seconds since 1970 (UTC); None if never.
        expires_at_s: When a yes ends; None where there is no yes.
    """

    state: ConsentState
    answered_at_s: int | None = None
    expires_at_s: int | None = None


class ConsentCentre:
    """Asks nothing by itself: the app shows `text` and reports the person's answer.

    Args:
        vault: Keeps the answers.
        signer: The device's key.
        policy: The current text.
        clock: Tells the time.
        lock: Shared with whoever else uses the vault.
        answers: What the vault holds, oldest first.
        paused: Says whether the person's pause lasts now; never by default.
        withdrawn: Called when the person said no to something, before `withdraw` returns.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        signer: Signer,
        policy: ConsentPolicy,
        clock: Clock,
        lock: AbstractContextManager[object],
        answers: list[ConsentAnswer],
        paused: Callable[[], bool] = lambda: False,
        withdrawn: Callable[[], None] = lambda: None,
    ) -> None:
        self._vault = vault
        self._signer = signer
        self._policy = policy
        self._clock = clock
        self._lock = lock
        self._answers = answers
        self._paused = paused
        self._withdrawn = withdrawn
        self._latest = {answer.receipt.purpose: answer for answer in answers}

    @property
    def policy(self) -> ConsentPolicy:
        """The current text, one paragraph a purpose."""
        return self._policy

    def text(self, purpose: Purpose | str) -> str:
        """The paragraph to show before asking for one purpose."""
        return self._policy.texts[_purpose(purpose)]

    def grant(self, *purposes: Purpose | str) -> None:
        """Record that the person read the current text and said yes.

        Raises:
            ValueError: no purpose, or an unknown one.
        """
        self._answer(purposes, granted=True)

    def withdraw(self, *purposes: Purpose | str) -> None:
        """Record that the person says no from now on; durable when this returns.

        Raises:
            ValueError: no purpose, or an unknown one.
        """
        self._answer(purposes, granted=False)

    def status(self) -> dict[Purpose, ConsentStatus]:
        """Say where each purpose stands."""
        with self._lock:
            return {purpose: self._status(purpose) for purpose in Purpose}

    def state(self, purpose: Purpose | str) -> ConsentState:
        """Say where one purpose stands."""
        with self._lock:
            return self._status(_purpose(purpose)).state

    def allows(self, purpose: Purpose | str) -> bool:
        """Say whether there is a yes to the purpose now."""
        return self.state(purpose) is ConsentState.GRANTED

    def require(self, purpose: Purpose | str) -> None:
        """Return only if there is a yes to the purpose now.

        Raises:
            ConsentRequiredError: there is none; the message says how it stands.
        """
        wanted = _purpose(purpose)
        state = self.state(wanted)
        if state is not ConsentState.GRANTED:
            what_to_do = (
                "wait for the end of the pause, which is the person's to choose"
                if state is ConsentState.PAUSED
                else "show the text and ask the person"
            )
            raise ConsentRequiredError(
                f"consent to {wanted.value!r} is needed and stands at {state.value!r}: {what_to_do}"
            )

    def receipt(self, purpose: Purpose | str) -> ConsentReceipt | None:
        """The receipt of the latest answer for a purpose, yes or no; None if never asked."""
        with self._lock:
            answer = self._latest.get(_purpose(purpose))
        return None if answer is None else answer.receipt

    def signed_receipt(self, purpose: Purpose | str) -> bytes:
        """The same receipt as signed bytes; empty if never asked."""
        with self._lock:
            answer = self._latest.get(_purpose(purpose))
        return b"" if answer is None else answer.signed

    def history(self) -> tuple[ConsentAnswer, ...]:
        """Every answer of the person, oldest first."""
        with self._lock:
            return tuple(self._answers)

    def records(self, controller: Controller | None = None) -> list[dict[str, Any]]:
        """Every answer as a record with the fields of ISO/IEC TS 27560, oldest first.

        Args:
            controller: Who answers for the processing; "not stated" in each record by default.
        """
        with self._lock:
            answers, policy = tuple(self._answers), self._policy
        return [consent_record(answer, policy, controller) for answer in answers]

    def change_policy(self, policy: ConsentPolicy) -> None:
        """Make another text the current one, as a release does."""
        with self._lock:
            self._policy = policy

    def _answer(self, names: tuple[Purpose | str, ...], *, granted: bool) -> None:
        if not names:
            raise ValueError(f"name at least one purpose of {[str(name) for name in Purpose]}")
        purposes = [_purpose(name) for name in names]
        with self._lock:
            answers = [self._sign(purpose, granted=granted) for purpose in purposes]
            self._vault.write(
                *(
                    Record(
                        stream=CONSENT_STREAM,
                        key=answer.receipt.receipt_id,
                        value=answer.to_json(),
                    )
                    for answer in answers
                ),
                # A yes that a loss of power takes back is asked for again; a no has to stand.
                durable=not granted,
            )
            for answer in answers:
                self._answers.append(answer)
                self._latest[answer.receipt.purpose] = answer
            if not granted:
                self._withdrawn()

    def _sign(self, purpose: Purpose, *, granted: bool) -> ConsentAnswer:
        latest = self._latest.get(purpose)
        now_s = int(self._clock.now_s())
        issued_at_s = now_s if latest is None else max(now_s, latest.receipt.issued_at_s + 1)
        receipt = ConsentReceipt(
            receipt_id=secrets.token_hex(16),
            device=self._signer.public_key_hex,
            purpose=purpose,
            granted=granted,
            policy_version=self._policy.version,
            policy_sha256=self._policy.sha256,
            issued_at_s=issued_at_s,
            expires_at_s=issued_at_s + self._policy.valid_for_s,
        )
        return ConsentAnswer(
            receipt=receipt,
            signed=receipt.to_bytes(self._signer),
            text=self._policy.texts[purpose],
        )

    def _status(self, purpose: Purpose) -> ConsentStatus:
        answer = self._latest.get(purpose)
        if answer is None:
            return ConsentStatus(state=ConsentState.NEVER_ASKED)
        receipt = answer.receipt
        if not receipt.granted:
            return ConsentStatus(state=ConsentState.WITHDRAWN, answered_at_s=receipt.issued_at_s)
        if not receipt.allows(purpose, now_s=self._clock.now_s()):
            state = ConsentState.EXPIRED
        elif not self._stands(answer):
            state = ConsentState.TEXT_CHANGED
        elif self._paused():
            state = ConsentState.PAUSED
        else:
            state = ConsentState.GRANTED
        return ConsentStatus(
            state=state,
            answered_at_s=receipt.issued_at_s,
            expires_at_s=receipt.expires_at_s,
        )

    def _stands(self, answer: ConsentAnswer) -> bool:
        purpose = answer.receipt.purpose
        if purpose is Purpose.PERSONALISE:
            return answer.text == self._policy.texts[purpose]
        return answer.receipt.policy_sha256 == self._policy.sha256


def _purpose(name: Purpose | str) -> Purpose:
    try:
        return Purpose(name)
    except ValueError:
        raise ValueError(
            f"a purpose is one of {[purpose.value for purpose in Purpose]}; got another word"
        ) from None
