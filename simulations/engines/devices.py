"""The engine ``devices``: a real device for each person, called in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from aggregator.campaign import Campaign
from aggregator.in_process import InProcessGrid
from simulations.engines.engine import Setup, Terms
from simulations.house import House
from simulations.population import Attitude, Population
from simulations.rollout import update_all
from simulations.settings import EngineName, SettingsError


@dataclass(frozen=True, kw_only=True)
class DeviceEngine:
    """Asks real devices over the in-process grid; an `Engine`.

    Attributes:
        house: The operator's half.
        devices: Everyone's device; each has loaded the first release.
    """

    house: House
    devices: Population
    name: Final[EngineName] = "devices"

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.devices)

    def ask_consent(self) -> Counter[Attitude]:
        """Ask everyone for consent to learn together."""
        return self.devices.ask_consent()

    def campaign(self, terms: Terms) -> Campaign:
        """Prepare a learning run over these people."""
        return self.house.campaign(
            population=terms.population,
            privacy=terms.privacy,
            grid=InProcessGrid(self.devices.nodes),
            enrolled=self.devices.directory,
            report_goal=terms.report_goal,
            quorum=terms.quorum,
            on_progress=terms.on_progress,
        )


@contextmanager
def open_devices(setup: Setup) -> Iterator[DeviceEngine]:
    """Make the devices, and close their stores at the end.

    Raises:
        SettingsError: there are no events to fill devices with, or too many people.
        ReleaseRejectedError: a device refused the first release.
    """
    with filled_population(setup) as devices:
        yield DeviceEngine(house=setup.house, devices=devices)


def filled_population(setup: Setup) -> Population:
    """Publish the first release, make a device for each person, and let each load it.

    Raises:
        SettingsError: there are no events to fill devices with, or too many people.
        ReleaseRejectedError: a device refused the release.
    """
    if setup.split is None:
        raise SettingsError("synthetic people have no devices; take the engine kernel")
    if setup.first is None:
        setup.house.publisher.publish_base()
    else:
        setup.house.publisher.publish_start(table=setup.first.table, graph=setup.first.graph())
    total = setup.histories.people
    setup.progress.stage(f"filling {total:,} devices", total=total)
    devices = Population(
        setup.folder / "devices",
        split=setup.split,
        catalogue=setup.catalogue,
        server_url=setup.house.url,
        trusted_root=setup.house.trusted_root,
        seed=setup.seed,
        clock=setup.clock,
        on_device=setup.progress.step,
    )
    setup.progress.stage(f"{total:,} devices fetch the first release", total=total)
    update_all(devices, tick=setup.progress.step)
    return devices
