"""The strategy on the in-process grid, with real signed frames and the real sum.

Longer than 400 lines because one table of behaviours is run against every rule of the strategy.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tracemalloc
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from aggregator.consents import ConsentRegistry
from aggregator.errors import QuorumNotReachedError
from aggregator.in_process import InProcessGrid
from aggregator.ledger import Ledger
from aggregator.strategy import BoundedSumStrategy, Stage, TaskPlan
from client_sdk.federation.flower_device import handle_message
from client_sdk.wire import (
    ConsentReceipt,
    FrameKind,
    Order,
    Purpose,
    Refusal,
    SparseVector,
    TaskKind,
    read_frame,
    sha256_hex,
)
from privacy.bounded_sum import BoundedSum
from privacy.budget import Budget
from privacy.chain import RowKind
from privacy.errors import BudgetExhaustedError, NoiseSourceError, ReservationError
from privacy.events import MechanismName, NoiseSource, ReleaseEvent
from privacy.mechanisms import UnsafeNoNoise
from privacy.noise import GaussianNoise
from simulations.scripted import EARLIER_TASK, EXPECTED, Behaviour, ScriptedDevice, SoftwareKey

NOW_S = 1_800_000_000
FIRST_NODE = 1000
DIMENSION = 64
KEY = SoftwareKey()


class ManualClock:
    """Time passes only while somebody sleeps, or is told to."""

    def __init__(self) -> None:
        self.at_s = float(NOW_S)

    def now_s(self) -> float:
        """Give the time that the test has reached."""
        return self.at_s

    def sleep(self, seconds: float) -> None:
        """Advance at once, and by a little at least, so that waiting loops end."""
        self.at_s += max(seconds, 0.001)


@dataclass
class RecordingLedger:
    """The ledger's port, in memory, in the order of the calls."""

    calls: list[str] = field(default_factory=list)
    refuses: Exception | None = None
    fails_to_commit: bool = False

    def reserve(self, event: ReleaseEvent) -> str:
        """Note the call, and refuse where the test says so."""
        self.calls.append("reserve")
        if self.refuses is not None:
            raise self.refuses
        return "reservation"

    def commit(self, reservation: str, accepted: int) -> None:
        """Note how many were accepted, and fail afterwards where the test says so."""
        self.calls.append(f"commit {accepted}")
        if self.fails_to_commit:
            raise OSError("disk full")

    def void(self, reservation: str, reason: str) -> None:
        """Note the reason that the reservation was given up for."""
        self.calls.append(f"void {reason}")


@pytest.fixture
def clock():
    """Give a clock that stands still at `NOW_S`."""
    return ManualClock()


@pytest.fixture
def ledger():
    """Give a ledger that agrees to everything and remembers the order of the calls."""
    return RecordingLedger()


@pytest.fixture
def registry(tmp_path):
    """Give a real consent registry on a fresh file, and close it afterwards."""
    with ConsentRegistry(f"sqlite:///{tmp_path / 'consents.db'}") as opened:
        yield opened


def make_order(*, dimension: int = DIMENSION, task_id: str = "1" * 32, payload: bytes = b"rows"):
    """Give an order that is open for ten minutes."""
    return Order(
        task_id=task_id,
        kind=TaskKind.ITEM_STATISTICS,
        population="tests",
        round=0,
        policy_sha256="2" * 64,
        catalogue_sha256="3" * 64,
        dimension=dimension,
        clip_norm=1.0,
        closes_at_s=NOW_S + 600,
        promise={},
        parameters={},
        payload_sha256=sha256_hex(payload),
        payload=payload,
    )


def make_plan(order: Order, *, quorum: int = 1, noise_multiplier: float = 0.0, **options):
    """Give a plan whose event matches the order, without noise by default: sums are exact."""
    noisy = noise_multiplier > 0.0
    event = ReleaseEvent(
        kind=order.kind,
        task_id=order.task_id,
        population=order.population,
        noise_multiplier=noise_multiplier,
        clip_norm=order.clip_norm,
        dimension=order.dimension,
        report_goal=10,
        mechanism=MechanismName.GAUSSIAN if noisy else MechanismName.UNSAFE_NO_NOISE,
        noise_source=NoiseSource.SEEDED_SIMULATION if noisy else NoiseSource.NONE,
    )
    noise = GaussianNoise.from_seed_for_simulation(1) if noisy else None
    return TaskPlan(order=order, event=event, noise=noise, quorum=quorum, **options)


