"""``homebody demo --superlink``: 32 devices, one round, a real SuperLink with TLS and node keys.

Twenty-seven people of the sample take part with the real SDK. Five more do what goes wrong in the
world: one refuses, one withdraws when the order is on the device, one accepts and stays silent
(these three run the real SDK), one sends NaN, one sends far too much (`simulations.scripted`: the
SDK would not). Afterwards the same people answer the same task in this process; with the same noise
the two releases must be equal to the last bit, so nobody else moved the sum.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from aggregator.consents import ConsentRegistry
from aggregator.in_process import InProcessGrid
from aggregator.strategy import BoundedSumStrategy, TaskPlan, TaskResult
from aggregator.superlink.round import RoundDevice
from aggregator.superlink.round import run_superlink_round as run_round
from client_sdk import Homebody
from client_sdk.federation.flower_device import SuperLinkConnection, handle_message
from client_sdk.testing import MemoryKeyStore
from client_sdk.wire import (
    DEFAULT_POLICY,
    Catalogue,
    FrameKind,
    Order,
    Purpose,
    Refusal,
    SparseVector,
    TaskKind,
    read_frame,
    sha256_hex,
)
from privacy.accounting import epsilon_pld
from privacy.budget import Budget
from privacy.events import ADJACENCY, TRUSTED, ReleaseEvent
from privacy.gaussian import noise_multiplier_for
from privacy.noise import GaussianNoise
from simulations.data.interactions import LoadedData
from simulations.evaluation.split import Split, hold_out
from simulations.house import House, UnsafeUnbookedLedger
from simulations.population import events_of
from simulations.progress import Progress
from simulations.scripted import Behaviour, ScriptedDevice
from simulations.task_progress import TaskProgress
from simulations.workspace import temporary_workspace

HONEST: Final = 27
EPSILON: Final = 8.0
DELTA: Final = 1e-6
OPEN_S: Final = 75
_ACCEPTANCE_TIMEOUT_S: Final = 55.0
_POPULATION: Final = "superlink-demo"
_NOISE_SEED: Final = 11

EXPECTED: Final = {
    "refuses consent": Refusal.NO_CONSENT,
    "withdraws after accepting": Refusal.CONSENT_WITHDRAWN,
    "accepts, then stays silent": Refusal.NO_ANSWER,
    "sends NaN": Refusal.NOT_FINITE,
    "sends far too much": Refusal.OVERSIZED,
}


@dataclass(frozen=True, kw_only=True)
class _Cast:
    """Who takes part: people with the real SDK, and those who do what goes wrong."""

    honest: Sequence[Homebody]
    others: Mapping[str, RoundDevice]

    def round_devices(self) -> list[RoundDevice]:
        """Everyone, as the SuperLink's round wants them."""
        people = [
            RoundDevice(name=f"person {number}", public_key_hex=home.device, answer=home.answer)
            for number, home in enumerate(self.honest)
        ]
        return [*people, *self.others.values()]


def run_superlink_round(data: LoadedData, progress: Progress) -> dict[str, Any]:
    """Run the round, check it against the in-process grid, and say what happened.

    Args:
        data: The bundled sample.
        progress: Told the stages.

    Returns:
        What `simulations.report` shows; ``superlink`` holds what is special here.

    Raises:
        SuperLinkError: the SuperLink could not be started.
        QuorumNotReachedError: too few devices answered in time.
    """
    started = time.perf_counter()
    split = hold_out(data.interactions)
    with temporary_workspace() as folder, ExitStack() as stack:
        house = stack.enter_context(
            House(
                folder / "house",
                catalogue=data.catalogue,
                budgets={_POPULATION: Budget(epsilon=EPSILON, delta=DELTA)},
            )
        )
        house.publisher.publish_base()
        progress.stage("32 devices fetch the first release", total=HONEST + len(EXPECTED))
        cast = _make_cast(
            folder, house=house, split=split, data=data, stack=stack, tick=progress.step
        )
        consents = stack.enter_context(ConsentRegistry(f"sqlite:///{folder / 'consents.db'}"))
        progress.stage("starting a SuperLink with TLS and node keys")
        # The order is open from here; the SuperLink needs a few seconds of it to start.
        plan = _plan(data.catalogue, closes_in_s=OPEN_S)
        result = run_round(
            plan,
            cast.round_devices(),
            connector=SuperLinkConnection,
            signer=house.key,
            ledger=house.ledger,
            consents=consents,
            directory=folder / "superlink",
            on_progress=TaskProgress(
                progress,
                lambda _, devices: f"{devices} devices are invited; the silent one is waited for",
            ),
        )
        progress.stage("the same people in this process, for comparison")
        equal = np.array_equal(result.noisy_sum, _in_process(plan, cast, house, consents))
        spent = epsilon_pld([result.event], DELTA)
    return _result(data, result, equal=equal, spent=spent, started=started)


