"""Discrete noise: its exact distribution on small scales, its events, its refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from privacy.bounded_sum import STEPS
from privacy.discrete import DiscreteGaussianMechanism, DiscreteLaplaceMechanism
from privacy.events import MechanismName, NoiseSource
from privacy.mechanisms import Mechanism

VALUES = 20_000


def fits(values: np.ndarray, mass: dict[int, float]) -> bool:
    """Pearson's chi-square over cells that expect at least 20 values, at 1e-7."""
    cells = [cell for cell, chance in mass.items() if chance * values.size >= 20]
    seen = [int((values == cell).sum()) for cell in cells]
    expected = [mass[cell] * values.size for cell in cells]
    seen.append(values.size - sum(seen))
    expected.append(values.size - sum(expected))
    statistic = sum((s - e) ** 2 / e for s, e in zip(seen, expected, strict=True))
    return bool(stats.chi2.sf(statistic, df=len(cells)) > 1e-7)


def gaussian_mass(sigma: float) -> dict[int, float]:
    """Mass of the discrete Gaussian, by its definition."""
    raw = {x: math.exp(-x * x / (2 * sigma * sigma)) for x in range(-60, 61)}
    return {x: weight / math.fsum(raw.values()) for x, weight in raw.items()}


def laplace_mass(scale: float) -> dict[int, float]:
    """Mass of the discrete Laplace, by its definition."""
    raw = {x: math.exp(-abs(x) / scale) for x in range(-200, 201)}
    return {x: weight / math.fsum(raw.values()) for x, weight in raw.items()}


class TestDistribution:
    """On the integers, where a rounded continuous distribution would be another one."""

    def test_discrete_gaussian_has_its_mass_and_not_that_of_others(self) -> None:
        """σ = 1.5 · 2; a rounded scale, and 5 % more or less, are rejected."""
        values = DiscreteGaussianMechanism(noise_multiplier=1.5).noise_steps(
            dimension=VALUES, sensitivity=2
        )
        assert fits(values, gaussian_mass(3.0))
        assert not fits(values, gaussian_mass(3.0 * 1.1))
        assert not fits(values, gaussian_mass(3.0 * 0.9))

    def test_discrete_laplace_has_its_mass_and_not_that_of_others(self) -> None:
        """√2 · scale = noise multiplier · sensitivity."""
        values = DiscreteLaplaceMechanism(noise_multiplier=2.0 * math.sqrt(2.0)).noise_steps(
            dimension=VALUES, sensitivity=1
        )
        assert fits(values, laplace_mass(2.0))
        assert not fits(values, laplace_mass(2.2))
        assert not fits(values, laplace_mass(1.8))


@pytest.mark.parametrize("kind", [DiscreteGaussianMechanism, DiscreteLaplaceMechanism])
class TestContract:
    """What both keep."""

    def test_noise_is_one_integer_for_each_entry_on_the_lattice(
        self, kind: type[DiscreteGaussianMechanism]
    ) -> None:
        """Also on the fine lattice of the sums."""
        mechanism: Mechanism = kind(noise_multiplier=1.0)
        noise = mechanism.noise_steps(dimension=70, sensitivity=STEPS)
        assert noise.dtype == np.int64
        assert noise.shape == (70,)
        assert np.abs(noise).max() > STEPS / 100
        assert np.unique(noise).size == 70

    def test_noise_never_repeats(self, kind: type[DiscreteGaussianMechanism]) -> None:
        """Two sums, two draws."""
        mechanism = kind(noise_multiplier=1.0)
        first = mechanism.noise_steps(dimension=8, sensitivity=STEPS)
        assert not np.array_equal(first, mechanism.noise_steps(dimension=8, sensitivity=STEPS))

    def test_mechanism_names_itself_as_events_do(
        self, kind: type[DiscreteGaussianMechanism]
    ) -> None:
        """And its randomness is the operating system's."""
        mechanism = kind(noise_multiplier=1.0)
        assert mechanism.noise_source is NoiseSource.OPERATING_SYSTEM
        assert mechanism.name in (
            MechanismName.DISCRETE_GAUSSIAN,
            MechanismName.DISCRETE_LAPLACE,
        )

    @pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
    def test_noise_multiplier_that_hides_nothing_is_refused(
        self, kind: type[DiscreteGaussianMechanism], bad: float
    ) -> None:
        """No noise has another name."""
        with pytest.raises(ValueError, match="noise_multiplier"):
            kind(noise_multiplier=bad)

    def test_sensitivity_of_nothing_and_noise_beyond_the_lattice_are_refused(
        self, kind: type[DiscreteGaussianMechanism]
    ) -> None:
        """Neither has a meaning on int64."""
        with pytest.raises(ValueError, match="sensitivity"):
            kind(noise_multiplier=1.0).noise_steps(dimension=1, sensitivity=0)
        with pytest.raises(ValueError, match="lattice"):
            kind(noise_multiplier=1e6).noise_steps(dimension=1, sensitivity=STEPS)