def make_noisy_plan(order: Order) -> TaskPlan:
    """Give a plan with production noise."""
    plan = make_plan(order, noise_multiplier=2.0)
    event = replace(plan.event, noise_source=NoiseSource.OPERATING_SYSTEM)
    return replace(plan, event=event, noise=GaussianNoise.from_system())


def make_devices(*behaviours: Behaviour, dimension: int = DIMENSION) -> dict[int, ScriptedDevice]:
    """Give one consenting device per behaviour, on consecutive nodes, each with its own vector."""
    rng = np.random.default_rng(5)
    other = SoftwareKey()
    devices = {}
    for node_id, behaviour in enumerate(behaviours, start=FIRST_NODE):
        vector = rng.normal(size=dimension).astype(np.float32) * np.float32(0.5)
        devices[node_id] = ScriptedDevice(
            vector=SparseVector.from_dense(vector),
            consented_at_s=NOW_S - 10,
            behaviour=behaviour,
            other=other,
        )
    return devices


def make_strategy(devices, ledger, registry, clock, **options) -> BoundedSumStrategy:
    """Give a strategy that has all the devices enrolled and lives by the manual clock."""
    return BoundedSumStrategy(
        signer=KEY,
        ledger=ledger,
        consents=registry,
        directory={node_id: device.public_key_hex for node_id, device in devices.items()},
        clock=clock.now_s,
        sleep=clock.sleep,
        earlier_tasks=frozenset({EARLIER_TASK}),
        **options,
    )


def make_grid(devices, **options) -> InProcessGrid:
    """Give a grid whose nodes answer as the phone's code would."""
    return InProcessGrid(
        {node_id: partial(handle_message, each.answer) for node_id, each in devices.items()},
        **options,
    )


def sum_of(devices) -> np.ndarray:
    """Give the noiseless clipped sum, computed without the strategy, to compare with."""
    total = BoundedSum(dimension=DIMENSION, clip_norm=1.0)
    for device in devices:
        total.add(device.vector)
    return total.release(UnsafeNoNoise())


class WrappedGrid(InProcessGrid):
    """An in-process grid whose pulls a test may tamper with."""

    def __init__(self, devices, tamper) -> None:
        super().__init__(devices)
        self._tamper = tamper

    def pull_messages(self, message_ids):
        """Hand the replies on as the test has tampered with them."""
        return self._tamper(super().pull_messages(message_ids))


def test_honest_devices_are_summed_exactly_and_committed(ledger, registry, clock):
    """Transport and admission change no bit of the sum, and the ledger hears the true count."""
    devices = make_devices(*[Behaviour.HONEST] * 8)
    result = make_strategy(devices, ledger, registry, clock).start(
        make_grid(devices), make_plan(make_order())
    )
    assert result.noisy_sum.tobytes() == sum_of(devices.values()).tobytes()
    assert (result.invited, result.accepted, result.ignored) == (8, 8, 0)
    assert not result.refusals
    assert result.report_goal == 10
    assert ledger.calls == ["reserve", "commit 8"]


@pytest.mark.parametrize("hostile", [b for b in Behaviour if EXPECTED[b] is not None])
def test_hostile_device_is_counted_and_leaves_the_sum_unmoved(hostile, ledger, registry, clock):
    """Whatever one device does, the others' sum is the same to the bit."""
    devices = make_devices(Behaviour.HONEST, hostile, Behaviour.HONEST)
    result = make_strategy(devices, ledger, registry, clock).start(
        make_grid(devices), make_plan(make_order())
    )
    honest = [each for each in devices.values() if each.behaviour is Behaviour.HONEST]
    assert result.noisy_sum.tobytes() == sum_of(honest).tobytes()
    assert dict(result.refusals) == {EXPECTED[hostile]: 1}
    assert result.accepted == 2