def _make_cast(
    folder: Path,
    *,
    house: House,
    split: Split,
    data: LoadedData,
    stack: ExitStack,
    tick: Callable[[], None],
) -> _Cast:
    """Open the real devices and script the ones that the SDK would not allow."""
    now_s = time.time()

    def opened(person: int, *purposes: Purpose) -> Homebody:
        home = stack.enter_context(
            Homebody.open(
                folder / f"device-{person}",
                key_store=MemoryKeyStore(),
                server_url=house.url,
                trusted_root=house.trusted_root,
            )
        )
        home.update()
        home.consent.grant(Purpose.PERSONALISE, *purposes)
        home.track_many(events_of(split, data.catalogue, person, now_s=now_s))
        tick()
        return home

    together = (Purpose.TRAIN, Purpose.STATISTICS)
    honest = [opened(person, *together) for person in range(HONEST)]
    refusing = opened(HONEST)
    withdrawing = opened(HONEST + 1, *together)
    silent = opened(HONEST + 2, *together)

    def withdraws(frame: bytes) -> bytes | None:
        if read_frame(frame).kind is FrameKind.ORDER:
            withdrawing.consent.withdraw(*together)
        return withdrawing.answer(frame)

    def stays_silent(frame: bytes) -> bytes | None:
        is_order = read_frame(frame).kind is FrameKind.ORDER
        return None if is_order else silent.answer(frame)

    vector = SparseVector.from_dense(np.ones(len(data.catalogue.items), np.float32))
    nan, much = (
        ScriptedDevice(vector=vector, consented_at_s=int(now_s), behaviour=behaviour)
        for behaviour in (Behaviour.NOT_A_NUMBER, Behaviour.OVERSIZED)
    )
    answers = (refusing.answer, withdraws, stays_silent, nan.answer, much.answer)
    keys = (
        refusing.device,
        withdrawing.device,
        silent.device,
        nan.public_key_hex,
        much.public_key_hex,
    )
    others = {
        name: RoundDevice(name=name, public_key_hex=key, answer=answer)
        for name, key, answer in zip(EXPECTED, keys, answers, strict=True)
    }
    return _Cast(honest=honest, others=others)


def _plan(catalogue: Catalogue, *, closes_in_s: int) -> TaskPlan:
    """Ask for item counts: the vector is the unit-norm history over the whole catalogue."""
    noise = GaussianNoise.from_seed_for_simulation(_NOISE_SEED)
    multiplier = noise_multiplier_for(epsilon=EPSILON, delta=DELTA)
    order = Order(
        task_id=secrets.token_hex(16),
        kind=TaskKind.ITEM_COUNTS,
        population=_POPULATION,
        round=0,
        policy_sha256=DEFAULT_POLICY.sha256,
        catalogue_sha256=catalogue.sha256,
        dimension=len(catalogue.items),
        clip_norm=1.0,
        closes_at_s=int(time.time()) + closes_in_s,
        promise={"epsilon": EPSILON, "delta": DELTA, "adjacency": ADJACENCY, "trusted": TRUSTED},
        parameters={},
        payload_sha256=sha256_hex(b""),
    )
    event = ReleaseEvent(
        kind=order.kind,
        task_id=order.task_id,
        population=order.population,
        noise_multiplier=multiplier,
        noise_source=noise.source,
        clip_norm=order.clip_norm,
        dimension=order.dimension,
        report_goal=HONEST + len(EXPECTED),
    )
    return TaskPlan(
        order=order,
        event=event,
        noise=noise,
        quorum=HONEST // 2,
        acceptance_timeout_s=_ACCEPTANCE_TIMEOUT_S,
    )


def _in_process(
    plan: TaskPlan, cast: _Cast, house: House, consents: ConsentRegistry
) -> NDArray[np.float64]:
    """Let the honest people answer the same task over the other binding, with the same noise.

    The task gets a new id, since a device answers each task once.
    """
    order = replace(plan.order, task_id=secrets.token_hex(16), closes_at_s=int(time.time()) + 60)
    again = replace(
        plan,
        order=order,
        event=replace(plan.event, task_id=order.task_id),
        noise=GaussianNoise.from_seed_for_simulation(_NOISE_SEED),
    )
    homes = dict(enumerate(cast.honest, start=1))
    nodes = {number: _node_of(home) for number, home in homes.items()}
    strategy = BoundedSumStrategy(
        signer=house.key,
        ledger=UnsafeUnbookedLedger(),
        consents=consents,
        directory={number: home.device for number, home in homes.items()},
    )
    return strategy.start(InProcessGrid(nodes), again).noisy_sum


def _node_of(home: Homebody) -> Callable[[Message], Message | None]:
    return lambda message: handle_message(home.answer, message)


def _result(
    data: LoadedData, result: TaskResult, *, equal: bool, spent: float, started: float
) -> dict[str, Any]:
    """Put the result together as the report wants it."""
    rejected = {reason.value: count for reason, count in result.refusals.items()}
    expected = Counter(reason.value for reason in EXPECTED.values())
    refused = rejected.get(Refusal.NO_CONSENT.value, 0)
    return {
        "data": data.quality.to_json() | {"name": "Online Retail, a sample"},
        "settings": {"superlink": True, "devices": result.invited, "open_s": OPEN_S},
        "metrics": {},
        "privacy": {
            "adjacency": ADJACENCY,
            "trust": TRUSTED,
            "mechanism": "Gaussian noise on the clipped sum (sensitivity 1, the clip norm)",
            "population": {"assumed": result.invited, "real": result.invited},
            "releases": [
                {
                    "arm": "one round of item counts",
                    "epsilon": spent,
                    "delta": DELTA,
                    "budget": EPSILON,
                    "noise_multiplier": [result.event.noise_multiplier],
                }
            ],
        },
        "consent": {
            "granted": result.invited - refused,
            "refused": refused,
            "withdrawn": rejected.get(Refusal.CONSENT_WITHDRAWN.value, 0),
            "accepted": result.accepted,
            "rejected": rejected,
        },
        "superlink": {
            "devices": result.invited,
            "tls": True,
            "node_authentication": True,
            "misbehaving": {name: reason.value for name, reason in EXPECTED.items()},
            "counted_as_expected": Counter(rejected) == expected,
            "sum_equals_honest_sum": equal,
            "round_seconds": result.seconds,
        },
        "seconds": {"round": result.seconds, "total": time.perf_counter() - started},
    }
