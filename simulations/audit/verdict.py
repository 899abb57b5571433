"""From a transcript to a verdict: the claim as the ledger has it, and looks that could refute it.

A look has a p-value under the claim, and contradicts it below its share of `FALSE_ALARM`. The looks
at the separation of the groups are exact for Gaussian noise, those at the noise and the one-run
bound hold whatever happens (`privacy.audit`). Because the shares add up, a pipeline that does what
it booked is accused with probability `FALSE_ALARM` at most; nothing here was tuned to pass.

| look | contradicts the claim when |
|---|---|
| everyone | all canaries who were in stand out more than 1/σ |
| accomplices | those who exaggerate and come too often do |
| accomplices, once more | they do in the rounds of which one was not theirs |
| noise | some direction across the rounds has too little of it |
| one run | more memberships were guessed right than the claim allows |
| participation | somebody was in more rounds, or closer ones, than was booked (counted) |
| membership | an attack on the published model beats what the claim allows |
| seen | canaries stand out far *less* than they should: the audit is blind, which is no pass |
"""

from __future__ import annotations

import math
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from privacy.accounting import epsilon_deciding
from privacy.audit import (
    Separation,
    guess,
    guesses_for,
    matched_filter,
    noise_shortfall,
    one_run_epsilon,
    one_run_p_value,
    separation,
)
from privacy.gaussian import composed_noise_multiplier
from privacy.noise import GaussianNoise
from simulations.audit.aggregation import AuditedMechanism, Claim, Ports
from simulations.audit.canaries import Canaries, Floats, plant
from simulations.audit.pipeline import Transcript, run_pipeline

FALSE_ALARM: Final = 1e-4
CONFIDENCE: Final = 0.95
LOOKS: Final = 8
DEFAULT_DELTA: Final = 1e-6
DEFAULT_REAL_DEVICES: Final = 24
MIN_CANARIES: Final = 100
MAX_CANARIES: Final = 20_000
_FEWEST: Final = 1_000
_PRECISION: Final = 0.07
_COARSE: Final = 2.0
# What the filter loses because it estimates the covariance from so many entries, at most.
_FILTER_LOSS: Final = 0.99

OnProgress = Callable[[str, int], None]


def canaries_for(claim: Claim) -> int:
    """Give how many canaries tell the claim's separation to 7 %, and at least 1,000.

    Example:
        >>> claim = Claim(mechanism=AuditedMechanism.BLT, epsilon=1.0, delta=1e-6)
        >>> canaries_for(claim), canaries_for(replace(claim, epsilon=8.0))
        (7286, 1000)
    """
    return min(MAX_CANARIES, max(_FEWEST, 2 * math.ceil((_PRECISION * claim.mu) ** -2)))