def test_all_hostile_kinds_at_once_leave_the_sum_unmoved(ledger, registry, clock):
    """Attacks do not help one another, and every device is accounted for once."""
    kinds = [b for b in Behaviour if b is Behaviour.HONEST or EXPECTED[b] is not None]
    devices = make_devices(*kinds, *[Behaviour.HONEST] * 4)
    result = make_strategy(devices, ledger, registry, clock).start(
        make_grid(devices), make_plan(make_order())
    )
    honest = [each for each in devices.values() if each.behaviour is Behaviour.HONEST]
    assert result.noisy_sum.tobytes() == sum_of(honest).tobytes()
    assert result.accepted + sum(result.refusals.values()) == len(devices)


def test_exaggerating_device_moves_the_sum_by_the_clip_norm_at_most(ledger, registry, clock):
    """Clipping on the server bounds a liar's influence, which the privacy proof rests on."""
    devices = make_devices(Behaviour.HONEST, Behaviour.EXAGGERATES)
    result = make_strategy(devices, ledger, registry, clock).start(
        make_grid(devices), make_plan(make_order())
    )
    moved = result.noisy_sum - sum_of([devices[FIRST_NODE]])
    assert 0.99 < np.linalg.norm(moved) <= 1.0


def test_order_goes_only_to_devices_that_accepted(ledger, registry, clock):
    """A device without valid consent sees the invitation and never the order itself."""
    devices = make_devices(Behaviour.HONEST, Behaviour.REFUSES_CONSENT, Behaviour.OTHER_POLICY)
    seen = []

    def watched(device, frame):
        """Answer, and note which device was shown which frame."""
        seen.append((device.behaviour, read_frame(frame).kind))
        return device.answer(frame)

    grid = InProcessGrid(
        {n: partial(handle_message, partial(watched, each)) for n, each in devices.items()}
    )
    make_strategy(devices, ledger, registry, clock).start(grid, make_plan(make_order()))
    got_order = [behaviour for behaviour, kind in seen if kind is FrameKind.ORDER]
    assert got_order == [Behaviour.HONEST]
    assert len(seen) == 4


def test_withdrawal_elsewhere_stops_an_upload_that_is_under_way(ledger, registry, clock):
    """A no that arrives after the answer was computed still keeps it out of the sum."""
    devices = make_devices(Behaviour.HONEST, Behaviour.HONEST)
    leaver = devices[FIRST_NODE]

    def answer_then_withdraw(frame):
        """Contribute, and withdraw in the registry before the answer is read."""
        said = leaver.answer(frame)
        if read_frame(frame).kind is FrameKind.ORDER:
            receipt = ConsentReceipt(
                receipt_id="5" * 32,
                device=leaver.public_key_hex,
                purpose=Purpose.TRAIN,
                granted=False,
                policy_version="1",
                policy_sha256="2" * 64,
                issued_at_s=NOW_S,
                expires_at_s=NOW_S,
            )
            registry.record(receipt, receipt.to_bytes(leaver.signer))
        return said

    grid = InProcessGrid(
        {
            FIRST_NODE: partial(handle_message, answer_then_withdraw),
            FIRST_NODE + 1: partial(handle_message, devices[FIRST_NODE + 1].answer),
        }
    )
    result = make_strategy(devices, ledger, registry, clock).start(grid, make_plan(make_order()))
    assert dict(result.refusals) == {Refusal.CONSENT_WITHDRAWN: 1}
    assert result.noisy_sum.tobytes() == sum_of([devices[FIRST_NODE + 1]]).tobytes()


def test_spent_budget_asks_nobody(ledger, registry, clock):
    """The budget is reserved first, so that no data moves for a release that may not happen."""
    devices = make_devices(Behaviour.HONEST)
    ledger.refuses = BudgetExhaustedError("nothing left")

    def never(_):
        """Fail if a device is called."""
        raise AssertionError("somebody was asked")

    with pytest.raises(BudgetExhaustedError):
        make_strategy(devices, ledger, registry, clock).start(
            InProcessGrid(dict.fromkeys(devices, never)), make_plan(make_order())
        )
    assert ledger.calls == ["reserve"]


