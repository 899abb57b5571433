"""Attacks on the kernel beside the same attacks by devices, message by message and in the sum."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.campaign import Campaign, UnsafeNoPrivacy
from aggregator.consents import ConsentRegistry
from aggregator.in_process import InProcessGrid
from aggregator.strategy import BoundedSumStrategy, TaskResult
from client_sdk.federation.encoders import ENCODERS, EncoderInput, TooLittleDataError
from client_sdk.federation.flower_device import handle_message
from client_sdk.federation.guard import guard
from client_sdk.intelligence.history import History
from client_sdk.wire import (
    ClippingTerms,
    Contribution,
    Declined,
    FrameKind,
    Order,
    Refusal,
    SparseVector,
    TaskKind,
    read_answer,
    read_frame,
    sha256_hex,
)
from client_sdk.wire.table import RankerSettings
from privacy.bounded_sum import STEPS, BoundedSum
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import WILLING, Crowd, code_of
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.kernel import KernelStrategy
from simulations.engines.pool import ONE_THREAD, ShardSum, Threads
from simulations.house import UnsafeUnbookedLedger
from simulations.scenarios.attacks import Attack, HostilePool, sybil_profile, tampered
from simulations.scripted import Behaviour, ScriptedDevice, SoftwareKey

NOW_S = 1_800_000_000.0
PEOPLE, N_ITEMS, TOP, FACTOR = 40, 30, 12, 1e6
KINDS = np.array([*Attack, Attack.NONE, Attack.NONE, Attack.NONE], np.int8)
CODES = KINDS[np.arange(PEOPLE) % len(KINDS)]
BEHAVIOURS = {
    Attack.NONE: Behaviour.HONEST,
    Attack.LABEL_FLIPPING: Behaviour.OPPOSES,
    Attack.BOOSTING: Behaviour.EXAGGERATES,
    Attack.NOT_A_NUMBER: Behaviour.NOT_A_NUMBER,
    Attack.SYBIL: Behaviour.HONEST,
}
KEY = SoftwareKey()
SHA = "3" * 64


@dataclass(frozen=True)
class Fixed:
    """Attackers who are who they are."""

    codes: NDArray[np.int8]

    def attacks(self, people: NDArray[np.int64], *, round_number: int) -> NDArray[np.int8]:
        """The same in every round."""
        del round_number
        return self.codes[people]


@pytest.fixture(scope="module")
def holdings() -> Holdings:
    """Forty people with 1 to 9 of 28 items; two are never sold."""
    rng = np.random.default_rng(8)
    histories = []
    for _ in range(PEOPLE):
        items = np.sort(rng.choice(N_ITEMS - 2, rng.integers(1, 10), replace=False))
        histories.append(
            History(
                items=items.astype(np.int32),
                counts=rng.integers(1, 4, len(items)).astype(np.float32),
                last_time_s=NOW_S - rng.integers(0, 10**7, len(items)).astype(np.float64),
                now_s=NOW_S,
            )
        )
    return Holdings(
        histories=HistoryColumns.from_histories(histories, now_s=NOW_S),
        release=ActiveRelease(
            catalogue_sha256=SHA, policy_sha256="2" * 64, n_items=N_ITEMS,
            settings=RankerSettings(form="ridge", ridge=0.7), rank=4, batch=60,
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pool(holdings: Holdings) -> HostilePool:
    """One thread with every kind of attacker in it."""
    profile = sybil_profile(holdings.histories, n_items=N_ITEMS, items=3)
    return HostilePool(
        inner=ONE_THREAD, attackers=Fixed(CODES), boost_factor=FACTOR, profile=profile
    )


@dataclass(frozen=True)
class Encoding:
    """A scripted device whose vector is what the SDK's encoder makes of a history."""

    history: History
    attack: Attack
    key: SoftwareKey

    def answer(self, frame: bytes) -> bytes | None:
        """Encode and guard as a device, then behave."""
        asked = read_frame(frame)
        order = Order.from_frame(asked)
        vector = SparseVector.from_dense(np.ones(order.dimension, np.float32))
        if asked.kind is FrameKind.ORDER and self.attack is not Attack.NOT_A_NUMBER:
            given = EncoderInput(history=self.history, n_items=N_ITEMS, settings=RankerSettings())
            try:
                vector = ENCODERS[order.kind](order, given)
            except TooLittleDataError:
                return Declined(
                    task_id=order.task_id, device=self.key.public_key_hex,
                    reason=Refusal.TOO_LITTLE_DATA,
                ).to_bytes(self.key)  # fmt: skip
            vector = guard(vector, dimension=order.dimension, clip_norm=1.0)
        return ScriptedDevice(
            vector=vector,
            consented_at_s=int(NOW_S) - 60,
            behaviour=BEHAVIOURS[self.attack],
            signer=self.key,
        ).answer(frame)


