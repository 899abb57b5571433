"""How people and devices are at a round: who is reachable, free, fails, withdraws, attacks.

Rules a reader can check line by line:

1. Everything is a function of (seed, person, round, simulated time) and nothing else
   (`simulations.scenarios.draws`): cohort, order, blocks and workers change nothing.
2. A person has one time zone, one clock, one first answer and one attack for the whole run.
3. Whether a device can be reached, is idle, charges and is on a free network is drawn for each
   round, one apart from the other, with the shares of the person's local hour. With the habit h a
   person's draw is their own constant one with probability h: the share of the hour stays what it
   is, and the same people come again.
4. Hostile devices are always there: reachable, free, with a right clock and a consent; they do not
   fail. So each is as harmful as it can be.
5. A clock's skew is normal; where the clock is badly off, normal with a deviation of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from client_sdk.wire import Refusal
from simulations.engines.crowd import WILLING, Answer, Moment, code_of
from simulations.scenarios.attacks import Attack
from simulations.scenarios.draws import EVERY_ROUND, Draw, uniforms
from simulations.scenarios.forms import HOURS
from simulations.scenarios.scenario import Availability, Consent, Failures, Hostile, Scenario

_HOUR_S: Final = 3_600.0
_FREE: Final = (
    (Draw.IDLE, "idle", Refusal.NOT_IDLE),
    (Draw.CHARGING, "charging", Refusal.NOT_CHARGING),
    (Draw.UNMETERED, "unmetered", Refusal.METERED),
)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """A scenario's chances, and the seed that decides; a `simulations.engines.crowd.Circumstances`.

    Attributes:
        seed: Of every draw.
        starts_at_s: When the first task is, seconds since 1970 (UTC).
        availability: When devices can be reached and are free.
        failures: What goes wrong.
        consent: What people answer.
        hostile: Who attacks.
    """

    seed: int
    starts_at_s: float
    availability: Availability = field(default_factory=Availability)
    failures: Failures = field(default_factory=Failures)
    consent: Consent = field(default_factory=Consent)
    hostile: Hostile = field(default_factory=Hostile)

    @classmethod
    def of(cls, scenario: Scenario, *, starts_at_s: float) -> Conditions:
        """Take what a scenario says."""
        return cls(
            seed=scenario.seed,
            starts_at_s=starts_at_s,
            availability=scenario.availability,
            failures=scenario.failures,
            consent=scenario.consent,
            hostile=scenario.hostile,
        )

    @property
    def asked_at_s(self) -> float:
        """When people were first asked, and from when on their devices remember."""
        return self.starts_at_s - self.consent.asked_hours_before * _HOUR_S

    @property
    def asks_again_after_rounds(self) -> int | None:
        """Rounds after a no until an invitation asks again; None for never."""
        return self.consent.ask_again_after_rounds

    def first_answers(self, people: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Give uint8[m], an `Answer` for each person before the first round."""
        drawn = uniforms(self.seed, Draw.FIRST_ANSWER, people=people)
        answers = np.full(len(people), Answer.GRANTED, np.uint8)
        refuse = self.consent.refuse
        answers[drawn < refuse + self.consent.expired] = Answer.EXPIRED
        answers[drawn < refuse] = Answer.NOT_ASKED
        answers[self._kinds(people) != Attack.NONE] = Answer.GRANTED
        return answers

    def attacks(self, people: NDArray[np.int64], *, round_number: int) -> NDArray[np.int8]:
        """Give int8[m], the `Attack` of each person in a round."""
        if round_number < self.hostile.from_round:
            return np.zeros(len(people), np.int8)
        return self._kinds(people)

    def skew_s(self, people: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give float64[m], by how many seconds each device's clock is ahead."""
        skew = self.failures.clock_skew
        wrong = uniforms(self.seed, Draw.WRONG_CLOCK, people=people) < skew.wrong
        deviation_s = np.where(wrong, skew.wrong_deviation_s, skew.deviation_s)
        ahead_s = ndtri(uniforms(self.seed, Draw.SKEW, people=people)) * deviation_s
        return np.asarray(np.where(self._kinds(people) != Attack.NONE, 0.0, ahead_s))

    def local_hour(self, people: NDArray[np.int64], *, time_s: float) -> NDArray[np.int64]:
        """Give int64[m], the hour of the day where each person is, from 0 to 23."""
        zones = self.availability.zones
        steps = np.cumsum([each.share for each in zones])[:-1]
        drawn = uniforms(self.seed, Draw.ZONE, people=people)
        zone = np.searchsorted(steps, drawn, side="right")
        offset = np.array([each.offset_hours for each in zones])[zone]
        hour: NDArray[np.int64] = np.floor(time_s / _HOUR_S + offset).astype(np.int64) % HOURS
        return hour

    def at(self, people: NDArray[np.int64], *, round_number: int, time_s: float) -> Moment:
        """Say how people are at a round.

        Args:
            people: int64[m], by number.
            round_number: The order's, from 0.
            time_s: Simulated time, seconds since 1970 (UTC).
        """
        attack = self._kinds(people)
        honest = attack == Attack.NONE
        hour = self.local_hour(people, time_s=time_s)

        def happens(what: Draw, share: float) -> NDArray[np.bool_]:
            drawn = uniforms(self.seed, what, people=people, round_number=round_number)
            return np.asarray(honest & (drawn < share))

        free = np.full(len(people), WILLING, np.int8)
        for what, name, reason in _FREE:
            shares = np.array(getattr(self.availability, name))[hour]
            busy = ~(self._habitual(what, people, round_number) < shares)
            free[honest & busy & (free == WILLING)] = code_of(reason)
        reachable = np.array(self.availability.reachable)[hour]
        found = self._habitual(Draw.REACHABLE, people, round_number) < reachable
        return Moment(
            reachable=found | ~honest,
            free=free,
            skew_s=self.skew_s(people),
            drops_out=happens(Draw.DROP_OUT, self.failures.drop_out),
            straggles=happens(Draw.STRAGGLER, self.failures.stragglers),
            withdraws=happens(Draw.WITHDRAW, self.consent.withdraw_midway),
            agrees=happens(Draw.ANSWER_AGAIN, self.consent.agree_when_asked_again),
            hostile=~honest,
            made_up=self.attacks(people, round_number=round_number) == Attack.SYBIL,
        )

    def _kinds(self, people: NDArray[np.int64]) -> NDArray[np.int8]:
        """Give the attack that each person's device is there for, also while it still waits."""
        shares = self.hostile.shares
        if not any(shares):
            return np.zeros(len(people), np.int8)
        drawn = uniforms(self.seed, Draw.ATTACK, people=people)
        kind = np.searchsorted(np.cumsum(shares), drawn, side="right")
        # Beyond the last share nobody attacks.
        return ((kind + 1) % (len(shares) + 1)).astype(np.int8)

    def _habitual(
        self, what: Draw, people: NDArray[np.int64], round_number: int
    ) -> NDArray[np.float64]:
        """Draw uniform numbers that a person's habit repeats from round to round."""
        drawn = uniforms(self.seed, what, people=people, round_number=round_number)
        if not self.availability.habit:
            return drawn
        always = uniforms(self.seed, what, people=people, round_number=EVERY_ROUND)
        by_habit = uniforms(self.seed, Draw.HABIT, people=people, round_number=round_number)
        return np.where(by_habit < self.availability.habit, always, drawn)