def test_missing_quorum_voids_and_publishes_nothing(ledger, registry, clock):
    """Too few people give no result, and the error says why each of the others is missing."""
    devices = make_devices(Behaviour.HONEST, Behaviour.NOT_A_NUMBER)
    with pytest.raises(QuorumNotReachedError, match="not-finite 1") as caught:
        make_strategy(devices, ledger, registry, clock).start(
            make_grid(devices), make_plan(make_order(), quorum=2)
        )
    assert (caught.value.accepted, caught.value.quorum) == (1, 2)
    assert ledger.calls == ["reserve", "void QuorumNotReachedError"]


@pytest.mark.parametrize("error", [RuntimeError("network"), KeyboardInterrupt()])
def test_any_error_voids_the_reservation(error, ledger, registry, clock):
    """Nothing was released, so the budget comes back, even after Ctrl-C."""
    devices = make_devices(Behaviour.HONEST)

    def broken(_):
        """Break the round from inside the grid."""
        raise error

    with pytest.raises(type(error)):
        make_strategy(devices, ledger, registry, clock).start(
            InProcessGrid(dict.fromkeys(devices, broken)), make_plan(make_order())
        )
    assert ledger.calls == ["reserve", f"void {type(error).__name__}"]


def test_commit_that_fails_publishes_nothing_and_keeps_the_cost(ledger, registry, clock):
    """Nobody knows if the commit was stored, so it is not voided and no sum is handed out."""
    devices = make_devices(Behaviour.HONEST)
    ledger.fails_to_commit = True
    with pytest.raises(OSError, match="disk full"):
        make_strategy(devices, ledger, registry, clock).start(
            make_grid(devices), make_plan(make_order())
        )
    assert ledger.calls == ["reserve", "commit 1"]


def test_noise_is_drawn_only_after_the_commit(ledger, registry, clock):
    """The cost is on the books before the release exists, so that no crash gives a free one."""
    devices = make_devices(Behaviour.HONEST)
    plan = make_plan(make_order(), noise_multiplier=1.0)

    def next_key() -> bytes:
        """Note the draw among the ledger's calls."""
        ledger.calls.append("draw")
        return bytes(32)

    noise = GaussianNoise(source=plan.event.noise_source, next_key=next_key)
    strategy = make_strategy(devices, ledger, registry, clock)
    strategy.start(make_grid(devices), replace(plan, noise=noise))
    assert ledger.calls == ["reserve", "commit 1", "draw"]


def test_real_ledger_holds_one_commit_and_refuses_the_task_a_second_time(registry, clock, tmp_path):
    """One task is one release: repeating it would give a second look at the same data."""
    devices = make_devices(Behaviour.HONEST, Behaviour.HONEST)
    plan = make_noisy_plan(make_order())
    ledger = Ledger(
        f"sqlite:///{tmp_path / 'ledger.db'}",
        {"tests": Budget(epsilon=8.0, delta=1e-5)},
    )
    strategy = make_strategy(devices, ledger, registry, clock)
    result = strategy.start(make_grid(devices), plan)
    assert result.noisy_sum.tobytes() != sum_of(devices.values()).tobytes()
    assert [each.state for each in ledger.reservations()] == [RowKind.COMMIT]
    with pytest.raises(ReservationError, match="reservation already"):
        strategy.start(make_grid(devices), plan)
    ledger.close()


