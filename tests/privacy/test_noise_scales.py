"""Every noise source has the scale that its event claims, and a scale wrong by 5 % is caught.

How sure. Each source gives `VALUES` independent values of one known variance. For a normal, the sum
of squares over the claimed variance is chi-square with `VALUES` degrees of freedom; for a discrete
Laplace of 2^30 steps, the sum of absolute values over the scale is gamma distributed (the lattice
changes either by less than 1e-9). A claim is accepted within the quantiles 2e-7 and 1 - 2e-7, so a
right source fails with a chance of 4e-7: the noise of the operating system may be tested here, not
only that of a seed. At 60,000 values the accepted band is 1.4 % of the scale to either side for a
normal, and 2.1 % for a Laplace; a scale wrong by 5 % lies 12 and 7 standard deviations beyond it.

What is compared is the whole way from the event: `mechanism_for(event)` makes the noise in lattice
steps, `event.noise_std` claims it in the units of the sum, and for a run of rounds
`factorisation.prefix_errors` says how much of it the running sum carries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from client_sdk.wire import TaskKind
from privacy.bounded_sum import STEPS
from privacy.correlated import init
from privacy.events import LOCAL_ADJACENCY, LOCAL_TRUSTED, MechanismName, ReleaseEvent
from privacy.factorisation import FactorisationName
from privacy.local import LocalGaussian
from privacy.mechanisms import mechanism_for
from privacy.noise import GaussianNoise
from privacy.optimise import factorisation_for

VALUES = 60_000
CLIP_NORM = 0.25
LEVEL = 2e-7
REPORTS = 4
ROUNDS = 11


def accepts(values: np.ndarray, claimed_std: float, *, laplace: bool) -> bool:
    """Say whether values of mean 0 fit the claimed standard deviation, at 2 · `LEVEL`."""
    if laplace:
        statistic = float(np.abs(values).sum()) * math.sqrt(2.0) / claimed_std
        low, high = stats.gamma.ppf([LEVEL, 1 - LEVEL], a=values.size)
    else:
        statistic = float(np.square(values / claimed_std).sum())
        low, high = stats.chi2.ppf([LEVEL, 1 - LEVEL], df=values.size)
    return bool(low < statistic < high)


def event(mechanism: MechanismName, **changes: Any) -> ReleaseEvent:
    """Describe a release of `VALUES` entries."""
    values: dict[str, Any] = {
        "kind": TaskKind.ITEM_COUNTS,
        "task_id": "ab" * 16,
        "population": "shop",
        "mechanism": mechanism,
        "noise_multiplier": 1.7,
        "clip_norm": CLIP_NORM,
        "dimension": VALUES,
        "report_goal": REPORTS,
    }
    return ReleaseEvent(**{**values, **changes})


def one_sum(mechanism: MechanismName) -> tuple[np.ndarray, float]:
    """Draw the noise of one released sum, in the units of the sum; and what the event claims."""
    released = event(mechanism)
    source = mechanism_for(released, noise=GaussianNoise.from_system())
    steps = source.noise_steps(dimension=VALUES, sensitivity=STEPS)
    return steps * (CLIP_NORM / STEPS), released.noise_std


def running_sum(name: FactorisationName) -> tuple[np.ndarray, float]:
    """Draw the noise of a run's last running sum, in the units of the sum; and what is claimed."""
    plan = factorisation_for(name, rounds=ROUNDS, min_separation=3, max_participations=3)
    mechanism = (
        MechanismName.TREE if name is FactorisationName.TREE_HONAKER else MechanismName(name.value)
    )
    released = event(mechanism, factorisation=plan)
    noise = GaussianNoise.from_system()
    state = init(factorisation=plan, dimension=VALUES, key=noise.new_key())
    total = np.zeros(VALUES)
    for _ in range(ROUNDS):
        source = mechanism_for(released, noise=noise, state=state)
        total += source.noise_steps(dimension=VALUES, sensitivity=STEPS)
        state = source.state  # type: ignore[attr-defined]
    claimed = released.noise_std * math.sqrt(plan.prefix_errors()[-1])
    return total * (CLIP_NORM / STEPS), claimed


def local_sum() -> tuple[np.ndarray, float]:
    """Add up what `REPORTS` devices with nothing to say would send."""
    released = event(MechanismName.LOCAL_GAUSSIAN, adjacency=LOCAL_ADJACENCY, trusted=LOCAL_TRUSTED)
    device = LocalGaussian(clip_norm=CLIP_NORM, noise_multiplier=released.noise_multiplier)
    nothing = np.zeros(VALUES, np.float32)
    noise = GaussianNoise.from_system()
    total = sum(device.privatise(nothing, noise=noise) for _ in range(REPORTS))
    return np.asarray(total), released.noise_std


SOURCES: dict[str, Callable[[], tuple[np.ndarray, float]]] = {
    "one-shot gaussian": lambda: one_sum(MechanismName.GAUSSIAN),
    "discrete gaussian": lambda: one_sum(MechanismName.DISCRETE_GAUSSIAN),
    "discrete laplace": lambda: one_sum(MechanismName.DISCRETE_LAPLACE),
    "local gaussian": local_sum,
    **{
        f"rounds: {name.value}": lambda name=name: running_sum(name)  # type: ignore[misc]
        for name in FactorisationName
    },
}


@pytest.mark.parametrize("source", SOURCES)
def test_noise_source_right_scale_is_accepted_and_five_percent_off_is_rejected(
    source: str,
) -> None:
    """Fresh noise of the operating system; see the module for how sure this is."""
    laplace = source == "discrete laplace"
    values, claimed = SOURCES[source]()
    assert values.shape == (VALUES,)
    assert accepts(values, claimed, laplace=laplace)
    # The same noise under a claim that is 5 % too high, and too low.
    assert not accepts(values, claimed * 1.05, laplace=laplace)
    assert not accepts(values, claimed * 0.95, laplace=laplace)


@pytest.mark.parametrize("source", [name for name in SOURCES if name.startswith("rounds")])
def test_running_sums_of_two_runs_are_independent(source: str) -> None:
    """Two keys, no correlation: within six deviations (a chance of 2e-9)."""
    first, _ = SOURCES[source]()
    second, _ = SOURCES[source]()
    correlation = float(np.corrcoef(first, second)[0, 1])
    assert abs(correlation) < 6 / math.sqrt(VALUES)
