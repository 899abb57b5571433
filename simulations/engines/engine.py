"""What an experiment needs of people, whoever asks them: the port that every engine implements.

| engine | people are | for |
|---|---|---|
| ``kernel`` | rows of columns (`simulations.engines.kernel`) | up to a million people, minutes |
| ``devices`` | real devices, called in this process | proof, and a roll-out |
| ``superlink`` | real devices over TLS through a real SuperLink | the wire, a few people |

Rules a reader can check line by line:

1. Same settings and seeds: the same people are accepted and refused under the same reasons, the
   sums are equal (to 1e-5), and the ledger books the same events, whichever engine asks.
2. People are numbered from 0 and are asked as node ``number + 1``, in every engine.
3. An engine that has no devices says so (`Engine.devices` is None); nothing is rolled out then.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.publishing import CheckedGraph
from aggregator.strategy import Progress as TaskReport
from client_sdk.ports import Clock
from client_sdk.wire import Catalogue
from client_sdk.wire.table import RankerTable
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import Circumstances
from simulations.engines.pool import ONE_THREAD, Pool
from simulations.evaluation.split import Split
from simulations.house import House
from simulations.population import Attitude, Population
from simulations.progress import Progress
from simulations.settings import EngineName


class RunningClock:
    """Simulated time that runs as fast as the real one.

    Args:
        start_s: What it shows now, seconds since 1970 (UTC).
        elapsed_s: Seconds that never go back.

    Example:
        >>> ticks = iter([5.0, 7.5])
        >>> RunningClock(100.0, elapsed_s=lambda: next(ticks)).now_s()
        102.5
    """

    def __init__(self, start_s: float, *, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._elapsed_s = elapsed_s
        self._offset_s = start_s - elapsed_s()

    def now_s(self) -> float:
        """Seconds since 1970 (UTC)."""
        return self._offset_s + self._elapsed_s()


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What an experiment fixes of a campaign.

    Attributes:
        population: Whose budget pays.
        privacy: The price.
        report_goal: Contributions that a round plans for.
        quorum: Fewest contributions for a release.
        on_progress: Told how far a task is.
    """

    population: str
    privacy: PrivacyTarget | UnsafeNoPrivacy
    report_goal: int
    quorum: int
    on_progress: TaskReport | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FirstTable:
    """The public table that training starts from.

    Attributes:
        table: Published before anyone is asked.
        graph: Gives the graph that goes with it; slow, and only real devices need it.
        rank: Of both.
    """

    table: RankerTable
    graph: Callable[[], CheckedGraph]
    rank: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """What an engine is made from.

    Attributes:
        folder: Where devices and processes may keep files.
        house: The operator's half.
        catalogue: The items.
        histories: What each device holds.
        split: The events behind the histories; None for synthetic people, who have none.
        clock: The time, for everyone.
        seed: Of what people answer when asked for consent.
        first: The table that is published first; None where the task needs none.
        progress: Told the stages.
        pool: Who adds up in the engine ``kernel``.
        conditions: What happens to people in the engine ``kernel`` (`simulations.scenarios`).
    """

    folder: Path
    house: House
    catalogue: Catalogue
    histories: HistoryColumns
    split: Split | None
    clock: Clock
    seed: int
    first: FirstTable | None
    progress: Progress
    pool: Pool = ONE_THREAD
    conditions: Circumstances | None = None


class Engine(Protocol):
    """Simulated people who can be asked."""

    @property
    def name(self) -> EngineName:
        """Which engine this is."""
        ...

    @property
    def people(self) -> int:
        """How many there are."""
        ...

    @property
    def devices(self) -> Population | None:
        """The real devices, where there are some."""
        ...

    def ask_consent(self) -> Counter[Attitude]:
        """Ask everyone for consent to learn together; say how many people have which attitude."""
        ...

    def campaign(self, terms: Terms) -> Campaign:
        """Prepare a learning run over these people."""
        ...
