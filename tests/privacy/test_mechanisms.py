"""The mechanisms: one contract for all, then what is special to each."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from client_sdk.wire import TaskKind
from privacy.bounded_sum import STEPS
from privacy.correlated import NoiseState, init
from privacy.discrete import DiscreteGaussianMechanism, DiscreteLaplaceMechanism
from privacy.errors import NoiseSourceError, NoiseStateError
from privacy.events import (
    LOCAL_ADJACENCY,
    LOCAL_TRUSTED,
    AssumedPopulation,
    MechanismName,
    NoiseSource,
    ReleaseEvent,
)
from privacy.factorisation import Factorisation, FactorisationName
from privacy.mechanisms import (
    GaussianMechanism,
    Mechanism,
    RoundMechanism,
    UnsafeNoNoise,
    mechanism_for,
)
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
    dimension = 100_000

    def make(self) -> Mechanism:
        """Give a fresh mechanism."""
        raise AssertionError("each subclass of the contract says this")

    def test_noise_is_one_integer_for_each_entry(self) -> None:
        """So that it can be added to a lattice sum."""
        noise = self.make().noise_steps(dimension=self.dimension, sensitivity=STEPS)
        assert noise.dtype == np.int64
        assert noise.shape == (self.dimension,)

    def test_noise_has_the_scale_that_is_claimed(self) -> None:
        """Right scale accepted; five percent less or more rejected (six deviations: 1.3 %)."""
        noise = self.make().noise_steps(dimension=self.dimension, sensitivity=STEPS)
        got = float(np.sqrt(np.mean(noise.astype(np.float64) ** 2)))
        error = 6 * self.std_steps / math.sqrt(2 * noise.size)
        assert abs(got - self.std_steps) <= error
        if self.std_steps:
            assert abs(got - 0.95 * self.std_steps) > error
            assert abs(got - 1.05 * self.std_steps) > error

    def test_noise_scales_with_the_sensitivity(self) -> None:
        """Twice the clip norm, twice the noise."""
        small = self.make().noise_steps(dimension=self.dimension, sensitivity=STEPS // 2)
        large = self.make().noise_steps(dimension=self.dimension, sensitivity=STEPS)
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


class TestRound(MechanismContract):
    """The first round of a run: white noise of σ · sensitivity, as C begins with 1."""

    plan = Factorisation(
        name=FactorisationName.BLT,
        rounds=4,
        min_separation=2,
        max_participations=2,
        decays=(0.9, 0.3),
        weights=(0.3, 0.2),
    )
    std_steps = 2.0 * plan.sensitivity() * STEPS

    def event(self, **changes: Any) -> ReleaseEvent:
        """A run with σ = 2."""
        values: dict[str, Any] = {
            "mechanism": MechanismName.BLT,
            "factorisation": self.plan,
            "dimension": self.dimension,
            "noise_source": NoiseSource.SEEDED_SIMULATION,
        }
        return event(**{**values, **changes})

    def state(self, dimension: int | None = None) -> NoiseState:
        """Before round 0."""
        return init(
            factorisation=self.plan, dimension=dimension or self.dimension, key=seeded().new_key()
        )

    def make(self) -> Mechanism:
        """From its event."""
        return mechanism_for(self.event(), noise=seeded(), state=self.state())

    def test_noise_is_handed_out_once_and_moves_the_state(self) -> None:
        """The next round goes on from the state that was left."""
        mechanism = RoundMechanism(event=self.event(), state=self.state())
        assert mechanism.state.round_index == 0
        mechanism.noise_steps(dimension=self.dimension, sensitivity=STEPS)
        assert mechanism.state.round_index == 1
        with pytest.raises(NoiseStateError, match="twice"):
            mechanism.noise_steps(dimension=self.dimension, sensitivity=STEPS)

    def test_assumed_population_scales_the_noise(self) -> None:
        """A forecast for ten times the people."""
        assumed = AssumedPopulation(simulated_people=10, people=100)
        scaled = mechanism_for(self.event(assumed=assumed), noise=seeded(), state=self.state())
        got = scaled.noise_steps(dimension=self.dimension, sensitivity=STEPS)
        full = self.make().noise_steps(dimension=self.dimension, sensitivity=STEPS)
        np.testing.assert_allclose(got, full / 10, atol=1)

    def test_state_of_another_run_is_refused(self) -> None:
        """Its noise would not be what the ledger paid for."""
        with pytest.raises(ValueError, match="not of the run"):
            RoundMechanism(event=self.event(), state=self.state(dimension=5))
        other = dataclasses.replace(self.plan, max_participations=1)
        with pytest.raises(ValueError, match="not of the run"):
            RoundMechanism(event=self.event(factorisation=other), state=self.state())

    def test_sum_of_another_dimension_is_refused(self) -> None:
        """Before any noise is made."""
        mechanism = self.make()
        with pytest.raises(ValueError, match="dimension"):
            mechanism.noise_steps(dimension=3, sensitivity=STEPS)

    def test_run_without_a_state_and_state_without_a_run_are_refused(self) -> None:
        """Independent noise in place of correlated noise would be mispriced."""
        with pytest.raises(ValueError, match="state"):
            mechanism_for(self.event(), noise=seeded())
        single = event(noise_source=NoiseSource.SEEDED_SIMULATION)
        with pytest.raises(ValueError, match="state"):
            mechanism_for(single, noise=seeded(), state=self.state())


class TestNoiseAtDevices(MechanismContract):
    """A local release: the sum itself gets nothing more."""

    std_steps = 0.0

    def make(self) -> Mechanism:
        """From its event."""
        local = event(
            mechanism=MechanismName.LOCAL_GAUSSIAN,
            adjacency=LOCAL_ADJACENCY,
            trusted=LOCAL_TRUSTED,
        )
        return mechanism_for(local, noise=GaussianNoise.from_system())


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

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            (MechanismName.DISCRETE_GAUSSIAN, DiscreteGaussianMechanism),
            (MechanismName.DISCRETE_LAPLACE, DiscreteLaplaceMechanism),
        ],
    )
    def test_discrete_event_gets_discrete_noise_of_the_system_alone(
        self, name: MechanismName, kind: type
    ) -> None:
        """OpenDP cannot repeat a seed, and a forecast cannot scale an exact sampler."""
        mechanism = mechanism_for(event(mechanism=name), noise=GaussianNoise.from_system())
        assert isinstance(mechanism, kind)
        assert mechanism.name is name
        with pytest.raises(NoiseSourceError, match="operating system"):
            mechanism_for(
                event(mechanism=name, noise_source=NoiseSource.SEEDED_SIMULATION), noise=seeded()
            )
        assumed = AssumedPopulation(simulated_people=10, people=40)
        with pytest.raises(ValueError, match="assumed"):
            mechanism_for(event(mechanism=name, assumed=assumed), noise=GaussianNoise.from_system())

    def test_release_without_noise_gets_none(self) -> None:
        """Recorded as what it is."""
        unsafe = event(
            mechanism=MechanismName.UNSAFE_NO_NOISE,
            noise_multiplier=0.0,
            noise_source=NoiseSource.NONE,
        )
        assert isinstance(mechanism_for(unsafe, noise=None), UnsafeNoNoise)
