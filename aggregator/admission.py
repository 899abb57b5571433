"""Who may be added to one task's sum: bytes in, verdict out.

Rules a reader can check line by line. A device's answer is admitted only if every one of them
holds, in this order; the first that fails is the reason that is counted.

1. The task is still open by the aggregator's clock (`LATE`).
2. The frame is no longer than the order allows, checked before a byte is parsed (`OVERSIZED`).
3. It is one well-formed answer of the expected kind (`MALFORMED`), signed by the device that it
   names (`BAD_SIGNATURE`).
4. That device is the one enrolled for the node that was asked (`UNKNOWN_DEVICE`): a node cannot
   answer for another, whatever the transport lets it claim.
5. It is about this task (`WRONG_TASK`; `REPLAYED` where the task is an earlier one of ours).
6. A device's own refusal is counted under the device's own word for it.
7. It carries a consent receipt (`NO_CONSENT`) that the same device signed, for this order's purpose
   and policy text, not dated in the future (`BAD_RECEIPT`), not a withdrawal and not overtaken by
   one (`CONSENT_WITHDRAWN`), not expired (`CONSENT_EXPIRED`).
8. The device has not contributed to this task yet, under this node or another (`REPLAYED`), and
   its earlier rounds of the same run leave room for this one (`PARTICIPATION_EXCEEDED`; looked up
   before the order is sent, and again right before the vector is added).
9. The vector has the order's dimension (`WRONG_SHAPE`) and only finite entries (`NOT_FINITE`). Its
   norm is not a reason: the sum clips it.

A withdrawal is recorded whenever one is seen, even if the rest of the answer is refused. Each node
is counted once: the last verdict about it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from client_sdk.wire import (
    Acceptance,
    Answer,
    ConsentReceipt,
    Contribution,
    Declined,
    Order,
    Purpose,
    Refusal,
    SparseVector,
    WireFormatError,
    WireSignatureError,
    read_answer,
    read_frame,
)

CLOCK_SKEW_S: Final = 300.0
_FRAME_OVERHEAD_BYTES: Final = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A device's latest answer for one purpose.

    Attributes:
        granted: True for consent; False for a withdrawal.
        issued_at_s: When the person answered, seconds since 1970 (UTC).
    """

    granted: bool
    issued_at_s: int


class Consents(Protocol):
    """Where the latest receipt of each device and purpose is kept."""

    def record(self, receipt: ConsentReceipt, frame: bytes) -> None:
        """Keep a verified receipt unless a newer answer of that device is known."""
        ...

    def standing(self, device: str, purpose: Purpose) -> Standing | None:
        """Return the latest answer, or None where there is none."""
        ...


MayTakePart = Callable[[str], bool]
"""Says of a device's public key whether it may be in the present round of its run."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was decided about one answer.

    Attributes:
        refusal: Why the answer was not admitted; None where it was.
        vector: The admitted contribution; None for an acceptance or a refusal.
    """

    refusal: Refusal | None = None
    vector: SparseVector | None = None

    def __post_init__(self) -> None:
        if self.refusal is not None and self.vector is not None:
            raise ValueError("a refused contribution has no vector")

    @property
    def admitted(self) -> bool:
        """True where nothing stands in the way."""
        return self.refusal is None


