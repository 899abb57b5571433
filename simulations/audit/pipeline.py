"""One run of the real pipeline with canaries in it, and what an onlooker has afterwards.

Devices, in-process grid, strategy, mechanism, training run, consent registry and ledger are those
that ship. The ledger has the claim as its budget, and says in the end what was claimed: an audit
compares what was *published* with what was *booked*.

Plans, each with the noise that the claim implies:

| mechanism | what is released | a canary is in |
|---|---|---|
| gaussian | two sums, one Gaussian each | both |
| histogram | one histogram, discrete Gaussian | it |
| independent-rounds, banded-toeplitz, blt | a training run of `ROUNDS` rounds | the worst ones |

Accomplices are invited once more than the run allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aggregator.item_training import TrainingRecipe
from aggregator.strategy import TaskPlan
from client_sdk.federation.flower_device import handle_message
from client_sdk.keys import DeviceKey
from client_sdk.wire import DEFAULT_POLICY, Order, TaskKind, sha256_hex
from privacy.events import MechanismName, ReleaseEvent
from privacy.factorisation import Factorisation, FactorisationName
from privacy.participation import Realised, realised_of
from simulations.audit.aggregation import (
    POPULATION,
    ROUND_TIMEOUT_S,
    Aggregation,
    AuditedMechanism,
    Claim,
    Ports,
)
from simulations.audit.canaries import Canaries, Floats
from simulations.audit.devices import (
    CATALOGUE_SHA256,
    NOW_S,
    Node,
    RealDevice,
    accomplice,
    bystander,
)

ROUNDS: Final = 6
MIN_SEPARATION: Final = 2
MAX_PARTICIPATIONS: Final = 2

OnStep = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Transcript:
    """What was published, in deviations of the noise that was booked, and what was booked.

    Attributes:
        whitened: float64[r, dimension], C·Y over the booked deviation: signal plus, if the books
            are right, independent standard normal noise.
        effect: float64[r, r], what being in a round moves in ``whitened``.
        planned: Rounds that a canary may be in.
        attempted: Those and the one more that accomplices tried.
        events: What the ledger has, supplements included.
        booked: Participation that was paid for; None where there are no rounds.
        realised: Participation as it was, counted outside of the accounting; None likewise.
        took_part: Numbers of the canaries who were in at least one sum.
        real: Numbers of the canaries who had a real device.
    """

    whitened: Floats
    effect: Floats
    planned: tuple[int, ...]
    attempted: tuple[int, ...]
    events: tuple[ReleaseEvent, ...]
    booked: Realised | None
    realised: Realised | None
    took_part: int
    real: frozenset[int]

    def signal(self, rounds: Sequence[int]) -> Floats:
        """Give what a canary in these rounds moves, float64[r]."""
        taken: Floats = self.effect[:, list(rounds)].sum(axis=1)
        return taken


def run_pipeline(
    claim: Claim,
    canaries: Canaries,
    *,
    directory: Path,
    real_devices: int,
    ports: Ports | None = None,
    on_step: OnStep = lambda _: None,
) -> Transcript:
    """Run everything once.

    Args:
        claim: What to spend.
        canaries: Who is in.
        directory: An empty folder for databases and vaults.
        real_devices: How many of the canaries who are in get the device code that ships.
        ports: What it is built from.
        on_step: Told how many contributions were added.
    """
    with ExitStack() as stack:
        town = _Town(
            claim,
            canaries,
            directory=directory,
            real_devices=real_devices,
            ports=ports or Ports(),
            stack=stack,
            on_step=on_step,
        )
        if claim.mechanism in (AuditedMechanism.GAUSSIAN, AuditedMechanism.HISTOGRAM):
            return town.one_shot()
        return town.training_run()


def worst_rounds(plan: Factorisation) -> tuple[int, ...]:
    """Find the rounds in which one person moves the most, with a round left to try once more.

    >>> worst_rounds(Factorisation(name=FactorisationName.INDEPENDENT_ROUNDS, rounds=6,
    ...     min_separation=2, max_participations=2))
    (0, 2)
    """
    strategy = plan.strategy_matrix()
    allowed = [
        rounds
        for rounds in combinations(range(plan.rounds - 1), plan.participations)
        if all(later - earlier >= plan.min_separation for earlier, later in pairwise(rounds))
    ]
    moved = [float(np.square(strategy[:, list(rounds)].sum(axis=1)).sum()) for rounds in allowed]
    # The first of those that are as bad as the worst, to rounding.
    return allowed[int(np.argmax(np.array(moved) >= max(moved) * (1.0 - 1e-9)))]


class _Town:
    """The canaries' devices, and everything that an operator runs."""

    def __init__(
        self,
        claim: Claim,
        canaries: Canaries,
        *,
        directory: Path,
        real_devices: int,
        ports: Ports,
        stack: ExitStack,
        on_step: OnStep,
    ) -> None:
        self._claim, self._canaries, self._on_step = claim, canaries, on_step
        histogram = claim.mechanism is AuditedMechanism.HISTOGRAM
        one_shot = histogram or claim.mechanism is AuditedMechanism.GAUSSIAN
        self._kind = TaskKind.ITEM_COUNTS if one_shot else TaskKind.ITEM_TRAINING
        self._nodes: dict[int, Node] = {}
        self._directory: dict[int, str] = {}
        self._number_of: dict[str, int] = {}
        self._signer = DeviceKey.generate()
        chosen = np.flatnonzero(canaries.inside).tolist()
        self.real = frozenset(chosen[:real_devices])
        for number in chosen:
            vector = canaries.vector(number)
            if number in self.real:
                device = stack.enter_context(
                    RealDevice(
                        directory / f"device-{number}",
                        aggregator_key=self._signer.public_key_hex,
                        kind=self._kind,
                        vector=None if histogram else vector,
                        item=number,
                        n_items=canaries.dimension,
                    )
                )
                self._enrol(device.node, device.public_key_hex)
            else:
                scripted = accomplice(vector)
                self._enrol(partial(handle_message, scripted.answer), scripted.public_key_hex)
            self._number_of[self._directory[len(self._nodes)]] = number
        self._people = list(self._nodes)
        self._bystanders: list[int] = []
        for _ in range(1 if one_shot else ROUNDS):
            extra = bystander(canaries.bystander())
            self._enrol(partial(handle_message, extra.answer), extra.public_key_hex)
            self._bystanders.append(len(self._nodes))
        self._noise = ports.new_noise
        self._aggregation = Aggregation(
            claim,
            signer=self._signer,
            nodes=self._nodes,
            keys=self._directory,
            n_items=canaries.dimension,
            people=len(chosen),
            directory=directory,
            ports=ports,
            stack=stack,
        )
        self._campaign = self._aggregation.campaign

    def one_shot(self) -> Transcript:
        """Release one histogram, or two sums that share the price."""
        histogram = self._claim.mechanism is AuditedMechanism.HISTOGRAM
        releases = 1 if histogram else 2
        sigmas = self._campaign.noise_multipliers([1.0 / releases] * releases)
        cohort = [*self._people, *self._bystanders]
        sums: list[Floats] = []
        for sigma in sigmas:
            if histogram:
                sums.append(self._ask_discrete(sigma, cohort))
            else:
                result = self._campaign.ask(
                    self._kind,
                    dimension=self._canaries.dimension,
                    noise_multiplier=sigma,
                    cohort=cohort,
                )
                sums.append(result.noisy_sum)
            self._on_step(len(cohort))
        events = self._aggregation.booked()
        deviations = np.array([event.noise_std for event in events])
        return Transcript(
            whitened=np.stack(sums) / deviations[:, None],
            effect=np.diag(1.0 / deviations),
            planned=tuple(range(releases)),
            attempted=tuple(range(releases)),
            events=events,
            booked=None,
            realised=None,
            took_part=len(self._people),
            real=self.real,
        )

    def _ask_discrete(self, sigma: float, cohort: Sequence[int]) -> Floats:
        task_id = self._campaign.new_task_id()
        noise = self._noise()
        order = Order(
            task_id=task_id,
            kind=self._kind,
            population=POPULATION,
            round=0,
            policy_sha256=DEFAULT_POLICY.sha256,
            catalogue_sha256=CATALOGUE_SHA256,
            dimension=self._canaries.dimension,
            clip_norm=1.0,
            closes_at_s=int(NOW_S + ROUND_TIMEOUT_S),
            promise={},
            parameters={},
            payload_sha256=sha256_hex(b""),
            payload=b"",
        )
        event = ReleaseEvent(
            kind=self._kind,
            task_id=task_id,
            population=POPULATION,
            mechanism=MechanismName.DISCRETE_GAUSSIAN,
            noise_source=noise.source,
            noise_multiplier=sigma,
            clip_norm=1.0,
            dimension=self._canaries.dimension,
            report_goal=self._campaign.report_goal,
        )
        plan = TaskPlan(order=order, event=event, noise=noise, quorum=1)
        result = self._campaign.strategy.start(self._campaign.grid, plan, node_ids=cohort)
        return result.noisy_sum

    def training_run(self) -> Transcript:
        """Train for some rounds; what the sums would be used for does not matter here."""
        recipe = TrainingRecipe(
            rounds=ROUNDS,
            mechanism=FactorisationName(self._claim.mechanism.value),
            min_separation=MIN_SEPARATION,
            max_participations=MAX_PARTICIPATIONS,
        )
        run = self._campaign.begin_run(
            self._kind,
            dimension=self._canaries.dimension,
            noise_multiplier=self._campaign.noise_multipliers([1.0])[0],
            factorisation=recipe.factorisation(),
            clipping=recipe.clipping,
            model=b"",
        )
        planned = worst_rounds(run.plan.factorisation)
        attempted = (*planned, min(planned[-1] + MIN_SEPARATION, ROUNDS - 1))
        rounds_of: dict[str, list[int]] = {}
        sums: list[NDArray[np.float64]] = []
        while not run.is_complete:
            number = run.rounds_done
            cohort = [self._bystanders[number], *self._asked_in(number, planned, attempted)]
            collected = self._campaign.collect_round(
                run, parameters=recipe.parameters(number, rank=1), payload=b"", cohort=cohort
            )
            for device in collected.contributors:
                rounds_of.setdefault(device, []).append(number)
            sums.append(run.close_round(collected, lambda _: b""))
            self._on_step(len(cohort))
        run.finish()
        events = self._aggregation.booked()
        plan = events[0].factorisation
        if plan is None:
            raise ValueError("the ledger has another release than the run's first")
        effect = plan.strategy_matrix() / events[0].noise_std
        return Transcript(
            whitened=effect @ np.stack(sums),
            effect=effect,
            planned=planned,
            attempted=attempted,
            events=events,
            booked=Realised(
                min_separation=plan.min_separation, max_participations=plan.max_participations
            ),
            realised=realised_of(rounds_of.values(), rounds=ROUNDS),
            took_part=sum(device in rounds_of for device in self._number_of),
            real=self.real,
        )

    def _asked_in(self, number: int, planned: Sequence[int], attempted: Sequence[int]) -> list[int]:
        """Give the nodes to invite: everybody in the planned rounds, accomplices once more."""
        if number in planned:
            return self._people
        if number not in attempted:
            return []
        return [
            node for node in self._people if self._number_of[self._directory[node]] not in self.real
        ]

    def _enrol(self, node: Node, public_key: str) -> None:
        number = len(self._nodes) + 1
        self._nodes[number] = node
        self._directory[number] = public_key
