"""Six scripted devices that train together: what the tests of training runs ask, and kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aggregator.admission import Standing
from aggregator.campaign import Campaign, PrivacyTarget
from aggregator.in_process import InProcessGrid
from aggregator.ledger import Ledger
from aggregator.run_keys import FileNoiseKeys
from aggregator.run_store import RunStore
from aggregator.strategy import BoundedSumStrategy, Collected
from aggregator.training_run import TrainingRun, TrainingRuns
from client_sdk.federation.flower_device import handle_message
from client_sdk.keys import DeviceKey
from client_sdk.wire import ConsentReceipt, Purpose, SparseVector, TaskKind
from privacy.budget import Budget
from privacy.clipping import ClippingPolicy
from privacy.factorisation import Factorisation, FactorisationName
from privacy.noise import GaussianNoise
from simulations.scripted import ScriptedDevice

NOW_S = 1_800_000_000
DIMENSION = 5
PEOPLE = 6
ROUNDS = 6
SEPARATION = 2
PARTICIPATIONS = 3
SIGMA = 20.0
BUDGET = Budget(epsilon=8.0, delta=1e-6)
BLT = Factorisation(
    name=FactorisationName.BLT,
    rounds=ROUNDS,
    min_separation=SEPARATION,
    max_participations=PARTICIPATIONS,
    decays=(0.9, 0.3),
    weights=(0.3, 0.2),
)


@dataclass
class OpenConsents:
    """A registry that has no withdrawal."""

    recorded: list[ConsentReceipt] = field(default_factory=list)

    def record(self, receipt: ConsentReceipt, frame: bytes) -> None:
        """Keep it."""
        self.recorded.append(receipt)

    def standing(self, device: str, purpose: Purpose) -> Standing | None:
        """Know nothing against anybody."""
        return None


class TrainingTown:
    """Devices with keys and vectors of their own, the same in every process.

    Args:
        url: Of the ledger's and the runs' database.
        keys: Folder of the noise keys.
        budget: What everything may cost.
    """

    def __init__(self, url: str, keys: Path, *, budget: Budget = BUDGET) -> None:
        rng = np.random.default_rng(7)
        self.devices = {
            node_id: ScriptedDevice(
                vector=SparseVector.from_dense(rng.normal(size=DIMENSION).astype(np.float32)),
                consented_at_s=NOW_S - 10,
                signer=DeviceKey(bytes([node_id]) * 32),
            )
            for node_id in range(1, PEOPLE + 1)
        }
        self.aggregator = DeviceKey(bytes(32))
        self.ledger = Ledger(url, {"town": budget})
        self.store = RunStore(url)
        self.keys = FileNoiseKeys(keys)
        self.runs = TrainingRuns(ledger=self.ledger, store=self.store, keys=self.keys)

    def close(self) -> None:
        """Close the databases."""
        self.ledger.close()
        self.store.close()

    def campaign(self, **changes: object) -> Campaign:
        """Everybody, at a price that is not used: the run has its own noise multiplier."""
        campaign = Campaign(
            strategy=BoundedSumStrategy(
                signer=self.aggregator,
                ledger=self.ledger,
                consents=OpenConsents(),
                directory={n: each.public_key_hex for n, each in self.devices.items()},
                clock=lambda: float(NOW_S),
                sleep=lambda _: None,
            ),
            grid=InProcessGrid(
                {n: partial(handle_message, each.answer) for n, each in self.devices.items()}
            ),
            population="town",
            n_items=DIMENSION,
            catalogue_sha256="3" * 64,
            policy_sha256="2" * 64,
            report_goal=PEOPLE // 2,
            quorum=1,
            privacy=PrivacyTarget(epsilon=1.0, delta=1e-6, new_noise=GaussianNoise.from_system),
            runs=self.runs,
            clock=lambda: float(NOW_S),
        )
        return replace(campaign, **changes)  # type: ignore[arg-type]

    def begin(
        self,
        *,
        run_id: str | None = None,
        factorisation: Factorisation = BLT,
        clipping: ClippingPolicy | None = None,
        sigma: float = SIGMA,
    ) -> TrainingRun:
        """Begin a run over the five entries."""
        campaign = self.campaign()
        if run_id is not None:
            campaign = replace(campaign, new_task_id=lambda: run_id)
        return campaign.begin_run(
            TaskKind.ITEM_COUNTS,
            dimension=DIMENSION,
            noise_multiplier=sigma,
            factorisation=factorisation,
            clipping=clipping or ClippingPolicy(clip_norm=1.0),
            model=np.zeros(DIMENSION).tobytes(),
        )

    def cohort(self, number: int) -> list[int]:
        """The odd people in the odd rounds, the even ones in the even: separation 2."""
        return [node_id for node_id in self.devices if node_id % 2 == number % 2]

    def collect(self, run: TrainingRun, cohort: Sequence[int] | None = None) -> Collected:
        """Ask the cohort of the next round, or another one."""
        asked = self.cohort(run.rounds_done) if cohort is None else cohort
        return self.campaign().collect_round(run, parameters={}, payload=b"", cohort=asked)

    def one_round(
        self,
        run: TrainingRun,
        cohort: Sequence[int] | None = None,
        made: Callable[[NDArray[np.float64]], None] | None = None,
    ) -> NDArray[np.float64]:
        """Take one round; the model is the running sum of what was published."""
        collected, before = self.collect(run, cohort), np.frombuffer(run.model)

        def step(noisy_sum: NDArray[np.float64]) -> bytes:
            if made is not None:
                made(noisy_sum)
            return (before + noisy_sum).tobytes()

        return run.close_round(collected, step)
