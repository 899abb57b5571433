"""The engine ``kernel`` as an experiment sees it: people are rows of columns, no device is made.

`simulations.engines.kernel` runs one task; here is what is around it: who answers what when asked
for consent, which release everyone has loaded, and whose clock it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from aggregator.campaign import Campaign
from aggregator.in_process import InProcessGrid
from client_sdk.wire import DEFAULT_POLICY
from simulations.engines.crowd import Answer, Crowd
from simulations.engines.engine import Setup, Terms
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.kernel import KernelStrategy
from simulations.engines.pool import Pool
from simulations.house import House
from simulations.population import Attitude, draw_attitudes
from simulations.settings import EngineName


@dataclass(frozen=True, kw_only=True)
class KernelEngine:
    """Asks a crowd; an `Engine` without devices.

    Attributes:
        house: The operator's half; nobody fetches anything from it.
        crowd: The people, who remember what they were asked.
        attitudes: How many have which attitude.
        pool: Who adds up.
    """

    house: House
    crowd: Crowd
    attitudes: Counter[Attitude]
    pool: Pool
    name: Final[EngineName] = "kernel"
    devices: Final[None] = None

    @property
    def people(self) -> int:
        """How many there are."""
        return self.crowd.people

    def ask_consent(self) -> Counter[Attitude]:
        """Ask everyone for consent to learn together."""
        self.crowd.ask_again()
        return Counter(self.attitudes)

    def campaign(self, terms: Terms) -> Campaign:
        """Prepare a learning run over these people."""
        campaign = self.house.campaign(
            population=terms.population,
            privacy=terms.privacy,
            grid=InProcessGrid({}),
            enrolled={},
            report_goal=terms.report_goal,
            quorum=terms.quorum,
        )
        strategy = KernelStrategy(
            ledger=self.house.ledger_for(terms.privacy),
            crowd=self.crowd,
            pool=self.pool,
            clock=self._now_s,
            on_progress=terms.on_progress,
        )
        return replace(campaign, strategy=strategy, clock=self._now_s)

    def _now_s(self) -> float:
        """Give the crowd's time, which conditions may move on between rounds."""
        return self.crowd.now_s


@contextmanager
def open_rows(setup: Setup) -> Iterator[KernelEngine]:
    """Lay the people out; nothing has to be closed.

    What they answer is drawn as for real devices, or is what the setup's conditions say.
    """
    first = setup.first
    release = ActiveRelease(
        catalogue_sha256=setup.catalogue.sha256,
        policy_sha256=DEFAULT_POLICY.sha256,
        n_items=len(setup.catalogue.items),
        settings=None if first is None else first.table.settings,
        rank=None if first is None else first.rank,
    )
    holdings = Holdings(histories=setup.histories, release=release)
    now_s = setup.clock.now_s()
    if setup.conditions is None:
        attitudes = draw_attitudes(setup.histories.people, seed=setup.seed)
        crowd = _crowd_of(attitudes, holdings=holdings, now_s=now_s)
    else:
        crowd = Crowd.under(setup.conditions, holdings=holdings, now_s=now_s)
        said_yes = crowd.answers == Answer.GRANTED
        attitudes = [Attitude.WILLING if yes else Attitude.REFUSES for yes in said_yes.tolist()]
    yield KernelEngine(
        house=setup.house, crowd=crowd, attitudes=Counter(attitudes), pool=setup.pool
    )


def _crowd_of(attitudes: list[Attitude], *, holdings: Holdings, now_s: float) -> Crowd:
    refuses = np.array([each is Attitude.REFUSES for each in attitudes])
    return replace(
        Crowd.willing(holdings),
        answers=np.where(refuses, Answer.NOT_ASKED, Answer.GRANTED).astype(np.uint8),
        withdraws_midway=np.array([each is Attitude.WITHDRAWS_MIDWAY for each in attitudes]),
        now_s=now_s,
    )
