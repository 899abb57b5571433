"""What simulated people's devices hold: the release that all have loaded, and each one's history.

Plain data, read and never changed by an engine, so that threads and other processes may share it.
"""

from __future__ import annotations

from dataclasses import dataclass

from client_sdk.wire.table import RankerSettings
from simulations.engines.columns import HistoryColumns


@dataclass(frozen=True, kw_only=True)
class ActiveRelease:
    """What every device has verified and loaded.

    Attributes:
        catalogue_sha256: Which catalogue.
        policy_sha256: The consent text that people said yes to.
        n_items: Length of the catalogue.
        settings: Of the release's table; None before any model.
        rank: Of the release's graph; None before any model.
        batch: Rows a call of that graph.
    """

    catalogue_sha256: str
    policy_sha256: str
    n_items: int
    settings: RankerSettings | None = None
    rank: int | None = None
    batch: int = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Holdings:
    """What devices compute their contributions from.

    Attributes:
        release: What each device has loaded.
        histories: What each person did; their number is their place.
    """

    release: ActiveRelease
    histories: HistoryColumns

    @property
    def people(self) -> int:
        """How many there are."""
        return self.histories.people
