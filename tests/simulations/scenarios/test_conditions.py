"""Who is reachable, free, late, willing and hostile: drawn by counter, with the shares claimed."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, kstest

from client_sdk.wire import Refusal
from simulations.engines.crowd import WILLING, Answer, code_of
from simulations.scenarios.attacks import Attack
from simulations.scenarios.conditions import Conditions
from simulations.scenarios.draws import EVERY_ROUND, Draw, uniforms
from simulations.scenarios.scenario import (
    Availability,
    ClockSkew,
    Consent,
    Failures,
    Hostile,
    Zone,
)

START_S = 1_767_225_600.0  # midnight UTC
HOUR_S = 3_600.0
PEOPLE = np.arange(40_000, dtype=np.int64)
SHARES = tuple(0.1 + 0.8 * hour / 24 for hour in range(24))
EVERYTHING = Conditions(
    seed=9,
    starts_at_s=START_S,
    availability=Availability(reachable=SHARES, idle=SHARES, habit=0.5),
    failures=Failures(
        drop_out=0.1, stragglers=0.2, clock_skew=ClockSkew(deviation_s=30.0, wrong=0.01)
    ),
    consent=Consent(refuse=0.2, expired=0.1, withdraw_midway=0.05),
    hostile=Hostile(label_flipping=0.05, boosting=0.03, not_a_number=0.02, sybils=0.1),
)


def is_share(found: NDArray[np.bool_], share: float) -> bool:
    """Whether so many are no surprise (once in 10,000) at that share."""
    return bool(binomtest(int(found.sum()), len(found), share).pvalue > 1e-4)


def mixed(value: int) -> int:
    """SplitMix64's step and finaliser in plain integers, from the paper."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


def test_uniforms_equal_the_formula_and_know_splitmix() -> None:
    """The stated formula in plain integers gives the same bits; SplitMix64's first output too."""
    assert mixed(0) == 0xE220A8397B1DCDAF
    for seed, what, number, person in ((0, Draw.ZONE, 0, 0), (2**53 - 1, Draw.SKEW, 7, 10**8)):
        state = mixed(mixed(mixed(mixed(mixed(seed) ^ what) ^ number) ^ person))
        expected = ((state >> 11) + 0.5) / 2**53
        drawn = uniforms(seed, what, people=np.array([person]), round_number=number)
        assert drawn.tolist() == [expected]


def test_uniforms_are_uniform_and_independent() -> None:
    """Over people, rounds, purposes and seeds alike; neighbours know nothing of each other."""
    columns = [
        uniforms(1, Draw.REACHABLE, people=PEOPLE, round_number=0),
        uniforms(1, Draw.REACHABLE, people=PEOPLE, round_number=1),
        uniforms(1, Draw.IDLE, people=PEOPLE, round_number=0),
        uniforms(2, Draw.REACHABLE, people=PEOPLE, round_number=0),
        np.array(
            [uniforms(1, Draw.IDLE, people=PEOPLE[:1], round_number=n)[0] for n in range(2_000)]
        ),
    ]
    for column in columns:
        assert kstest(column, "uniform").pvalue > 1e-4
        assert kstest(column**1.05, "uniform").pvalue < 1e-2 or len(column) < len(PEOPLE)
    apart = np.corrcoef([*columns[:4], np.roll(columns[0], 1)])
    assert np.abs(apart - np.eye(5)).max() < 4.5 / math.sqrt(len(PEOPLE))


def test_conditions_same_person_whoever_else_is_asked() -> None:
    """Order, cohort and block change nothing; another seed, round or hour does."""
    shuffled = np.random.default_rng(0).permutation(PEOPLE)[:5_000]
    whole = EVERYTHING.at(PEOPLE, round_number=3, time_s=START_S)
    part = EVERYTHING.at(shuffled, round_number=3, time_s=START_S)
    for each in fields(whole):
        np.testing.assert_array_equal(getattr(part, each.name), getattr(whole, each.name)[shuffled])
    others = (
        EVERYTHING.at(PEOPLE, round_number=4, time_s=START_S),
        EVERYTHING.at(PEOPLE, round_number=3, time_s=START_S + 5 * HOUR_S),
        replace(EVERYTHING, seed=10).at(PEOPLE, round_number=3, time_s=START_S),
    )
    for other in others:
        assert not np.array_equal(other.reachable, whole.reachable)
        assert not np.array_equal(other.free, whole.free)