def test_attacks_sums_and_refusals_equal_scripted_devices(
    tmp_path: Path, holdings: Holdings, pool: HostilePool
) -> None:
    """Forty devices speak the protocol on the in-process grid; the kernel has the same sums."""
    assert pool.profile is not None
    devices = {
        person + 1: Encoding(
            pool.profile.history(0) if code == Attack.SYBIL else holdings.histories.history(person),
            Attack(code),
            SoftwareKey(),
        )
        for person, code in enumerate(CODES)
    }
    results: dict[str, list[TaskResult]] = {"devices": [], "kernel": [], "honest": []}
    plain = Holdings(
        histories=holdings.histories, release=replace(holdings.release, settings=None, rank=None)
    )
    with ConsentRegistry(f"sqlite:///{tmp_path / 'consents.db'}") as consents:
        nodes = {
            node: lambda message, each=each: handle_message(each.answer, message)
            for node, each in devices.items()
        }
        strategies = {
            "devices": BoundedSumStrategy(
                signer=KEY, ledger=UnsafeUnbookedLedger(), consents=consents,
                directory={node: each.key.public_key_hex for node, each in devices.items()},
                clock=lambda: NOW_S,
            ),
            **{
                name: KernelStrategy(
                    ledger=UnsafeUnbookedLedger(), crowd=Crowd.willing(plain), pool=adds,
                    clock=lambda: NOW_S,
                )
                for name, adds in (("kernel", pool), ("honest", ONE_THREAD))
            },
        }  # fmt: skip
        top = np.arange(0, 2 * TOP, 2)
        for name, strategy in strategies.items():
            campaign = Campaign(
                strategy=strategy, grid=InProcessGrid(nodes), population="p", n_items=N_ITEMS,
                catalogue_sha256=SHA, policy_sha256="2" * 64, report_goal=PEOPLE, quorum=1,
                privacy=UnsafeNoPrivacy(), clock=lambda: NOW_S,
            )  # fmt: skip
            results[name] = [
                campaign.ask(TaskKind.ITEM_COUNTS, dimension=N_ITEMS, noise_multiplier=0.0),
                campaign.ask(
                    TaskKind.ITEM_STATISTICS, dimension=TOP * (TOP + 1) // 2,
                    noise_multiplier=0.0, parameters={"top_items": TOP},
                    payload=top.astype("<i4").tobytes(), round_number=1,
                ),
            ]  # fmt: skip
    bound = 2.0 * np.count_nonzero(CODES)
    for ours, theirs, honest in zip(
        *(results[n] for n in ("kernel", "devices", "honest")), strict=True
    ):
        assert ours.accepted == theirs.accepted
        assert Counter(ours.refusals) == Counter(theirs.refusals)
        assert ours.refusals[Refusal.NOT_FINITE] == 5
        gap = np.linalg.norm(ours.noisy_sum - theirs.noisy_sum)
        assert gap <= 1e-5 * np.linalg.norm(theirs.noisy_sum)
        moved = np.linalg.norm(ours.noisy_sum - honest.noisy_sum)
        assert 1.0 < moved <= bound


def training_order(*, count_share: float, clip_norm: float, boost: float = 1.0) -> Order:
    """One round of item training."""
    rng = np.random.default_rng(1)
    payload = (0.3 * rng.standard_normal((N_ITEMS, 4))).astype("<f4").tobytes()
    clipping = ClippingTerms(count_share=count_share)
    return Order(
        task_id="1" * 32, kind=TaskKind.ITEM_TRAINING, population="p", round=0,
        policy_sha256="2" * 64, catalogue_sha256=SHA,
        dimension=4 * N_ITEMS + clipping.extra_entries, clip_norm=clip_norm / boost,
        closes_at_s=int(NOW_S) + 600, promise={},
        parameters={"rank": 4, "learning_rate": 0.3, "steps": 1, "negatives": 2, "ridge": 0.7,
                    "seed": 5},
        payload_sha256=sha256_hex(payload), payload=payload, clipping=clipping,
    )  # fmt: skip


