"""The engine ``superlink``: real devices, each in a thread, through a real SuperLink with TLS.

What is between server and devices is what production has: a process of Flower's SuperLink, its
gate, node keys, the Fleet API. Each device polls, so a task takes seconds, whatever it asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from flwr.serverapp import Grid

from aggregator.admission import MayTakePart
from aggregator.campaign import Campaign
from aggregator.collection import CollectionPlan
from aggregator.strategy import Collected, TaskPlan, TaskResult, TaskStrategy
from aggregator.superlink.round import ConnectedDevices, RoundDevice, connected_devices
from client_sdk.federation.flower_device import SuperLinkConnection
from simulations.engines.devices import filled_population
from simulations.engines.engine import Setup, Terms
from simulations.house import House
from simulations.population import Attitude, Population
from simulations.settings import EngineName, SettingsError

MOST_DEVICES: Final = 64
"""A SuperLink answers about 50 calls a second on two cores; more devices would wait, not learn."""


@dataclass(frozen=True, kw_only=True)
class _ByPerson:
    """Passes tasks on, with people's numbers turned into the node ids that the SuperLink gave."""

    inner: TaskStrategy
    node_of: Mapping[int, int]

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Run one task to its release."""
        return self.inner.start(grid, plan, node_ids=self._nodes(node_ids))

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Ask for a round of a run."""
        return self.inner.collect(
            grid, plan, node_ids=self._nodes(node_ids), may_take_part=may_take_part
        )

    def _nodes(self, asked: Sequence[int] | None) -> list[int]:
        everyone = self.node_of.values()
        return list(everyone) if asked is None else [self.node_of[each] for each in asked]


@dataclass(frozen=True, kw_only=True)
class SuperLinkEngine:
    """Asks real devices over a SuperLink; an `Engine`.

    Attributes:
        house: The operator's half.
        devices: Everyone's device.
        connected: Their nodes, in the same order.
    """

    house: House
    devices: Population
    connected: ConnectedDevices
    name: Final[EngineName] = "superlink"

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.devices)

    def ask_consent(self) -> Counter[Attitude]:
        """Ask everyone for consent to learn together."""
        return self.devices.ask_consent()

    def campaign(self, terms: Terms) -> Campaign:
        """Prepare a learning run over these people."""
        campaign = self.house.campaign(
            population=terms.population,
            privacy=terms.privacy,
            grid=self.connected.grid,
            enrolled=self.connected.directory,
            report_goal=terms.report_goal,
            quorum=terms.quorum,
            on_progress=terms.on_progress,
        )
        node_of = dict(enumerate(self.connected.directory, start=1))
        return replace(campaign, strategy=_ByPerson(inner=campaign.strategy, node_of=node_of))


@contextmanager
def open_superlink(setup: Setup) -> Iterator[SuperLinkEngine]:
    """Make the devices, start the SuperLink, and let the devices check in.

    Raises:
        SettingsError: too many people for it, or people without devices.
        SuperLinkError: the SuperLink failed, or the devices could not check in.
    """
    check_size(setup.histories.people)
    with filled_population(setup) as devices:
        setup.progress.stage("starting a SuperLink with TLS and node keys")
        nodes = [
            RoundDevice(
                name=f"person {person.number}",
                public_key_hex=person.device.device,
                answer=person.answer,
            )
            for person in devices.people
        ]
        with connected_devices(
            nodes, connector=SuperLinkConnection, directory=setup.folder / "superlink"
        ) as connected:
            yield SuperLinkEngine(house=setup.house, devices=devices, connected=connected)


def check_size(people: int) -> None:
    """Refuse more people than a SuperLink on one machine serves in reasonable time.

    Raises:
        SettingsError: there are more than `MOST_DEVICES`.
    """
    if people > MOST_DEVICES:
        raise SettingsError(
            f"the engine superlink runs a thread and a TLS connection for each device and takes at "
            f"most {MOST_DEVICES} people; the data has {people:,}: take fewer, or the engine "
            "devices (the same devices without the network) or kernel"
        )