def test_killed_aggregator_over_counts_and_never_spends_twice(registry, clock, tmp_path):
    """The process dies with the order on a device; the budget stays set aside for good."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    script = textwrap.dedent(
        """
        import os, sys
        from aggregator.in_process import InProcessGrid
        from aggregator.ledger import Ledger
        from privacy.budget import Budget
        from privacy.noise import GaussianNoise
        from tests.aggregator import test_strategy as here
        clock = here.ManualClock()
        registry = here.ConsentRegistry("sqlite://")
        devices = here.make_devices(here.Behaviour.HONEST)
        ledger = Ledger(sys.argv[1], {"tests": Budget(epsilon=8.0, delta=1e-5)})
        strategy = here.make_strategy(devices, ledger, registry, clock)
        grid = InProcessGrid(dict.fromkeys(devices, lambda _: os._exit(9)))
        strategy.start(grid, here.make_noisy_plan(here.make_order()))
        """
    )
    died = subprocess.run(
        [sys.executable, "-c", script, url], cwd=Path(__file__).parents[2], check=False
    )
    assert died.returncode == 9
    budgets = {"tests": Budget(epsilon=8.0, delta=1e-5)}
    ledger = Ledger(url, budgets)
    assert [each.state for each in ledger.reservations()] == [RowKind.RESERVE]
    assert ledger.spent("tests").epsilon_pld > 0.0
    devices = make_devices(Behaviour.HONEST)
    strategy = make_strategy(devices, ledger, registry, clock)
    with pytest.raises(ReservationError):
        strategy.start(make_grid(devices), make_noisy_plan(make_order()))
    again = make_noisy_plan(make_order(task_id="2" * 32))
    assert strategy.start(make_grid(devices), again).accepted == 1
    assert len(ledger.spent("tests").events) == 2
    ledger.close()


def test_noise_of_another_source_is_refused_before_the_ledger_is_asked(ledger, registry, clock):
    """The event that is charged must describe the noise that is added."""
    devices = make_devices(Behaviour.HONEST)
    plan = replace(make_plan(make_order()), noise=GaussianNoise.from_system())
    with pytest.raises(NoiseSourceError):
        make_strategy(devices, ledger, registry, clock).start(make_grid(devices), plan)
    assert ledger.calls == []


def test_silent_device_without_a_report_is_given_up_at_closing_time(ledger, registry, clock):
    """A device that vanishes after accepting delays the round until the order closes at most."""
    devices = make_devices(Behaviour.HONEST, Behaviour.SILENT)
    result = make_strategy(devices, ledger, registry, clock).start(
        make_grid(devices, report_silence=False), make_plan(make_order())
    )
    assert dict(result.refusals) == {Refusal.NO_ANSWER: 1}
    assert clock.at_s == pytest.approx(NOW_S + 600, abs=1.0)


def test_device_that_never_accepts_is_given_up_after_the_acceptance_timeout(
    ledger, registry, clock
):
    """Devices that are switched off cost the short timeout, not the whole opening time."""
    devices = make_devices(Behaviour.HONEST, Behaviour.HONEST)
    grid = make_grid({FIRST_NODE: devices[FIRST_NODE]}, report_silence=False)
    plan = make_plan(make_order(), acceptance_timeout_s=20.0)
    result = make_strategy(devices, ledger, registry, clock).start(
        grid, plan, node_ids=list(devices)
    )
    assert dict(result.refusals) == {Refusal.NO_ANSWER: 1}
    assert result.accepted == 1
    assert clock.at_s == pytest.approx(NOW_S + 20, abs=1.0)


def test_duplicated_replies_count_once(ledger, registry, clock):
    """A transport that delivers twice must not give anybody double weight."""
    devices = make_devices(Behaviour.HONEST, Behaviour.HONEST)
    grid = WrappedGrid(
        {n: partial(handle_message, each.answer) for n, each in devices.items()},
        lambda replies: [*replies, *replies],
    )
    result = make_strategy(devices, ledger, registry, clock).start(grid, make_plan(make_order()))
    assert result.noisy_sum.tobytes() == sum_of(devices.values()).tobytes()
    assert (result.accepted, result.ignored) == (2, 4)


def test_reply_by_another_node_does_not_use_up_the_place_of_the_one_asked(ledger, registry, clock):
    """A forged reply that comes first is ignored, so it cannot silence its victim."""
    devices = make_devices(Behaviour.HONEST, Behaviour.HONEST)

    def forge(replies):
        """Put a reply in the same place, from another node, before each real one."""
        forged = []
        for reply in replies:
            fake = Message(
                RecordDict({"homebody": ConfigRecord({"frame": b"mine now"})}), reply_to=reply
            )
            fake.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
            fake.metadata.__dict__["_src_node_id"] = 666
            forged += [fake, reply]
        return forged

    grid = WrappedGrid(
        {n: partial(handle_message, each.answer) for n, each in devices.items()}, forge
    )
    result = make_strategy(devices, ledger, registry, clock).start(grid, make_plan(make_order()))
    assert result.noisy_sum.tobytes() == sum_of(devices.values()).tobytes()
    assert result.ignored == 4


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (lambda m: Message(Error(0, "it broke"), reply_to=m), Refusal.DEVICE_ERROR),
        (lambda m: Message(Error(5, "gone"), reply_to=m), Refusal.NO_ANSWER),
        (lambda _: None, Refusal.NO_ANSWER),
    ],
)
def test_reply_without_content_is_counted(reply, reason, ledger, registry, clock):
    """Transport errors and silence get a reason too, and the neighbour's vector is still added."""
    devices = make_devices(Behaviour.HONEST, Behaviour.HONEST)
    grid = InProcessGrid(
        {
            FIRST_NODE: reply,
            FIRST_NODE + 1: partial(handle_message, devices[FIRST_NODE + 1].answer),
        }
    )
    result = make_strategy(devices, ledger, registry, clock).start(grid, make_plan(make_order()))
    assert dict(result.refusals) == {reason: 1}
    assert result.accepted == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: RecordDict(),
        lambda frame: RecordDict({"other": ConfigRecord({"frame": frame})}),
        lambda frame: RecordDict({"homebody": ConfigRecord({"other": frame})}),
        lambda frame: RecordDict({"homebody": ConfigRecord({"frame": frame, "more": frame})}),
        lambda frame: RecordDict(
            {"homebody": ConfigRecord({"frame": frame}), "more": ConfigRecord({"frame": frame})}
        ),
        lambda frame: RecordDict({"homebody": ConfigRecord({"frame": frame.hex()})}),
    ],
)
def test_good_frame_in_any_other_wrapping_is_malformed(spoil, ledger, registry, clock):
    """Only the one agreed wrapping is read, so nothing unexpected reaches the parser."""
    devices = make_devices(Behaviour.HONEST, Behaviour.HONEST)
    first = devices[FIRST_NODE]

    def wrapped(message):
        """Answer honestly, in the wrapping that the row gives."""
        frame = first.answer(message.content["homebody"]["frame"])
        return Message(spoil(frame), reply_to=message)

    grid = InProcessGrid(
        {
            FIRST_NODE: wrapped,
            FIRST_NODE + 1: partial(handle_message, devices[FIRST_NODE + 1].answer),
        }
    )
    result = make_strategy(devices, ledger, registry, clock).start(grid, make_plan(make_order()))
    assert dict(result.refusals) == {Refusal.MALFORMED: 1}
    assert result.accepted == 1