class _RefusedError(Exception):
    """Carries a reason from the rule that failed to the verdict; never leaves this module."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


def frame_limit_bytes(order: Order) -> int:
    """Largest answer to ``order`` in bytes: a dense vector, its header and its receipt.

    >>> from client_sdk.wire import TaskKind
    >>> frame_limit_bytes(Order(
    ...     task_id="0" * 32, kind=TaskKind.ITEM_COUNTS, population="demo", round=0,
    ...     policy_sha256="0" * 64, catalogue_sha256="0" * 64, dimension=1000, clip_norm=1.0,
    ...     closes_at_s=0, promise={}, parameters={}, payload_sha256="0" * 64))
    20384
    """
    return 4 * order.dimension + _FRAME_OVERHEAD_BYTES


class Admission:
    """The state of one task's admission.

    Args:
        order: What was asked.
        directory: Node id to the public key (64 hexadecimal digits) of the device enrolled for it.
        consents: The registry of receipts.
        clock: Seconds since 1970 (UTC).
        max_frame_bytes: Largest answer; by default what the order's dimension needs.
        earlier_tasks: Ids of tasks that this aggregator ran before.
        may_take_part: Of a round of a run; a task of one round asks nothing.
    """

    def __init__(
        self,
        *,
        order: Order,
        directory: Mapping[int, str],
        consents: Consents,
        clock: Callable[[], float],
        max_frame_bytes: int | None = None,
        earlier_tasks: Container[str] = frozenset(),
        may_take_part: MayTakePart | None = None,
    ) -> None:
        self._order = order
        self._directory = directory
        self._consents = consents
        self._clock = clock
        self._max_frame_bytes = max_frame_bytes or frame_limit_bytes(order)
        self._earlier_tasks = earlier_tasks
        self._may_take_part = may_take_part
        self._contributed: set[str] = set()
        self._refused: dict[int, Refusal] = {}

    @property
    def refusals(self) -> Counter[Refusal]:
        """How many nodes were refused, by reason."""
        return Counter(self._refused.values())

    @property
    def contributors(self) -> frozenset[str]:
        """Public keys of the devices whose vectors were admitted."""
        return frozenset(self._contributed)

    def check_node(self, node_id: int) -> Verdict:
        """Decide whether a node may be invited at all: a device must be enrolled for it."""
        if node_id in self._directory:
            return Verdict()
        return self.refuse(node_id, Refusal.UNKNOWN_DEVICE)

    def check_acceptance(self, node_id: int, frame: bytes) -> Verdict:
        """Decide whether the node may get the order.

        Args:
            node_id: The node that was invited.
            frame: What came back.

        Returns:
            An admitting verdict without a vector, or a refusal. Never raises for what is in
            ``frame``.
        """
        try:
            self._require_acceptance(node_id, frame)
        except _RefusedError as refused:
            return self.refuse(node_id, refused.reason)
        return Verdict()

    def check_contribution(self, node_id: int, frame: bytes) -> Verdict:
        """Decide whether the node's vector may be added; call it right before adding.

        Args:
            node_id: The node that got the order.
            frame: What came back.

        Returns:
            A verdict with the vector, or a refusal. Never raises for what is in ``frame``.
        """
        try:
            contribution = self._require_contribution(node_id, frame)
        except _RefusedError as refused:
            return self.refuse(node_id, refused.reason)
        self._contributed.add(contribution.device)
        return Verdict(vector=contribution.vector)

    def refuse(self, node_id: int, reason: Refusal) -> Verdict:
        """Count a node under ``reason``, in place of an earlier reason of that node."""
        self._refused[node_id] = reason
        return Verdict(refusal=reason)

    def _require_acceptance(self, node_id: int, frame: bytes) -> None:
        answer = self._read(node_id, frame)
        if not isinstance(answer, Acceptance):
            raise _RefusedError(Refusal.MALFORMED)
        self._check_consent(answer.device, answer.receipt)
        self._check_participation(answer.device)

    def _require_contribution(self, node_id: int, frame: bytes) -> Contribution:
        answer = self._read(node_id, frame)
        if not isinstance(answer, Contribution):
            raise _RefusedError(Refusal.MALFORMED)
        self._check_consent(answer.device, answer.receipt)
        if answer.device in self._contributed:
            raise _RefusedError(Refusal.REPLAYED)
        self._check_participation(answer.device)
        if answer.vector.dimension != self._order.dimension:
            raise _RefusedError(Refusal.WRONG_SHAPE)
        if not np.isfinite(answer.vector.values).all():
            raise _RefusedError(Refusal.NOT_FINITE)
        return answer

    def _read(self, node_id: int, frame: bytes) -> Answer:
        """Apply the rules that hold for every answer (1 to 6)."""
        if self._clock() >= self._order.closes_at_s:
            raise _RefusedError(Refusal.LATE)
        if len(frame) > self._max_frame_bytes:
            raise _RefusedError(Refusal.OVERSIZED)
        try:
            answer = read_answer(read_frame(frame))
        except WireSignatureError:
            raise _RefusedError(Refusal.BAD_SIGNATURE) from None
        except WireFormatError:
            raise _RefusedError(Refusal.MALFORMED) from None
        if self._directory.get(node_id) != answer.device:
            raise _RefusedError(Refusal.UNKNOWN_DEVICE)
        if isinstance(answer, Declined) and answer.receipt:
            self._note_withdrawal(answer)
        if answer.task_id != self._order.task_id:
            earlier = answer.task_id in self._earlier_tasks
            raise _RefusedError(Refusal.REPLAYED if earlier else Refusal.WRONG_TASK)
        if isinstance(answer, Declined):
            raise _RefusedError(answer.reason)
        return answer

    def _check_participation(self, device: str) -> None:
        if self._may_take_part is not None and not self._may_take_part(device):
            raise _RefusedError(Refusal.PARTICIPATION_EXCEEDED)

    def _note_withdrawal(self, answer: Declined) -> None:
        try:
            receipt = ConsentReceipt.from_bytes(answer.receipt)
        except WireFormatError:
            return
        if receipt.device == answer.device and not receipt.granted:
            self._consents.record(receipt, answer.receipt)

    def _check_consent(self, device: str, frame: bytes) -> None:
        """Apply rule 7, and record what the receipt says."""
        if not frame:
            raise _RefusedError(Refusal.NO_CONSENT)
        try:
            receipt = ConsentReceipt.from_bytes(frame)
        except WireFormatError:
            raise _RefusedError(Refusal.BAD_RECEIPT) from None
        order, now_s = self._order, self._clock()
        if receipt.device != device or receipt.purpose is not order.purpose:
            raise _RefusedError(Refusal.BAD_RECEIPT)
        if not receipt.granted:
            self._consents.record(receipt, frame)
            raise _RefusedError(Refusal.CONSENT_WITHDRAWN)
        # A grant dated in the future would outlive the withdrawal that the person makes today.
        dated_ahead = receipt.issued_at_s > now_s + CLOCK_SKEW_S
        if dated_ahead or receipt.policy_sha256 != order.policy_sha256:
            raise _RefusedError(Refusal.BAD_RECEIPT)
        standing = self._consents.standing(device, order.purpose)
        if standing is not None and not standing.granted and not supersedes(receipt, standing):
            raise _RefusedError(Refusal.CONSENT_WITHDRAWN)
        if not receipt.allows(order.purpose, now_s=now_s):
            raise _RefusedError(Refusal.CONSENT_EXPIRED)
        if standing is None or supersedes(receipt, standing):
            self._consents.record(receipt, frame)


def supersedes(newer: Standing | ConsentReceipt, held: Standing | ConsentReceipt) -> bool:
    """Say whether ``newer`` replaces ``held``: later wins, and a tie favours the withdrawal."""
    if newer.issued_at_s != held.issued_at_s:
        return newer.issued_at_s > held.issued_at_s
    return held.granted and not newer.granted