@dataclass(frozen=True, kw_only=True)
class Look:
    """One way to look at the claim.

    Attributes:
        name: See the module's table.
        found: What was measured.
        allowed: What the claim allows.
        p_value: Of what was measured, under the claim; 1 or 0 where it was counted.
        contradicts: Whether the claim cannot stand.
        says: In a sentence.
    """

    name: str
    found: float
    allowed: float
    p_value: float
    contradicts: bool
    says: str

    def to_values(self) -> dict[str, Any]:
        """Give what JSON holds."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """The canaries' scores, for the picture and for tests.

    Attributes:
        inside: Of those who were in.
        outside: Of those who were not.
        mu: Separation that was claimed.
    """

    inside: Floats
    outside: Floats
    mu: float


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditResult:
    """The verdict, and what it rests on.

    Attributes:
        claim: What was asked for.
        claimed_epsilon: ε of what the ledger booked, at the claim's δ.
        headline: The separation that ``estimated_epsilon`` is of: everyone's, or that of the look
            that contradicts the claim the most.
        lower_bound: ε that the true one exceeds, with `CONFIDENCE`; valid without assumptions.
        canaries: How many were planted; about half of them were in.
        took_part: How many were in at least one sum.
        looks: What was looked at.
        scores: The scores behind ``everyone``.
        seed: Of the canaries and the noise; None: from the operating system.
    """

    claim: Claim
    claimed_epsilon: float
    headline: Separation
    lower_bound: float
    canaries: int
    took_part: int
    looks: tuple[Look, ...]
    scores: Scored
    seed: int | None

    @property
    def holds(self) -> bool:
        """Whether no look contradicts the claim."""
        return not any(look.contradicts for look in self.looks)

    @property
    def estimated_epsilon(self) -> float:
        """ε of the Gaussian mechanism that separates the canaries as far as was found."""
        return self.headline.epsilon(self.claim.delta)

    def with_looks(self, *looks: Look) -> AuditResult:
        """Add looks that were taken elsewhere."""
        return replace(self, looks=(*self.looks, *looks))

    def to_values(self) -> dict[str, Any]:
        """Give what ``--json`` prints."""
        delta = self.claim.delta
        return {
            "claimed_epsilon": self.claimed_epsilon,
            "estimated_epsilon": self.estimated_epsilon,
            "estimated_epsilon_low": self.headline.epsilon(delta, errors=-_COARSE),
            "estimated_epsilon_high": self.headline.epsilon(delta, errors=_COARSE),
            "lower_bound": self.lower_bound,
            "lower_bound_confidence": CONFIDENCE,
            "delta": delta,
            "mechanism": self.claim.mechanism.value,
            "canaries": self.canaries,
            "took_part": self.took_part,
            "separation": self.headline.mu,
            "claimed_separation": self.scores.mu,
            "false_alarm": FALSE_ALARM,
            "looks": [look.to_values() for look in self.looks],
            "seed": self.seed,
            "holds": self.holds,
        }


def audit(
    claim: Claim,
    *,
    canaries: int | None = None,
    seed: int | None = None,
    real_devices: int = DEFAULT_REAL_DEVICES,
    ports: Ports | None = None,
    on_progress: OnProgress = lambda _stage, _done: None,
) -> AuditResult:
    """Plant canaries in a run of the real pipeline, and judge.

    Args:
        claim: What is promised.
        canaries: How many to plant; `canaries_for` when left out.
        seed: Repeats canaries, coins and noise; by default all come from the operating system.
            Discrete noise always does.
        real_devices: How many of those who are in run the device code that ships.
        ports: What the pipeline is built from.
        on_progress: Told the stage, and by how much it went on.

    Raises:
        ValueError: too few or too many canaries.
    """
    count = canaries_for(claim) if canaries is None else canaries
    if not MIN_CANARIES <= count <= MAX_CANARIES:
        raise ValueError(f"canaries must be from {MIN_CANARIES} to {MAX_CANARIES}; got {count}")
    histogram = claim.mechanism is AuditedMechanism.HISTOGRAM
    if ports is None:
        ports = Ports()
        if seed is not None and not histogram:
            noise = GaussianNoise.from_seed_for_simulation(seed)
            ports = replace(ports, new_noise=lambda: noise)
    rng = np.random.default_rng(secrets.randbits(128) if seed is None else seed)
    planted = plant(count, rng=rng, buckets=histogram)
    with tempfile.TemporaryDirectory(prefix="homebody-audit-") as folder:
        transcript = run_pipeline(
            claim,
            planted,
            directory=Path(folder),
            real_devices=real_devices,
            ports=ports,
            on_step=lambda done: on_progress("contributions", done),
        )
    return judge(claim, planted, transcript, seed=seed)


def judge(
    claim: Claim, canaries: Canaries, transcript: Transcript, *, seed: int | None = None
) -> AuditResult:
    """Put the claim, as booked, to every look; pure.

    Args:
        claim: What was asked for; its δ is the claim's.
        canaries: Who was planted.
        transcript: What was published and booked.
        seed: Noted.
    """
    share = FALSE_ALARM / LOOKS
    claimed = epsilon_deciding(transcript.events, claim.delta)
    mu = 1.0 / composed_noise_multiplier(event.noise_multiplier for event in transcript.events)
    noise, nobody = canaries.noise(transcript.whitened)
    projected = canaries.project(transcript.whitened)
    signal = transcript.signal(transcript.planned)
    weights = matched_filter(signal, noise)
    scores: Floats = weights @ projected
    inside = scores[canaries.inside]
    outside = np.concatenate([scores[~canaries.inside], weights @ nobody])
    everyone = separation(inside, outside)
    looks = [_leak("everyone", everyone, mu, share)]
    found = [everyone]
    accomplices = canaries.inside.copy()
    accomplices[list(transcript.real)] = False
    if transcript.real and accomplices.sum() > 1:
        found.append(separation(scores[accomplices], outside))
        looks.append(_leak("accomplices", found[-1], mu, share))
    if transcript.attempted != transcript.planned and accomplices.sum() > 1:
        weights_once_more = matched_filter(transcript.signal(transcript.attempted), noise)
        more = weights_once_more @ projected
        others = np.concatenate([more[~canaries.inside], weights_once_more @ nobody])
        found.append(separation(more[accomplices], others))
        looks.append(_leak("accomplices, once more", found[-1], mu, share))
    worst = min(range(len(looks)), key=lambda at: looks[at].p_value)
    looks.append(_noise(noise, share))
    one_run, lower_bound = _one_run(
        scores, canaries, epsilon=claimed, mu=mu, delta=claim.delta, share=share
    )
    looks.append(one_run)
    if transcript.booked is not None and transcript.realised is not None:
        looks.append(_participation(transcript))
    planned_mu = float(weights @ signal) / float(np.linalg.norm(weights))
    looks.append(_seen(everyone, planned_mu, share))
    return AuditResult(
        claim=claim,
        claimed_epsilon=claimed,
        headline=found[worst] if looks[worst].contradicts else everyone,
        lower_bound=lower_bound,
        canaries=len(canaries),
        took_part=transcript.took_part,
        looks=tuple(looks),
        scores=Scored(inside=inside, outside=outside, mu=mu),
        seed=seed,
    )


def _leak(name: str, found: Separation, mu: float, share: float) -> Look:
    p_value = found.p_above(mu)
    return Look(
        name=name,
        found=found.mu,
        allowed=mu,
        p_value=p_value,
        contradicts=p_value < share,
        says=f"{found.inside:,} who were in stand out by {found.mu:.3g} deviations of the noise",
    )


def _noise(noise: Floats, share: float) -> Look:
    smallest, allowed = noise_shortfall(noise, alpha=share)
    return Look(
        name="noise",
        found=smallest,
        allowed=allowed,
        p_value=1.0 if smallest >= allowed else 0.0,
        contradicts=smallest < allowed,
        says=f"the smallest variance of any direction is {smallest:.3g} of what was booked",
    )


def _one_run(
    scores: Floats, canaries: Canaries, *, epsilon: float, mu: float, delta: float, share: float
) -> tuple[Look, float]:
    count = len(canaries)
    guesses = guesses_for(canaries=count, mu=mu, delta=delta, confidence=CONFIDENCE)
    guessed = guess(scores, guesses=guesses)
    truth = np.where(canaries.inside, 1, -1)
    right = int(np.count_nonzero(guessed == truth))
    p_value = one_run_p_value(
        canaries=count, guesses=guesses, right=right, epsilon=epsilon, delta=delta
    )
    bound = one_run_epsilon(
        canaries=count, guesses=guesses, right=right, delta=delta, confidence=CONFIDENCE
    )
    look = Look(
        name="one run",
        found=right / guesses,
        allowed=1.0 / (1.0 + math.exp(-epsilon)),
        p_value=p_value,
        contradicts=p_value < share,
        says=f"{right:,} of {guesses:,} guesses about membership were right",
    )
    return look, bound


def _participation(transcript: Transcript) -> Look:
    booked, realised = transcript.booked, transcript.realised
    if booked is None or realised is None:
        raise ValueError("a release of one round has no participation to count")
    most, apart = realised.max_participations, realised.min_separation
    worse = most > booked.max_participations or (most > 1 and apart < booked.min_separation)
    return Look(
        name="participation",
        found=float(most),
        allowed=float(booked.max_participations),
        p_value=0.0 if worse else 1.0,
        contradicts=worse,
        says=f"at most {most} rounds of one person, at least {apart} rounds apart",
    )


def _seen(found: Separation, expected: float, share: float) -> Look:
    p_value = found.p_below(_FILTER_LOSS * expected)
    return Look(
        name="seen",
        found=found.mu,
        allowed=expected,
        p_value=p_value,
        contradicts=p_value < share,
        says=f"the canaries should stand out by {expected:.3g}, or the audit saw nothing",
    )