@pytest.mark.parametrize("count_share", [0.0, 0.05])
@pytest.mark.parametrize("clip_norm", [0.05, 5.0])
def test_attacked_update_equals_the_tampered_message_person_by_person(
    holdings: Holdings, *, count_share: float, clip_norm: float
) -> None:
    """What is added for each attacker is what the aggregator adds of the tampered message."""
    order = training_order(count_share=count_share, clip_norm=clip_norm)
    factor = 30.0
    for person in range(6):
        alone = np.array([person])
        honest = ONE_THREAD.add_up(order, holdings, alone).steps * (clip_norm / STEPS)
        frame = Contribution(
            task_id=order.task_id, device=KEY.public_key_hex, receipt=b"",
            vector=SparseVector.from_dense(honest.astype(np.float32)),
        ).to_bytes(KEY)  # fmt: skip
        for attack in (Attack.LABEL_FLIPPING, Attack.BOOSTING):
            sent = read_answer(
                read_frame(tampered(frame, attack, order=order, factor=factor, signer=KEY))
            )
            assert isinstance(sent, Contribution)
            taken = BoundedSum(dimension=order.dimension, clip_norm=clip_norm)
            taken.add(sent.vector)
            hostile = HostilePool(
                inner=ONE_THREAD,
                attackers=Fixed(np.full(PEOPLE, attack, np.int8)),
                boost_factor=factor,
            )
            ours = hostile.add_up(order, holdings, alone).steps * (clip_norm / STEPS)
            theirs = taken._sum * (clip_norm / STEPS)
            np.testing.assert_allclose(ours, theirs, atol=1e-6 * clip_norm)
            assert np.linalg.norm(ours) <= clip_norm * (1 + 1e-9)
            assert np.linalg.norm(ours - honest) > 1e-3 * clip_norm or clip_norm < 1.0


def test_tampered_nan_is_refused_by_the_sum() -> None:
    """The message is well-formed and signed; its content is not."""
    order = training_order(count_share=0.0, clip_norm=1.0)
    vector = SparseVector.from_dense(np.ones(order.dimension, np.float32))
    frame = Contribution(
        task_id=order.task_id, device=KEY.public_key_hex, receipt=b"", vector=vector
    ).to_bytes(KEY)
    sent = read_answer(
        read_frame(tampered(frame, Attack.NOT_A_NUMBER, order=order, factor=1.0, signer=KEY))
    )
    assert isinstance(sent, Contribution)
    assert np.isnan(sent.vector.values).any()
    assert tampered(frame, Attack.SYBIL, order=order, factor=1.0, signer=KEY) == frame


def test_hostile_pool_any_workers_blocks_and_order_same_bits(
    holdings: Holdings, pool: HostilePool
) -> None:
    """The sum is the same for threads, blocks and any order of people; nobody inside is changed."""
    order = training_order(count_share=0.05, clip_norm=0.1)
    people = np.arange(PEOPLE)
    whole = pool.add_up(order, holdings, people)
    shuffled = np.random.default_rng(3).permutation(people)
    threads = replace(pool, inner=Threads(workers=3, block=2))
    for adds, who in ((threads, people), (pool, shuffled)):
        found = adds.add_up(order, holdings, who)
        np.testing.assert_array_equal(found.steps, whole.steps)
        np.testing.assert_array_equal(found.outcome, whole.outcome[who])
    refused = whole.outcome == code_of(Refusal.NOT_FINITE)
    np.testing.assert_array_equal(refused, CODES == Attack.NOT_A_NUMBER)
    assert (whole.outcome[~refused] == WILLING).all()


class ReadOnly:
    """A pool whose sums may not be written to, as those of other processes."""

    def add_up(self, order: Order, holdings: Holdings, people: NDArray[np.int64]) -> ShardSum:
        """Add up, and lock."""
        found = ONE_THREAD.add_up(order, holdings, people)
        found.steps.flags.writeable = False
        return found


def test_hostile_pool_leaves_the_inner_pools_sums_alone(
    holdings: Holdings, pool: HostilePool
) -> None:
    """Sums that come back read-only are enough."""
    order = training_order(count_share=0.0, clip_norm=0.1)
    people = np.arange(PEOPLE)
    found = replace(pool, inner=ReadOnly()).add_up(order, holdings, people)
    np.testing.assert_array_equal(found.steps, pool.add_up(order, holdings, people).steps)


def test_sybils_claim_what_nobody_buys(holdings: Holdings) -> None:
    """The profile holds the least sold items, and no more than there are."""
    profile = sybil_profile(holdings.histories, n_items=N_ITEMS, items=2)
    assert profile.items.tolist() == [N_ITEMS - 2, N_ITEMS - 1]
    with pytest.raises(ValueError, match="sybil_items must be from 1 to 30"):
        sybil_profile(holdings.histories, n_items=N_ITEMS, items=31)
    nobody = HostilePool(inner=ONE_THREAD, attackers=Fixed(CODES))
    with pytest.raises(ValueError, match="need a profile"):
        nobody.add_up(training_order(count_share=0.0, clip_norm=1.0), holdings, np.arange(PEOPLE))
    with pytest.raises(ValueError, match="at least 1"):
        replace(nobody, boost_factor=0.5)