def test_node_that_is_not_enrolled_is_counted_and_not_asked(ledger, registry, clock):
    """Unknown nodes are refused and a node named twice is asked once."""
    devices = make_devices(Behaviour.HONEST)
    result = make_strategy(devices, ledger, registry, clock).start(
        make_grid(devices), make_plan(make_order()), node_ids=[FIRST_NODE, 5, FIRST_NODE]
    )
    assert dict(result.refusals) == {Refusal.UNKNOWN_DEVICE: 1}
    assert (result.invited, result.accepted) == (1, 1)


def test_replies_after_closing_time_are_not_added(ledger, registry, clock):
    """The second answer is late and the third device is not even asked, as the order promised."""
    devices = make_devices(*[Behaviour.HONEST] * 3)

    def slow(device, frame):
        """Let half the opening time pass over each contribution."""
        if read_frame(frame).kind is FrameKind.ORDER:
            clock.at_s += 301.0
        return device.answer(frame)

    grid = InProcessGrid(
        {n: partial(handle_message, partial(slow, each)) for n, each in devices.items()}
    )
    strategy = make_strategy(devices, ledger, registry, clock, chunk_bytes=1)
    result = strategy.start(grid, make_plan(make_order()))
    assert result.accepted == 1
    assert dict(result.refusals) == {Refusal.LATE: 1, Refusal.NO_ANSWER: 1}


