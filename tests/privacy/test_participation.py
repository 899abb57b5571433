"""Realised participation: what happened is found, and paid for to the last drop."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.wire import TaskKind
from privacy.accounting import epsilon_gaussian
from privacy.events import MechanismName, NoiseSource, ReleaseEvent
from privacy.factorisation import Factorisation, FactorisationName
from privacy.participation import Realised, realised_of, supplement_for, worst_case

BLT = Factorisation(
    name=FactorisationName.BLT,
    rounds=8,
    min_separation=3,
    max_participations=2,
    decays=(0.9, 0.3),
    weights=(0.3, 0.2),
)
PLANS = (
    BLT,
    replace(BLT, name=FactorisationName.INDEPENDENT_ROUNDS, decays=(), weights=()),
    replace(BLT, name=FactorisationName.TREE, decays=(), weights=()),
    replace(
        BLT,
        name=FactorisationName.BANDED_TOEPLITZ,
        decays=(),
        weights=(),
        coefficients=(1.0, 0.5, 0.25),
    ),
)
EVENT = ReleaseEvent(
    kind=TaskKind.ITEM_TRAINING,
    task_id="ab" * 16,
    population="shop",
    noise_multiplier=3.0,
    clip_norm=1.0,
    dimension=4,
    report_goal=10,
    mechanism=MechanismName.BLT,
    factorisation=BLT,
)


@given(st.lists(st.sets(st.integers(0, 30), max_size=6), max_size=6))
def test_realised_of_people_is_their_smallest_gap_and_largest_count(
    people: list[set[int]],
) -> None:
    """Compared with a look at every pair."""
    realised = realised_of([sorted(each) for each in people], rounds=31)
    gaps = [b - a for each in people for a, b in combinations(sorted(each), 2)]
    assert realised.min_separation == min(gaps, default=31)
    assert realised.max_participations == max([1, *(len(each) for each in people)])


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name.value)
def test_realised_sensitivity_covers_every_pattern_that_happened(plan: Factorisation) -> None:
    """Whatever rounds one person was in: the strategy moves by no more than is then paid for."""
    matrix = plan.strategy_matrix()
    for pattern in range(1, 2**plan.rounds):
        numbers = [t for t in range(plan.rounds) if pattern >> t & 1]
        realised = realised_of([numbers], rounds=plan.rounds)
        moved = np.linalg.norm(matrix[:, numbers].sum(axis=1))
        assert moved <= realised.of(plan).sensitivity() * (1 + 1e-12), numbers


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name.value)
def test_worst_case_covers_every_pattern_with_lost_rounds(plan: Factorisation) -> None:
    """Anything in the lost rounds, the plan in the others: the worst case is above all of them."""
    matrix, lost = plan.strategy_matrix(), {1, 2, 5}
    bound = worst_case(plan, lost_rounds=len(lost)).of(plan).sensitivity()
    for pattern in range(1, 2**plan.rounds):
        numbers = [t for t in range(plan.rounds) if pattern >> t & 1]
        kept = [t for t in numbers if t not in lost]
        apart = all(b - a >= plan.min_separation for a, b in pairwise(kept))
        if apart and len(kept) <= plan.max_participations:
            moved = np.linalg.norm(matrix[:, numbers].sum(axis=1))
            assert moved <= bound * (1 + 1e-12), numbers


@given(b=st.integers(1, 8), k=st.integers(1, 8))
def test_supplement_and_event_cost_together_what_happened(b: int, k: int) -> None:
    """ρ adds up: the same ε as one run that had been planned so, and no less than planned."""
    realised = Realised(min_separation=b, max_participations=k)
    owed = supplement_for(EVENT, realised)
    ratio = realised.of(BLT).sensitivity() / BLT.sensitivity()
    if ratio <= 1.0:
        assert owed is None
        return
    assert owed is not None
    happened = replace(EVENT, noise_multiplier=EVENT.noise_multiplier / ratio)
    assert epsilon_gaussian([EVENT, owed], 1e-6) == pytest.approx(
        epsilon_gaussian([happened], 1e-6), rel=1e-9
    )
    assert owed.task_id != EVENT.task_id
    assert (owed.population, owed.window, owed.purpose) == ("shop", EVENT.window, EVENT.purpose)
    assert supplement_for(EVENT, realised, paid=[owed]) is None


def test_supplement_after_another_pays_the_difference_alone() -> None:
    """Twice worse is not paid for twice."""
    first = supplement_for(EVENT, Realised(min_separation=2, max_participations=3))
    assert first is not None
    worst = Realised(min_separation=1, max_participations=8)
    second = supplement_for(EVENT, worst, paid=[first])
    alone = supplement_for(EVENT, worst)
    assert second is not None
    assert alone is not None
    assert second.task_id != first.task_id
    assert epsilon_gaussian([EVENT, first, second], 1e-6) == pytest.approx(
        epsilon_gaussian([EVENT, alone], 1e-6), rel=1e-9
    )


def test_supplement_for_a_simulation_stays_one() -> None:
    """What was a forecast is supplemented in the same scope."""
    seeded = replace(EVENT, noise_source=NoiseSource.SEEDED_SIMULATION)
    owed = supplement_for(seeded, Realised(min_separation=1, max_participations=8))
    assert owed is not None
    assert owed.simulated


def test_supplement_for_one_round_is_refused() -> None:
    """There is nothing that participation could change."""
    one_round = replace(EVENT, mechanism=MechanismName.GAUSSIAN, factorisation=None)
    with pytest.raises(ValueError, match="only a run"):
        supplement_for(one_round, Realised(min_separation=1, max_participations=1))
