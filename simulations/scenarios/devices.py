"""A real device in a scenario: what `Crowd` does by arrays, one device at a time, on the real SDK.

Rules a reader can check line by line:

1. The device's clock is the common one plus its skew, from the moment at which its store is made.
2. What the platform says (`client_sdk.ports.DeviceConditions`) is what the scenario says of the
   round that the device is asked for.
3. Out of reach, or dropped out, the device is not called at all. A straggler is called, and what it
   says is lost.
4. The person withdraws, or is asked again, before the device answers.

Not expressed: a consent that has run out, which needs a year; hostile devices, which are
`simulations.scripted` or `simulations.scenarios.attacks.tampered` around a device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from flwr.app import Message

from client_sdk import Homebody, ports
from client_sdk.federation.flower_device import handle_message
from client_sdk.wire import FrameKind, Order, Purpose, Refusal, TaskKind, read_frame
from simulations.engines.crowd import REASONS, WILLING, Answer, Circumstances, Moment

_TOGETHER: Final = (Purpose.TRAIN, Purpose.STATISTICS)
_ROOM_BYTES: Final = 1 << 40


@dataclass(frozen=True)
class SkewedClock:
    """The common clock, some seconds ahead.

    Attributes:
        common: Everyone's.
        ahead_s: By how much; negative for behind.
    """

    common: ports.Clock
    ahead_s: float

    def now_s(self) -> float:
        """Seconds since 1970 (UTC)."""
        return self.common.now_s() + self.ahead_s


@dataclass(kw_only=True)
class Platform:
    """What a scenario says of a device, as its operating system would.

    Attributes:
        busy: Why the device is not free; None where it is.
    """

    busy: Refusal | None = None

    def now(self) -> ports.Conditions:
        """How the device is now."""
        return ports.Conditions(
            idle=self.busy is not Refusal.NOT_IDLE,
            charging=self.busy is not Refusal.NOT_CHARGING,
            unmetered=self.busy is not Refusal.METERED,
            free_bytes=_ROOM_BYTES,
        )


@dataclass(kw_only=True)
class ScenarioDevice:
    """One person's real device, and what the scenario does to both.

    Attributes:
        person: Their number.
        device: Opened with the skewed clock and with ``platform``.
        platform: Told how the device is before each answer.
        conditions: The scenario's.
        clock: The common one.
    """

    person: int
    device: Homebody
    platform: Platform
    conditions: Circumstances
    clock: ports.Clock
    _asked_in: int = field(default=0, init=False)

    def first_answer(self) -> None:
        """Answer the first question, as the scenario says.

        Raises:
            ValueError: the scenario has a consent that ran out.
        """
        answer = self.conditions.first_answers(np.array([self.person]))[0]
        if answer == Answer.EXPIRED:
            raise ValueError("a consent that has run out needs the engine kernel")
        self.device.consent.grant(Purpose.PERSONALISE)
        if answer == Answer.GRANTED:
            self.device.consent.grant(*_TOGETHER)

    def node(self, message: Message) -> Message | None:
        """Be the Flower node of this device."""
        lost = False

        def answer(frame: bytes) -> bytes:
            nonlocal lost
            said = self.answer(frame)
            lost = said is None
            return said or b""

        reply = handle_message(answer, message)
        return None if lost else reply

    def answer(self, frame: bytes) -> bytes | None:
        """Answer a frame of the aggregator; None where nothing comes back in time."""
        asked = read_frame(frame)
        order = Order.from_frame(asked)
        moment = self.conditions.at(
            np.array([self.person]), round_number=order.round, time_s=self.clock.now_s()
        )
        free = moment.free[0]
        self.platform.busy = None if free == WILLING else REASONS[free]
        if asked.kind is FrameKind.INVITATION:
            if not moment.reachable[0]:
                return None
            self._ask_in_passing(order, moment)
            return self.device.answer(frame)
        if moment.drops_out[0]:
            return None
        if moment.withdraws[0] and order.kind is not TaskKind.ITEM_COUNTS:
            self.device.consent.withdraw(*_TOGETHER)
            self._asked_in = order.round
            return self.device.answer(frame)
        said = self.device.answer(frame)
        return None if moment.straggles[0] else said

    def _ask_in_passing(self, order: Order, moment: Moment) -> None:
        after = self.conditions.asks_again_after_rounds
        if after is None or self.device.consent.allows(order.purpose):
            return
        if order.round - self._asked_in >= after:
            self._asked_in = order.round
            if moment.agrees[0]:
                self.device.consent.grant(*_TOGETHER)