class GatheringGrid(InProcessGrid):
    """A grid whose second half of nodes checks in five seconds after the first."""

    def __init__(self, devices, clock) -> None:
        super().__init__(
            {node_id: partial(handle_message, each.answer) for node_id, each in devices.items()}
        )
        self._clock = clock

    def get_node_ids(self):
        """Give the first half of the nodes, and all of them from the fifth second on."""
        node_ids = super().get_node_ids()
        late = self._clock.now_s() >= NOW_S + 5.0
        return node_ids if late else node_ids[: len(node_ids) // 2]


@pytest.mark.parametrize(
    ("recruiting_s", "expected"), [(0.0, (2, 0)), (3.0, (2, 3)), (10.0, (4, 10))]
)
def test_nodes_that_check_in_while_the_task_recruits_are_invited(
    recruiting_s, expected, ledger, registry, clock
):
    """Recruiting lasts exactly as long as the plan says and misses nobody who came in time."""
    invited, ends_s = expected
    devices = make_devices(*[Behaviour.HONEST] * 4)
    result = make_strategy(devices, ledger, registry, clock).start(
        GatheringGrid(devices, clock), make_plan(make_order(), recruiting_s=recruiting_s)
    )
    assert (result.invited, result.accepted) == (invited, invited)
    assert not result.refusals
    assert clock.at_s == pytest.approx(NOW_S + ends_s, abs=0.5)


def test_task_that_recruits_waits_for_its_cohort_and_asks_nobody_else(ledger, registry, clock):
    """A named cohort is waited for, and the task starts as soon as all of it is there."""
    devices = make_devices(*[Behaviour.HONEST] * 4)
    result = make_strategy(devices, ledger, registry, clock).start(
        GatheringGrid(devices, clock),
        make_plan(make_order(), recruiting_s=10.0),
        node_ids=[FIRST_NODE + 3],
    )
    assert result.noisy_sum.tobytes() == sum_of([devices[FIRST_NODE + 3]]).tobytes()
    assert clock.at_s < NOW_S + 6.0


def test_grid_that_pushes_nothing_counts_nobody_twice(ledger, registry, clock):
    """Messages that the grid did not take count as one missing answer each."""

    class FullGrid(InProcessGrid):
        def push_messages(self, messages):
            """Take nothing, and say so once for the whole batch."""
            return [None]

    devices = make_devices(*[Behaviour.HONEST] * 3)
    with pytest.raises(QuorumNotReachedError, match="no-answer 3"):
        make_strategy(devices, ledger, registry, clock).start(
            FullGrid(dict.fromkeys(devices)), make_plan(make_order())
        )


def test_progress_is_told_stage_by_stage(ledger, registry, clock):
    """An operator sees every stage reach its total, from the invitations to the sum."""
    devices = make_devices(*[Behaviour.HONEST] * 3)
    told = []
    strategy = make_strategy(
        devices, ledger, registry, clock, on_progress=lambda *event: told.append(event)
    )
    strategy.start(make_grid(devices), make_plan(make_order()))
    assert told[0] == (Stage.INVITED, 3, 3)
    assert told[-1] == (Stage.ADDED, 3, 3)
    assert (Stage.ACCEPTED, 3, 3) in told


def test_plan_whose_event_is_not_about_its_order_is_a_mistake():
    """The ledger must charge for what is asked, and a quorum of nobody is no quorum."""
    plan = make_plan(make_order())
    with pytest.raises(ValueError, match="dimension is 64 in the order but 65 in the event"):
        replace(plan, event=replace(plan.event, dimension=65))
    with pytest.raises(ValueError, match="quorum"):
        replace(plan, quorum=0)


def test_order_that_closes_in_the_past_is_a_mistake(ledger, registry, clock):
    """An order that nobody can answer is refused before it costs a reservation."""
    devices = make_devices(Behaviour.HONEST)
    clock.at_s += 600.0
    with pytest.raises(ValueError, match="closes in the past"):
        make_strategy(devices, ledger, registry, clock).start(
            make_grid(devices), make_plan(make_order())
        )
    assert ledger.calls == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_replies(ledger, registry, clock):
    """2,000 dense replies of 400 KB are 800 MB; the sum, a chunk and 2,000 ids are not."""
    dimension, people = 100_000, 2_000
    template = ScriptedDevice(
        vector=SparseVector.from_dense(np.full(dimension, 0.001, np.float32)),
        consented_at_s=NOW_S - 10,
    )
    devices = {
        FIRST_NODE + number: replace(template, signer=SoftwareKey()) for number in range(people)
    }
    strategy = make_strategy(devices, ledger, registry, clock)
    grid, plan = make_grid(devices), make_plan(make_order(dimension=dimension))
    tracemalloc.start()
    result = strategy.start(grid, plan)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.accepted == people
    assert peak_bytes < 48 * 1024 * 1024
