"""The mechanisms: one contract for all, then what is special to each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from client_sdk.wire import TaskKind
from privacy.bounded_sum import STEPS
from privacy.errors import NoiseSourceError
from privacy.events import AssumedPopulation, MechanismName, NoiseSource, ReleaseEvent
from privacy.mechanisms import GaussianMechanism, Mechanism, UnsafeNoNoise, mechanism_for
from privacy.noise import GaussianNoise


def seeded(seed: int = 7) -> GaussianNoise:
    """Repeatable noise."""
    return GaussianNoise.from_seed_for_simulation(seed)


def event(**changes: Any) -> ReleaseEvent:
    """A release of five entries."""
    values: dict[str, Any] = {
        "kind": TaskKind.ITEM_COUNTS,
        "task_id": "cd" * 16,
        "population": "shop",
        "noise_multiplier": 2.0,
        "clip_norm": 1.0,
        "dimension": 5,
        "report_goal": 10,
    }
    return ReleaseEvent(**{**values, **changes})


class MechanismContract:
    """What every mechanism keeps."""

    #: Deviation in lattice steps at sensitivity `STEPS`.
    std_steps: float

    def make(self) -> Mechanism:
        """Give a fresh mechanism."""
        raise AssertionError("each subclass of the contract says this")

    def test_noise_is_one_integer_for_each_entry(self) -> None:
        """So that it can be added to a lattice sum."""
        noise = self.make().noise_steps(dimension=9, sensitivity=STEPS)
        assert noise.dtype == np.int64
        assert noise.shape == (9,)

    def test_noise_has_the_scale_that_is_claimed(self) -> None:
        """Right scale accepted; ten percent less or more rejected."""
        noise = self.make().noise_steps(dimension=100_000, sensitivity=STEPS)
        got = float(np.sqrt(np.mean(noise.astype(np.float64) ** 2)))
        error = 6 * self.std_steps / math.sqrt(2 * noise.size)
        assert abs(got - self.std_steps) <= error
        if self.std_steps:
            assert abs(got - 0.9 * self.std_steps) > error
            assert abs(got - 1.1 * self.std_steps) > error

    def test_noise_scales_with_the_sensitivity(self) -> None:
        """Twice the clip norm, twice the noise."""
        small = self.make().noise_steps(dimension=1000, sensitivity=STEPS // 2)
        large = self.make().noise_steps(dimension=1000, sensitivity=STEPS)
        np.testing.assert_allclose(large, 2 * small, atol=2)

    def test_mechanism_names_itself_as_events_do(self) -> None:
        """The event and the mechanism speak of the same thing."""
        assert isinstance(self.make().name, MechanismName)
        assert isinstance(self.make().noise_source, NoiseSource)


class TestGaussian(MechanismContract):
    """Independent Gaussian noise."""

    std_steps = 2.0 * STEPS

    def make(self) -> Mechanism:
        """σ = 2."""
        return GaussianMechanism(noise_multiplier=2.0, noise=seeded())

    @pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
    def test_noise_multiplier_that_hides_nothing_is_refused(self, bad: float) -> None:
        """No noise has another name: `UnsafeNoNoise`."""
        with pytest.raises(ValueError, match="noise_multiplier"):
            GaussianMechanism(noise_multiplier=bad, noise=seeded())

    def test_noise_beyond_exact_integers_is_refused(self) -> None:
        """Above 2^53 a float64 skips steps."""
        mechanism = GaussianMechanism(noise_multiplier=1e6, noise=seeded())
        with pytest.raises(ValueError, match="lattice"):
            mechanism.noise_steps(dimension=1, sensitivity=STEPS)


class TestGaussianForAssumedPopulation(MechanismContract):
    """A simulation that stands for ten times its people."""

    std_steps = 0.2 * STEPS

    def make(self) -> Mechanism:
        """σ = 2, scaled by 100 / 1000."""
        return GaussianMechanism.for_assumed_population(
            noise_multiplier=2.0, noise=seeded(), simulated_people=100, people=1000
        )


class TestUnsafeNoNoise(MechanismContract):
    """The mechanism that protects nobody."""

    std_steps = 0.0

    def make(self) -> Mechanism:
        """Nothing to choose."""
        return UnsafeNoNoise()


class TestMechanismFor:
    """From a reserved event to the mechanism that it describes."""

    def test_mechanism_has_the_noise_of_the_event(self) -> None:
        """And its assumed population."""
        assumed = AssumedPopulation(simulated_people=10, people=40)
        reserved = event(noise_source=NoiseSource.SEEDED_SIMULATION, assumed=assumed)
        mechanism = mechanism_for(reserved, noise=seeded())
        assert isinstance(mechanism, GaussianMechanism)
        assert (mechanism.noise_multiplier, mechanism.scale) == (2.0, 0.25)

    def test_seeded_noise_for_a_real_release_is_refused(self) -> None:
        """The ledger would count as protected what anyone with the seed can undo."""
        with pytest.raises(NoiseSourceError):
            mechanism_for(event(), noise=seeded())

    def test_system_noise_for_a_seeded_release_is_refused(self) -> None:
        """The event says what happened, or it is worth nothing."""
        reserved = event(noise_source=NoiseSource.SEEDED_SIMULATION)
        with pytest.raises(NoiseSourceError):
            mechanism_for(reserved, noise=GaussianNoise.from_system())

    def test_no_noise_for_a_noisy_release_is_refused(self) -> None:
        """The most expensive mistake of all."""
        with pytest.raises(NoiseSourceError):
            mechanism_for(event(), noise=None)

    def test_release_without_noise_gets_none(self) -> None:
        """Recorded as what it is."""
        unsafe = event(
            mechanism=MechanismName.UNSAFE_NO_NOISE,
            noise_multiplier=0.0,
            noise_source=NoiseSource.NONE,
        )
        assert isinstance(mechanism_for(unsafe, noise=None), UnsafeNoNoise)