@pytest.mark.parametrize("hour", [0, 11, 23])
def test_availability_has_the_share_of_the_local_hour(hour: int) -> None:
    """At each hour, in two zones, the claimed share is there; that of another hour is refused."""
    zones = (Zone(offset_hours=0.0, share=0.25), Zone(offset_hours=-8.5, share=0.75))
    conditions = Conditions(
        seed=4, starts_at_s=START_S, availability=Availability(reachable=SHARES, zones=zones)
    )
    time_s = START_S + (hour + 0.6) * HOUR_S
    local = conditions.local_hour(PEOPLE, time_s=time_s)
    here, there = hour, (hour - 8) % 24
    assert is_share(local == here, 0.25)
    assert not is_share(local == here, 0.27)
    found = conditions.at(PEOPLE, round_number=2, time_s=time_s).reachable
    for at in (here, there):
        assert is_share(found[local == at], SHARES[at])
        assert not is_share(found[local == at], SHARES[at] + 0.03)


def test_availability_habit_keeps_people_and_not_the_share() -> None:
    """With a habit the same people come again, as many as without."""
    moments = {}
    for habit in (0.0, 0.8):
        availability = Availability(reachable=(0.3,) * 24, habit=habit)
        conditions = Conditions(seed=1, starts_at_s=START_S, availability=availability)
        first, second = (
            conditions.at(PEOPLE, round_number=number, time_s=START_S).reachable
            for number in (0, 1)
        )
        assert is_share(first, 0.3)
        assert is_share(second, 0.3)
        moments[habit] = second[first]
    assert is_share(moments[0.0], 0.3)
    # Both by habit (0.64): the same; else a new draw of one of them.
    assert is_share(moments[0.8], 0.64 + 0.36 * 0.3)


def test_busy_devices_say_the_first_reason() -> None:
    """Idle, then charging, then unmetered, as a device asks itself."""
    half = (0.5,) * 24
    conditions = Conditions(
        seed=2,
        starts_at_s=START_S,
        availability=Availability(idle=half, charging=half, unmetered=half),
    )
    free = conditions.at(PEOPLE, round_number=0, time_s=START_S).free
    shares = {Refusal.NOT_IDLE: 0.5, Refusal.NOT_CHARGING: 0.25, Refusal.METERED: 0.125}
    for reason, share in shares.items():
        assert is_share(free == code_of(reason), share)
        assert not is_share(free == code_of(reason), share + 0.02)
    assert is_share(free == WILLING, 0.125)


def test_people_fail_refuse_and_attack_as_often_as_claimed() -> None:
    """Every share holds and a wrong one is refused; hostile devices are always there and fine."""
    moment = EVERYTHING.at(PEOPLE, round_number=5, time_s=START_S)
    kinds = EVERYTHING.attacks(PEOPLE, round_number=0)
    for kind, share in zip(Attack, (0.8, 0.05, 0.03, 0.02, 0.1), strict=True):
        assert is_share(kinds == kind, share)
        assert not is_share(kinds == kind, share + 0.01)
    honest = kinds == Attack.NONE
    np.testing.assert_array_equal(moment.hostile, ~honest)
    answers = EVERYTHING.first_answers(PEOPLE)
    for found, share in (
        (moment.drops_out, 0.1),
        (moment.straggles, 0.2),
        (moment.withdraws, 0.05),
        (answers == Answer.NOT_ASKED, 0.2),
        (answers == Answer.EXPIRED, 0.1),
    ):
        assert is_share(found[honest], share)
        assert not is_share(found[honest], share + 0.015)
        assert not found[~honest].any()
    assert moment.reachable[~honest].all()
    assert (moment.free[~honest] == WILLING).all()
    assert not moment.skew_s[~honest].any()


def test_clock_skew_is_normal_with_a_share_far_off() -> None:
    """Most are off by seconds; one in fifty by days; a device stays as it is."""
    skew = ClockSkew(deviation_s=30.0, wrong=0.02, wrong_deviation_s=86_400.0)
    conditions = Conditions(seed=3, starts_at_s=0.0, failures=Failures(clock_skew=skew))
    found = conditions.skew_s(PEOPLE)
    wrong = uniforms(3, Draw.WRONG_CLOCK, people=PEOPLE, round_number=EVERY_ROUND) < 0.02
    assert is_share(wrong, 0.02)
    for part, deviation_s in ((~wrong, 30.0), (wrong, 86_400.0)):
        assert kstest(found[part] / deviation_s, "norm").pvalue > 1e-4
        assert kstest(found[part] / (1.5 * deviation_s), "norm").pvalue < 1e-2


def test_attack_sleeps_until_its_round() -> None:
    """A sleeper is honest before; and then what its seed says."""
    late = replace(EVERYTHING, hostile=replace(EVERYTHING.hostile, from_round=3))
    assert not late.attacks(PEOPLE, round_number=2).any()
    np.testing.assert_array_equal(
        late.attacks(PEOPLE, round_number=3), EVERYTHING.attacks(PEOPLE, round_number=0)
    )
