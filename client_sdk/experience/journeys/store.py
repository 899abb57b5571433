"""Where the states of journeys lie: in the vault, sealed like everything about the person."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from client_sdk.experience.decision_log import RecordStore
from client_sdk.experience.journeys.state import JourneyState
from client_sdk.signals.records import Record

STREAM: Final = "journeys"


class JourneyStore:
    """Keeps one state for each journey.

    Args:
        vault: Keeps them.
        lock: Shared with whoever else uses the vault.
    """

    def __init__(self, *, vault: RecordStore, lock: AbstractContextManager[object]) -> None:
        self._vault = vault
        self._lock = lock

    def read(self, journey: str) -> JourneyState | None:
        """Give where the person is in a journey; None where they never were in it.

        Raises:
            StaleJourneyError: what is stored is not as it was written.
        """
        with self._lock:
            kept = self._vault.read(STREAM, journey)
        return None if kept is None else JourneyState.from_json(kept)

    def write(self, state: JourneyState) -> None:
        """Keep a state in place of an older one: durable, so that no cap is forgotten.

        Raises:
            VaultError: it could not be written; the older one stays.
        """
        record = Record(stream=STREAM, key=state.journey, value=state.to_json())
        with self._lock:
            self._vault.write(record, durable=True)

    def forget(self, *journeys: str) -> int:
        """Forget where the person is; give how many journeys those were."""
        with self._lock:
            return self._vault.forget_records(STREAM, *journeys)
