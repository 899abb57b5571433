"""A ledger in which what a killed process booked is not booked again.

Guarantee: each release has one reservation over all processes that work on a simulation, and none
is given back after it was committed.

| found in the ledger | a task is reserved again |
|---|---|
| nothing, or voided | reserved |
| reserved | that reservation goes on: nobody saw anything |
| committed, seeded noise | that one goes on: it is the same release, bit for bit |
| committed, noise of the system | `RunStateError`: another noise would be another release |
| another release under this task id | `RunStateError` |
"""

from __future__ import annotations

from dataclasses import dataclass

from aggregator.errors import RunStateError
from aggregator.run_plan import RunLedger
from aggregator.strategy import ReleaseLedger
from privacy.chain import Reservation, RowKind
from privacy.events import NoiseSource, ReleaseEvent


@dataclass(frozen=True, kw_only=True)
class OnceBooked:
    """A ledger in which a release that a killed process booked is not booked again.

    Attributes:
        inner: Books.
        booked: Knows what was booked.
    """

    inner: ReleaseLedger
    booked: RunLedger

    def reserve(self, event: ReleaseEvent) -> str:
        """Reserve a release, or find its reservation.

        Raises:
            RunStateError: it was booked, and can't be made again.
        """
        found = self.booked.reservation_for(event.task_id)
        if found is None or not found.counts:
            return self.inner.reserve(event)
        if found.event != event:
            raise RunStateError(f"task {event.task_id} was booked as another release")
        seeded = event.noise_source is NoiseSource.SEEDED_SIMULATION
        if found.state is RowKind.COMMIT and not seeded:
            raise RunStateError(
                f"task {event.task_id} was released with noise that nobody kept; it stays spent, "
                "and can't be made again: take another folder"
            )
        return found.id

    def commit(self, reservation: str, accepted: int) -> None:
        """Commit, where that was not done; with the same number of contributions.

        Raises:
            RunStateError: the release was another one.
        """
        found = self._committed(reservation)
        if found is None:
            self.inner.commit(reservation, accepted)
        elif found.accepted != accepted:
            raise RunStateError(f"the release had {found.accepted} contributions, not {accepted}")

    def void(self, reservation: str, reason: str) -> None:
        """Give the cost back, unless it was committed: then it stays spent."""
        if self._committed(reservation) is None:
            self.inner.void(reservation, reason)

    def _committed(self, reservation: str) -> Reservation | None:
        for each in self.booked.reservations():
            if each.id == reservation and each.state is RowKind.COMMIT:
                return each
        return None
