"""Real devices, one for each person in the data: stores on disk, keys, consent, and a shared clock.

Time stands still at `SIMULATED_NOW_S`, and each person's history is moved so that their held-out
occasion begins now: recency is what it was, and every run gives the same bits.

What a person answers when asked for consent is drawn once for the whole population (`Attitude`), so
that every arm is learned from the same people.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

import numpy as np
from flwr.app import Message

from client_sdk import Homebody
from client_sdk.federation.flower_device import handle_message
from client_sdk.intelligence import History
from client_sdk.ports import Clock
from client_sdk.signals.activity import Activity
from client_sdk.signals.events import Event
from client_sdk.testing import FixedClock, MemoryKeyStore
from client_sdk.wire import (
    Catalogue,
    FrameKind,
    Order,
    Purpose,
    TaskKind,
    WireFormatError,
    read_frame,
)
from simulations.data.interactions import EVENT_KINDS
from simulations.evaluation.split import Split
from simulations.settings import SettingsError

SIMULATED_NOW_S: Final = 1_767_225_600.0  # 2026-01-01T00:00:00Z
REFUSING_SHARE: Final = 0.12
WITHDRAWING_SHARE: Final = 0.03
_FILES_A_DEVICE: Final = 6
_FILES_BESIDE: Final = 512
_TOGETHER: Final = (Purpose.TRAIN, Purpose.STATISTICS)


class Attitude(StrEnum):
    """What a person answers when asked to help learn together."""

    WILLING = "willing"
    REFUSES = "refuses"
    WITHDRAWS_MIDWAY = "withdraws midway"


@dataclass(frozen=True, kw_only=True)
class Person:
    """One simulated person: a number, an attitude, and a device that is real.

    Attributes:
        number: Row in the data; the Flower node id is one more.
        attitude: What they answer.
        device: Their store, opened.
    """

    number: int
    attitude: Attitude
    device: Homebody

    def node(self, message: Message) -> Message | None:
        """Be the Flower node of this device."""
        return handle_message(self.answer, message)

    def answer(self, frame: bytes) -> bytes:
        """Answer one frame, as the app's SDK does."""
        if self.attitude is Attitude.WITHDRAWS_MIDWAY and _is_model_order(frame):
            # The order is on the device, the work not begun: the person changes their mind.
            self.device.consent.withdraw(*_TOGETHER)
        return self.device.answer(frame)


class Population:
    """All devices of one simulation.

    Args:
        directory: Where the stores are made.
        split: Histories that the devices hold, and when each is asked for the next list.
        catalogue: The items.
        server_url: The model server.
        trusted_root: What the app ships to verify it.
        seed: Of the attitudes.
        clock: The devices' clock; by default it stands still at `SIMULATED_NOW_S`.
        on_device: Called after each device is filled.

    Raises:
        SettingsError: this machine does not allow so many open stores.
    """

    def __init__(
        self,
        directory: Path,
        *,
        split: Split,
        catalogue: Catalogue,
        server_url: str,
        trusted_root: bytes,
        seed: int,
        clock: Clock | None = None,
        on_device: Callable[[], None] = lambda: None,
    ) -> None:
        _allow_open_files(split.train.n_people * _FILES_A_DEVICE)
        self.clock: Clock = clock or FixedClock(SIMULATED_NOW_S)
        self._people: list[Person] = []
        attitudes = draw_attitudes(split.train.n_people, seed=seed)
        for number, attitude in enumerate(attitudes):
            device = Homebody.open(
                directory / f"device-{number:06d}",
                catalogue=catalogue,
                key_store=MemoryKeyStore(),
                clock=self.clock,
                server_url=server_url,
                trusted_root=trusted_root,
            )
            self._people.append(Person(number=number, attitude=attitude, device=device))
            device.consent.grant(Purpose.PERSONALISE)
            device.track_many(events_of(split, catalogue, number))
            on_device()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for person in self._people:
            person.device.close()

    def __len__(self) -> int:
        return len(self._people)

    @property
    def people(self) -> Sequence[Person]:
        """Everyone, by number."""
        return self._people

    @property
    def directory(self) -> dict[int, str]:
        """Flower node id to the device's public key: what enrolment would have stored."""
        return {person.number + 1: person.device.device for person in self._people}

    @property
    def nodes(self) -> dict[int, Callable[[Message], Message | None]]:
        """Flower node id to the device."""
        return {person.number + 1: person.node for person in self._people}

    def ask_consent(self) -> Counter[Attitude]:
        """Ask everyone for consent to learn together, and record what they answer.

        Returns:
            How many people have which attitude.
        """
        for person in self._people:
            consent = person.device.consent
            if person.attitude is not Attitude.REFUSES and not consent.allows(Purpose.TRAIN):
                consent.grant(*_TOGETHER)
        return Counter(person.attitude for person in self._people)


def draw_attitudes(people: int, *, seed: int) -> list[Attitude]:
    """Draw what each person will answer, with the shares of this module.

    Example:
        >>> draw_attitudes(100, seed=1).count(Attitude.REFUSES)
        12
    """
    refusing = round(REFUSING_SHARE * people)
    withdrawing = round(WITHDRAWING_SHARE * people)
    order = np.random.default_rng(seed).permutation(people)
    attitudes = [Attitude.WILLING] * people
    for person in order[:refusing]:
        attitudes[person] = Attitude.REFUSES
    for person in order[refusing : refusing + withdrawing]:
        attitudes[person] = Attitude.WITHDRAWS_MIDWAY
    return attitudes


def events_of(
    split: Split, catalogue: Catalogue, person: int, *, now_s: float = SIMULATED_NOW_S
) -> list[Event]:
    """Give one person's training history as events, moved so that they are asked now."""
    rows = split.train.of_person(person)
    shift_s = now_s - float(split.now_s[person])
    items = catalogue.items
    return [
        Event(
            kind=EVENT_KINDS[kind],
            time_s=float(time_s) + shift_s,
            item_id=items[item].item_id,
            event_id=f"{person}-{row}",
            quantity=float(quantity) if quantity > 0 else None,
            price=None if np.isnan(price) else float(price),
        )
        for row, (kind, time_s, item, quantity, price) in enumerate(
            zip(rows.kinds, rows.times_s, rows.items, rows.quantities, rows.prices, strict=True)
        )
    ]


def histories_of(split: Split, catalogue: Catalogue) -> tuple[History, ...]:
    """Give everyone's history as their device would hold it, without opening a device."""
    return tuple(
        Activity(events_of(split, catalogue, person)).history(
            catalogue.position, now_s=SIMULATED_NOW_S
        )
        for person in range(split.train.n_people)
    )


def _allow_open_files(needed: int) -> None:
    """Raise this process's limit of open files where the machine lets it; each store stays open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed + _FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise SettingsError(
                f"so many devices need {wanted:,} open files, and this machine allows {hard:,}; "
                "raise the limit (ulimit -Hn) or take fewer people"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_model_order(frame: bytes) -> bool:
    try:
        read = read_frame(frame)
        return read.kind is FrameKind.ORDER and Order.from_frame(read).kind is not (
            TaskKind.ITEM_COUNTS
        )
    except WireFormatError:
        return False
