"""Local privacy: clipped first, then noised, whatever the vector."""

from __future__ import annotations

import math

import numpy as np
import pytest

from privacy.bounded_sum import STEPS
from privacy.errors import ContributionRejectedError
from privacy.local import LocalGaussian
from privacy.noise import GaussianNoise


def seeded() -> GaussianNoise:
    """Repeatable noise."""
    return GaussianNoise.from_seed_for_simulation(3)


class TestPrivatise:
    """What leaves the device."""

    @pytest.mark.parametrize("norm", [0.0, 0.5, 2.0, 1e30])
    def test_message_is_the_clipped_vector_plus_the_noise(self, norm: float) -> None:
        """Two devices with the same noise differ by their clipped vectors, and no more."""
        local = LocalGaussian(clip_norm=2.0, noise_multiplier=3.0)
        vector = np.array([0.6, -0.8, 0.0], np.float32) * np.float32(norm)
        empty = local.privatise(np.zeros(3, np.float32), noise=seeded())
        moved = local.privatise(vector, noise=seeded()) - empty
        expected = np.array([0.6, -0.8, 0.0]) * min(norm, 2.0)
        np.testing.assert_allclose(moved, expected, atol=1e-6)
        assert np.linalg.norm(moved) <= 2.0 * (1 + 1e-12)

    def test_message_lies_on_the_lattice(self) -> None:
        """So that the low bits of a float say nothing."""
        local = LocalGaussian(clip_norm=1.0, noise_multiplier=2.0)
        message = local.privatise(np.full(50, 0.123, np.float32), noise=seeded())
        steps = message * STEPS
        np.testing.assert_array_equal(steps, np.rint(steps))

    def test_vector_that_is_no_vector_is_refused(self) -> None:
        """NaN would poison the sum; nothing is sent."""
        local = LocalGaussian(clip_norm=1.0, noise_multiplier=2.0)
        with pytest.raises(ContributionRejectedError):
            local.privatise(np.array([math.nan, 1.0], np.float32), noise=seeded())

    def test_two_messages_have_two_noises(self) -> None:
        """A device that asks twice does not repeat itself."""
        local = LocalGaussian(clip_norm=1.0, noise_multiplier=2.0)
        noise = GaussianNoise.from_system()
        first = local.privatise(np.zeros(4, np.float32), noise=noise)
        assert not np.array_equal(first, local.privatise(np.zeros(4, np.float32), noise=noise))


class TestBounds:
    """What the aggregator may rely on."""

    @pytest.mark.parametrize("dimension", [1, 10, 1000])
    def test_honest_messages_stay_below_the_message_norm(self, dimension: int) -> None:
        """A thousand of them; the bound is not idle either."""
        local = LocalGaussian(clip_norm=1.0, noise_multiplier=0.5)
        noise = GaussianNoise.from_system()
        vector = np.zeros(dimension, np.float32)
        vector[0] = 1.0
        norms = [np.linalg.norm(local.privatise(vector, noise=noise)) for _ in range(1000)]
        bound = local.message_norm(dimension=dimension)
        assert max(norms) < bound < 3 * max(norms)

    def test_noise_of_a_sum_grows_with_the_root_of_reports(self) -> None:
        """The price of trusting nobody."""
        local = LocalGaussian(clip_norm=0.5, noise_multiplier=3.0)
        assert local.noise_std == 3.0
        assert local.sum_std(reports=400) == 60.0

    @pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
    def test_numbers_that_protect_nobody_are_refused(self, bad: float) -> None:
        """Clip norm and noise are above 0 and finite."""
        with pytest.raises(ValueError, match="noise_multiplier"):
            LocalGaussian(clip_norm=1.0, noise_multiplier=bad)
        with pytest.raises(ValueError, match="clip_norm"):
            LocalGaussian(clip_norm=bad, noise_multiplier=1.0)

    def test_message_norm_of_nothing_is_refused(self) -> None:
        """A message has at least one entry."""
        with pytest.raises(ValueError, match="dimension"):
            LocalGaussian(clip_norm=1.0, noise_multiplier=1.0).message_norm(dimension=0)
