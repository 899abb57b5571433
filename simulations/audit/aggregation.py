"""What an operator runs, for an audit: ledger, consents, runs, strategy and a campaign, all real.

Faults are planted through `Ports`: a strategy, a store of runs or a source of noise that keeps to
its interface and not to its promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.consents import ConsentRegistry
from aggregator.in_process import InProcessGrid
from aggregator.ledger import Ledger
from aggregator.run_keys import MemoryNoiseKeys
from aggregator.run_store import RunStore
from aggregator.strategy import BoundedSumStrategy
from aggregator.training_run import TrainingRuns
from client_sdk.keys import DeviceKey
from client_sdk.wire import DEFAULT_POLICY
from privacy.budget import Budget
from privacy.events import ReleaseEvent
from privacy.gaussian import noise_multiplier_for
from privacy.noise import GaussianNoise
from simulations.audit.devices import CATALOGUE_SHA256, NOW_S, Node
from simulations.house import UnsafeUnbookedLedger

POPULATION: Final = "audit"
ROUND_TIMEOUT_S: Final = 86_400.0
# Discrete noise costs a little more in the accounts than the Gaussian that it was planned as.
_ROOM: Final = 1.25


class AuditedMechanism(StrEnum):
    """What can be audited."""

    GAUSSIAN = "gaussian"
    HISTOGRAM = "histogram"
    INDEPENDENT_ROUNDS = "independent-rounds"
    BANDED_TOEPLITZ = "banded-toeplitz"
    BLT = "blt"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is planned to be spent.

    Attributes:
        mechanism: How.
        epsilon: ε, above 0.
        delta: δ, in (0, 1).
    """

    mechanism: AuditedMechanism
    epsilon: float
    delta: float

    @property
    def mu(self) -> float:
        """Separation that the claim allows: 1 over the noise multiplier of everything.

        Raises:
            ValueError: no such ε or δ.
        """
        return 1.0 / noise_multiplier_for(epsilon=self.epsilon, delta=self.delta)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What the pipeline is built from.

    Attributes:
        new_strategy: Makes the strategy.
        new_store: Makes the store of training runs.
        new_noise: Gives the source of each release's noise.
    """

    new_strategy: Callable[..., BoundedSumStrategy] = BoundedSumStrategy
    new_store: Callable[[str], RunStore] = RunStore
    new_noise: Callable[[], GaussianNoise] = GaussianNoise.from_system


class Aggregation:
    """One operator's ledger and campaign over some devices.

    Args:
        claim: The ledger's budget; None for no noise at all, of which nothing is booked.
        signer: Whose orders the devices obey.
        nodes: Node id to device.
        keys: Node id to the device's public key.
        n_items: Size of the catalogue.
        people: Report goal.
        directory: An empty folder for the databases.
        ports: What it is built from.
        stack: Closes the databases.
    """

    def __init__(
        self,
        claim: Claim | None,
        *,
        signer: DeviceKey,
        nodes: Mapping[int, Node],
        keys: Mapping[int, str],
        n_items: int,
        people: int,
        directory: Path,
        ports: Ports,
        stack: ExitStack,
    ) -> None:
        budgets, privacy = _priced(claim, ports)
        self._ledger = Ledger(f"sqlite:///{directory / 'ledger.db'}", budgets)
        stack.callback(self._ledger.close)
        store = ports.new_store(f"sqlite:///{directory / 'runs.db'}")
        stack.callback(store.close)
        strategy = ports.new_strategy(
            signer=signer,
            ledger=UnsafeUnbookedLedger() if claim is None else self._ledger,
            consents=ConsentRegistry(f"sqlite:///{directory / 'consents.db'}"),
            directory=keys,
            clock=_now_s,
            sleep=lambda _: None,
        )
        self.campaign = Campaign(
            strategy=strategy,
            grid=InProcessGrid(nodes),
            population=POPULATION,
            n_items=n_items,
            catalogue_sha256=CATALOGUE_SHA256,
            policy_sha256=DEFAULT_POLICY.sha256,
            report_goal=max(1, people),
            quorum=1,
            privacy=privacy,
            runs=TrainingRuns(ledger=self._ledger, store=store, keys=MemoryNoiseKeys()),
            round_timeout_s=ROUND_TIMEOUT_S,
            clock=_now_s,
        )

    def booked(self) -> tuple[ReleaseEvent, ...]:
        """Verify the chain, and give every release that counts, supplements included."""
        self._ledger.verify()
        return tuple(each.event for each in self._ledger.reservations() if each.counts)


def _priced(
    claim: Claim | None, ports: Ports
) -> tuple[dict[str, Budget], PrivacyTarget | UnsafeNoPrivacy]:
    if claim is None:
        return {}, UnsafeNoPrivacy()
    target = PrivacyTarget(epsilon=claim.epsilon, delta=claim.delta, new_noise=ports.new_noise)
    return {POPULATION: Budget(epsilon=_ROOM * claim.epsilon, delta=claim.delta)}, target


def _now_s() -> float:
    return float(NOW_S)
