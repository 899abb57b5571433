"""A crowd under a scenario beside real devices under it: the same refusals, the same sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.campaign import Campaign, UnsafeNoPrivacy
from aggregator.in_process import InProcessGrid
from aggregator.strategy import TaskResult
from client_sdk import Homebody
from client_sdk.testing import FixedClock, MemoryKeyStore
from client_sdk.wire import DEFAULT_POLICY, Refusal, RunTerms, TaskKind
from simulations.data.bundled import load_bundled
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import Crowd
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.kernel import KernelStrategy
from simulations.evaluation.split import hold_out
from simulations.house import House, UnsafeUnbookedLedger
from simulations.population import SIMULATED_NOW_S, events_of, histories_of
from simulations.scenarios.conditions import Conditions
from simulations.scenarios.devices import Platform, ScenarioDevice, SkewedClock
from simulations.scenarios.scenario import Availability, ClockSkew, Consent, Failures, Zone

PEOPLE, ROUNDS = 64, 7
HOUR_S, DAY_S = 3_600.0, 86_400.0
TERMS = RunTerms(
    run_id="a" * 32, started_at_s=int(SIMULATED_NOW_S), rounds=ROUNDS, min_separation=2,
    max_participations=2,
)  # fmt: skip
CONDITIONS = Conditions(
    seed=6,
    starts_at_s=SIMULATED_NOW_S,
    availability=Availability(
        reachable=tuple(0.85 + 0.1 * (hour % 2) for hour in range(24)),
        idle=(0.9,) * 24,
        charging=(0.9,) * 24,
        unmetered=(0.9,) * 24,
        habit=0.5,
        zones=(Zone(offset_hours=0.0, share=0.5), Zone(offset_hours=7.0, share=0.5)),
    ),
    failures=Failures(
        drop_out=0.1,
        stragglers=0.15,
        clock_skew=ClockSkew(deviation_s=60.0, wrong=0.4, wrong_deviation_s=4 * DAY_S),
    ),
    consent=Consent(
        refuse=0.2,
        withdraw_midway=0.15,
        ask_again_after_rounds=2,
        agree_when_asked_again=0.7,
        asked_hours_before=24.0,
    ),
)


@dataclass(frozen=True)
class World:
    """Devices, and the same people as columns."""

    house: House
    clock: FixedClock
    devices: list[ScenarioDevice]
    holdings: Holdings


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Real devices of the first customers, opened a day before the first round."""
    folder = tmp_path_factory.mktemp("world")
    data = load_bundled()
    rows = data.interactions
    split = hold_out(replace(rows.take(rows.users < PEOPLE), n_people=PEOPLE))
    clock = FixedClock(CONDITIONS.asked_at_s)
    skew_s = CONDITIONS.skew_s(np.arange(PEOPLE))
    with ExitStack() as stack:
        house = stack.enter_context(
            House(folder / "house", catalogue=data.catalogue, budgets={}, clock=clock.now_s)
        )
        house.publisher.publish_base()
        devices = []
        for person in range(PEOPLE):
            platform = Platform()
            device = Homebody.open(
                folder / f"device-{person}", catalogue=data.catalogue, key_store=MemoryKeyStore(),
                clock=SkewedClock(clock, float(skew_s[person])), server_url=house.url,
                trusted_root=house.trusted_root, conditions=platform,
            )  # fmt: skip
            stack.callback(device.close)
            each = ScenarioDevice(
                person=person, device=device, platform=platform, conditions=CONDITIONS, clock=clock
            )
            each.first_answer()
            long_ago_s = SIMULATED_NOW_S - 30 * DAY_S
            device.track_many(events_of(split, data.catalogue, person, now_s=long_ago_s))
            device.update()
            devices.append(each)
        histories = histories_of(split, data.catalogue)
        release = ActiveRelease(
            catalogue_sha256=data.catalogue.sha256,
            policy_sha256=DEFAULT_POLICY.sha256,
            n_items=len(data.catalogue.items),
        )
        columns = HistoryColumns.from_histories(histories, now_s=SIMULATED_NOW_S)
        yield World(house, clock, devices, Holdings(release=release, histories=columns))


def ask(campaign: Campaign, number: int, top: NDArray[np.int32]) -> TaskResult:
    """Ask for statistics: outside of a run at first, then as rounds of one."""
    return campaign.ask(
        TaskKind.ITEM_STATISTICS,
        dimension=len(top) * (len(top) + 1) // 2,
        noise_multiplier=0.0,
        parameters={"top_items": len(top)},
        payload=top.astype("<i4").tobytes(),
        round_number=number,
        run=TERMS if number > 1 else None,
    )


def test_crowd_under_conditions_equals_real_devices(world: World) -> None:
    """Round by round the same people are refused under the same reasons, and the sums agree."""
    crowd = Crowd.under(CONDITIONS, holdings=world.holdings, now_s=SIMULATED_NOW_S)
    enrolled = {each.person + 1: each.device.device for each in world.devices}
    nodes = {each.person + 1: each.node for each in world.devices}
    campaign = replace(
        world.house.campaign(
            population="p", privacy=UnsafeNoPrivacy(), grid=InProcessGrid(nodes),
            enrolled=enrolled, report_goal=PEOPLE, quorum=1,
        ),
        round_timeout_s=3 * DAY_S,
    )  # fmt: skip
    kernel = replace(
        campaign,
        strategy=KernelStrategy(
            ledger=UnsafeUnbookedLedger(), crowd=crowd, clock=world.clock.now_s
        ),
    )
    columns = world.holdings.histories
    # One of each person's items: a straggler has something to send, as a crowd takes for granted.
    top = np.unique(columns.items[columns.offsets[:-1]])
    seen: Counter[Refusal] = Counter()
    for number in range(ROUNDS):
        now_s = SIMULATED_NOW_S + 5 * HOUR_S * number
        world.clock.set(now_s)
        crowd.now_s = now_s
        theirs, ours = ask(campaign, number, top), ask(kernel, number, top)
        assert ours.refusals == theirs.refusals, number
        assert (ours.invited, ours.accepted) == (theirs.invited, theirs.accepted)
        assert ours.accepted > 0
        gap = np.linalg.norm(ours.noisy_sum - theirs.noisy_sum)
        assert gap <= 1e-5 * np.linalg.norm(theirs.noisy_sum)
        seen.update(theirs.refusals)
    assert {
        Refusal.NO_ANSWER, Refusal.NO_CONSENT, Refusal.CONSENT_WITHDRAWN, Refusal.NOT_IDLE,
        Refusal.NOT_CHARGING, Refusal.METERED, Refusal.LATE, Refusal.BAD_RECEIPT,
        Refusal.CLOCK_ROLLED_BACK, Refusal.PARTICIPATION_UNKNOWN, Refusal.TOO_SOON,
    } <= set(seen)  # fmt: skip
