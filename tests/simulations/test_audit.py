"""The audit: it sees the claim where it is kept, and each planted fault where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest

from aggregator.strategy import BoundedSumStrategy
from client_sdk.wire import TaskKind
from privacy.bounded_sum import BoundedSum
from privacy.events import MechanismName, ReleaseEvent
from privacy.factorisation import FactorisationName
from privacy.gaussian import epsilon_of
from privacy.mechanisms import Mechanism
from privacy.noise import GaussianNoise
from privacy.optimise import factorisation_for
from privacy.participation import Realised
from simulations.audit.aggregation import AuditedMechanism, Claim, Ports
from simulations.audit.canaries import BLOCK, Canaries, Floats, plant
from simulations.audit.pipeline import Transcript, worst_rounds
from simulations.audit.verdict import (
    FALSE_ALARM,
    LOOKS,
    AuditResult,
    Look,
    audit,
    canaries_for,
    judge,
)
from tests.simulations.faults import (
    FaultyStrategy,
    ForgetfulStore,
    HalfTheNoise,
    OneDrawTwice,
    SumWith,
    SumWithoutClip,
)

GAUSSIAN, HISTOGRAM, BLT = (
    AuditedMechanism.GAUSSIAN,
    AuditedMechanism.HISTOGRAM,
    AuditedMechanism.BLT,
)
DELTA = 1e-6
TOLERANCE = 0.25


def claim_of(mechanism: AuditedMechanism, epsilon: float = 8.0) -> Claim:
    """Give a claim."""
    return Claim(mechanism=mechanism, epsilon=epsilon, delta=DELTA)


def look(result: AuditResult, name: str) -> Look:
    """Find a look."""
    return next(each for each in result.looks if each.name == name)


def contradicting(result: AuditResult) -> set[str]:
    """Name the looks that contradict the claim."""
    return {each.name for each in result.looks if each.contradicts}


def faulty(new_sum: Callable[[int, float], BoundedSum]) -> Ports:
    """Give ports with a strategy over faulty sums."""

    def strategy(**parts: object) -> BoundedSumStrategy:
        return FaultyStrategy(**parts, new_sum=new_sum)  # type: ignore[arg-type]

    noise = GaussianNoise.from_seed_for_simulation(3)
    return Ports(new_strategy=strategy, new_noise=lambda: noise)


def released_by(wrap: Callable[[Mechanism], Mechanism]) -> Ports:
    """Give ports whose sums are released by a faulty mechanism."""
    return faulty(lambda dimension, clip: SumWith(dimension=dimension, clip_norm=clip, wrap=wrap))


@pytest.mark.parametrize(
    ("mechanism", "epsilon"),
    [
        (GAUSSIAN, 1.0),
        (GAUSSIAN, 2.0),
        (BLT, 4.0),
        (BLT, 8.0),
        (AuditedMechanism.INDEPENDENT_ROUNDS, 8.0),
        (AuditedMechanism.BANDED_TOEPLITZ, 8.0),
    ],
)
def test_audit_honest_pipeline_estimates_epsilon_within_a_quarter(
    mechanism: AuditedMechanism, epsilon: float
) -> None:
    """The estimate is within 25 % of the truth, the bound below it, and nothing is alarmed."""
    result = audit(claim_of(mechanism, epsilon), seed=5)
    assert result.claimed_epsilon == pytest.approx(epsilon, rel=1e-6)
    assert abs(result.estimated_epsilon - epsilon) <= TOLERANCE * epsilon
    assert 0.0 <= result.lower_bound <= epsilon
    assert contradicting(result) == set()
    assert result.holds


def test_audit_honest_histogram_with_the_systems_noise_holds() -> None:
    """Discrete noise, the shipped encoder, and nothing seeded but who is in."""
    result = audit(claim_of(HISTOGRAM), seed=5, canaries=600)
    assert contradicting(result) == set()
    assert 8.0 <= result.claimed_epsilon <= 1.1 * 8.0
    assert 0.5 * 8.0 <= result.estimated_epsilon <= 1.5 * 8.0


@pytest.mark.parametrize("mechanism", [GAUSSIAN, HISTOGRAM, BLT])
def test_audit_halved_noise_is_caught(mechanism: AuditedMechanism) -> None:
    """A half of the noise doubles the separation: the estimate, and the noise itself, say so."""
    ports = released_by(lambda right: HalfTheNoise(right=right))
    if mechanism is HISTOGRAM:
        ports = replace(ports, new_noise=GaussianNoise.from_system)
    result = audit(claim_of(mechanism), canaries=600, ports=ports, seed=5)
    assert contradicting(result) >= {"everyone", "accomplices", "noise"}
    assert not result.holds
    assert result.headline.mu == pytest.approx(2.0 * claim_of(mechanism).mu, rel=0.2)
    assert result.estimated_epsilon > 2.0 * result.claimed_epsilon


@pytest.mark.parametrize("mechanism", [GAUSSIAN, BLT])
def test_audit_skipped_clip_is_caught(mechanism: AuditedMechanism) -> None:
    """The aggregator does not clip: whoever exaggerates stands out, whatever honest devices do."""
    ports = faulty(lambda dimension, clip: SumWithoutClip(dimension=dimension, clip_norm=clip))
    result = audit(claim_of(mechanism), canaries=200, ports=ports, seed=5)
    assert "accomplices" in contradicting(result)
    assert look(result, "noise").contradicts is False
    assert result.estimated_epsilon > 100.0
    assert not result.holds


@pytest.mark.parametrize(("mechanism", "second"), [(GAUSSIAN, 1), (BLT, 1), (BLT, 3)])
def test_audit_reused_noise_is_caught(mechanism: AuditedMechanism, second: int) -> None:
    """Two sums with one noise have a difference without any, whoever is in them."""
    memory = OneDrawTwice(second=second)
    result = audit(claim_of(mechanism), canaries=200, ports=released_by(memory.of), seed=5)
    assert "noise" in contradicting(result)
    assert look(result, "noise").found < 1e-6
    assert not result.holds


def test_audit_reused_noise_source_is_caught() -> None:
    """A source that starts again for each release gives two releases the same noise."""
    ports = Ports(new_noise=lambda: GaussianNoise.from_seed_for_simulation(3))
    result = audit(claim_of(GAUSSIAN), canaries=200, ports=ports, seed=5)
    assert "noise" in contradicting(result)


@pytest.mark.parametrize("mechanism", [AuditedMechanism.INDEPENDENT_ROUNDS, BLT])
def test_audit_leaked_participation_is_caught(mechanism: AuditedMechanism) -> None:
    """One round more than allowed: counted, and seen in what was published."""
    noise = GaussianNoise.from_seed_for_simulation(3)
    ports = Ports(new_store=ForgetfulStore, new_noise=lambda: noise)
    result = audit(claim_of(mechanism), canaries=1200, ports=ports, seed=5)
    assert {"participation", "accomplices, once more"} <= contradicting(result)
    assert look(result, "participation").found == 3
    assert look(result, "noise").contradicts is False
    assert not result.holds


def synthetic(canaries: Canaries, noise: Floats, *, share: float = 1.0) -> Transcript:
    """Give a transcript of one honest Gaussian release of noise multiplier 1, without devices.

    Args:
        canaries: Who is planted.
        noise: float64[1, dimension].
        share: How much of each canary arrives.
    """
    whitened = noise.copy()
    for number in np.flatnonzero(canaries.inside):
        vector = canaries.vector(int(number))
        whitened[0, vector.indices] += share * vector.values
    event = ReleaseEvent(
        kind=TaskKind.ITEM_COUNTS,
        task_id="0" * 32,
        population="audit",
        noise_multiplier=1.0,
        clip_norm=1.0,
        dimension=canaries.dimension,
        report_goal=1,
    )
    return Transcript(
        whitened=whitened,
        effect=np.eye(1),
        planned=(0,),
        attempted=(0,),
        events=(event,),
        booked=None,
        realised=None,
        took_part=int(canaries.inside.sum()),
        real=frozenset(),
    )


def p_values(*, scale: float, repetitions: int) -> Floats:
    """Give the p-values of the first look over many releases whose noise has a wrong scale."""
    rng = np.random.default_rng(11)
    claim = claim_of(GAUSSIAN)
    found = []
    for _ in range(repetitions):
        canaries = plant(256, rng=rng)
        noise = scale * rng.standard_normal((1, canaries.dimension))
        result = judge(claim, canaries, synthetic(canaries, noise))
        found.append(look(result, "everyone").p_value)
    return np.array(found)


def test_judge_honest_releases_have_uniform_p_values() -> None:
    """The false alarm rate is what is stated: p-values under the claim are uniform (KS, 1e-6)."""
    found = np.sort(p_values(scale=1.0, repetitions=300))
    steps = np.arange(1, found.size + 1) / found.size
    distance = float(np.abs(found - steps).max())
    assert distance < np.sqrt(np.log(2.0 / 1e-6) / (2.0 * found.size)) + 1.0 / found.size


@pytest.mark.parametrize(("scale", "small"), [(0.5, True), (2.0, False)])
def test_judge_wrong_scale_moves_p_values(scale: float, small: bool) -> None:
    """Too little noise alarms always; too much never does, it is only wasted."""
    found = p_values(scale=scale, repetitions=20)
    assert bool((found < FALSE_ALARM / LOOKS).all()) is small
    assert bool((found > 0.5).all()) is not small


def test_judge_canaries_that_did_not_arrive_is_no_pass() -> None:
    """An audit that sees nothing says so, and does not hold."""
    rng = np.random.default_rng(12)
    canaries = plant(1000, rng=rng)
    noise = rng.standard_normal((1, canaries.dimension))
    result = judge(claim_of(GAUSSIAN), canaries, synthetic(canaries, noise, share=0.0))
    assert contradicting(result) == {"seen"}
    assert not result.holds


def test_judge_participation_closer_than_booked_contradicts() -> None:
    """The separation counts as well as the number of rounds."""
    rng = np.random.default_rng(13)
    canaries = plant(256, rng=rng)
    honest = synthetic(canaries, rng.standard_normal((1, canaries.dimension)))
    booked = Realised(min_separation=3, max_participations=2)
    for realised, contradicts in (
        (booked, False),
        (Realised(min_separation=1, max_participations=1), False),
        (Realised(min_separation=2, max_participations=2), True),
        (Realised(min_separation=3, max_participations=3), True),
    ):
        transcript = replace(honest, booked=booked, realised=realised)
        result = judge(claim_of(GAUSSIAN), canaries, transcript)
        assert look(result, "participation").contradicts is contradicts


def test_judge_claim_comes_from_the_ledger() -> None:
    """What was booked is what is claimed, not what was asked for."""
    rng = np.random.default_rng(14)
    canaries = plant(256, rng=rng)
    transcript = synthetic(canaries, rng.standard_normal((1, canaries.dimension)))
    result = judge(claim_of(GAUSSIAN, epsilon=1.0), canaries, transcript)
    assert result.claimed_epsilon == pytest.approx(epsilon_of(delta=DELTA, noise_multiplier=1.0))
    discrete = replace(transcript.events[0], mechanism=MechanismName.DISCRETE_GAUSSIAN)
    result = judge(claim_of(GAUSSIAN), canaries, replace(transcript, events=(discrete,)))
    assert result.claimed_epsilon > epsilon_of(delta=DELTA, noise_multiplier=1.0)


@pytest.mark.parametrize("buckets", [False, True])
def test_plant_vectors_are_orthonormal_and_projected_back(buckets: bool) -> None:
    """A canary's score holds itself, and nothing of anybody else."""
    canaries = plant(2 * BLOCK + 5, rng=np.random.default_rng(1), buckets=buckets)
    dense = np.stack([canaries.vector(n).to_dense() for n in range(len(canaries))])
    gram = dense.astype(np.float64) @ dense.astype(np.float64).T
    np.testing.assert_allclose(gram, np.eye(len(canaries)), atol=1e-6)
    np.testing.assert_allclose(canaries.project(dense.astype(np.float64)), gram, atol=1e-6)
    alone = dense + canaries.bystander().to_dense()
    assert all(not half.any() for half in canaries.noise(alone.astype(np.float64)))


