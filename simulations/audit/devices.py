"""The devices of an audit: real ones, and accomplices who keep to none of a device's rules.

A *real device* is the code that ships: an encrypted vault on disk, consent, participation, guard,
transparency log (`client_sdk.federation.Participant`); only its encoder is the canary's, and it
asks for far more than the clip allows. In a histogram the encoder is the shipped one, too.

An *accomplice* (`simulations.scripted`) signs and consents as it must, but exaggerates a million
times and takes part whenever it is asked. What is claimed has to hold for it as well, because the
aggregator clips and counts by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Final, Self

import numpy as np
from flwr.app import Message

from client_sdk.federation import ConsentCentre, DeviceState, Participant
from client_sdk.federation.encoders import ENCODERS, EncoderInput
from client_sdk.federation.flower_device import handle_message
from client_sdk.intelligence import History
from client_sdk.keys import DeviceKey
from client_sdk.signals import Vault
from client_sdk.testing import FixedClock, MemoryKeyStore
from client_sdk.wire import DEFAULT_POLICY, Order, Purpose, SparseVector, TaskKind
from simulations.scripted import Behaviour, ScriptedDevice

NOW_S: Final = 1_800_000_000
CATALOGUE_SHA256: Final = "0" * 64
_TOO_MUCH: Final = np.float32(8.0)

Node = Callable[[Message], Message | None]


class RealDevice:
    """One device with a vault of its own.

    Args:
        directory: Of the vault; made.
        aggregator_key: Whose orders it obeys.
        kind: The task that it will be asked for.
        vector: What its encoder gives; None for the shipped encoder on ``item``.
        item: The one thing in its history, by catalogue row.
        n_items: Size of the catalogue.
    """

    def __init__(
        self,
        directory: Path,
        *,
        aggregator_key: str,
        kind: TaskKind,
        vector: SparseVector | None,
        item: int,
        n_items: int,
    ) -> None:
        self._vault = Vault.open(directory, MemoryKeyStore())
        self._signer, lock, clock = DeviceKey.generate(), RLock(), FixedClock(NOW_S)
        consent = ConsentCentre(
            vault=self._vault,
            signer=self._signer,
            policy=DEFAULT_POLICY,
            clock=clock,
            lock=lock,
            answers=[],
        )
        consent.grant(*Purpose)
        history = History.from_events(items=[item], times_s=[NOW_S - 1.0], now_s=float(NOW_S))
        state = DeviceState(
            aggregator_key=aggregator_key,
            catalogue_sha256=CATALOGUE_SHA256,
            given=lambda _: EncoderInput(history=history, n_items=n_items),
        )

        def encode(order: Order, given: EncoderInput) -> SparseVector:
            if vector is None:
                return ENCODERS[kind](order, given)
            return replace(vector, values=vector.values * _TOO_MUCH)

        self._participant = Participant(
            vault=self._vault,
            consent=consent,
            signer=self._signer,
            clock=clock,
            lock=lock,
            device_state=lambda: state,
            encoders={kind: encode},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._vault.close()

    @property
    def public_key_hex(self) -> str:
        """The key under which it is enrolled."""
        return self._signer.public_key_hex

    @property
    def node(self) -> Node:
        """The device as the grid reaches it."""
        return partial(handle_message, self._participant.answer)


def accomplice(vector: SparseVector) -> ScriptedDevice:
    """Make a device that exaggerates its vector and never says no."""
    return _scripted(vector, Behaviour.EXAGGERATES)


def bystander(vector: SparseVector) -> ScriptedDevice:
    """Make a device that is there so that a round has somebody in it."""
    return _scripted(vector, Behaviour.HONEST)


def _scripted(vector: SparseVector, behaviour: Behaviour) -> ScriptedDevice:
    return ScriptedDevice(
        vector=vector,
        consented_at_s=NOW_S - 60,
        behaviour=behaviour,
        signer=DeviceKey.generate(),
        other=_NOBODY,
    )


_NOBODY: Final = DeviceKey(bytes(32))