@pytest.mark.parametrize("name", [FactorisationName.BLT, FactorisationName.BANDED_TOEPLITZ])
def test_worst_rounds_are_as_bad_as_the_sensitivity(name: FactorisationName) -> None:
    """In them a canary moves as much as the claim allows anybody to: the audit is not too mild."""
    plan = factorisation_for(name, rounds=6, min_separation=2, max_participations=2)
    strategy = plan.strategy_matrix()
    rounds = worst_rounds(plan)
    assert all(later - earlier >= 2 for earlier, later in pairwise(rounds))
    moved = float(np.linalg.norm(strategy[:, list(rounds)].sum(axis=1)))
    assert moved == pytest.approx(plan.sensitivity(), rel=1e-9)
    allowed = [each for each in combinations(range(6), 2) if each[1] - each[0] >= 2]
    most = max(float(np.linalg.norm(strategy[:, list(each)].sum(axis=1))) for each in allowed)
    assert moved == pytest.approx(most, rel=1e-9)


def test_canaries_for_smaller_claims_are_more() -> None:
    """The smaller the separation, the more canaries it takes to see it."""
    counts = [canaries_for(claim_of(BLT, epsilon)) for epsilon in (0.5, 1.0, 2.0, 4.0, 8.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= 1_000
    assert counts[0] <= 20_000


@pytest.mark.parametrize("canaries", [0, 99, 20_001])
def test_audit_of_too_few_or_too_many_canaries_raises(canaries: int) -> None:
    """Nothing is run for a number that proves nothing, or that never ends."""
    with pytest.raises(ValueError, match="canaries must be from 100 to 20000"):
        audit(claim_of(BLT), canaries=canaries)
