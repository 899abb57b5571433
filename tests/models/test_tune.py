"""The experiment that chooses settings: it follows the product's path, and the choice holds."""

import numpy as np
import pytest

from client_sdk.wire.vectors import pack_outer_product
from privacy.gaussian import epsilon_of
from simulations.arms.simple import popularity
from simulations.tune import (
    DELTA,
    POPULATION,
    Bench,
    Release,
    device_alone,
    judge,
    learn,
    noise_of,
    pack_gram,
)


@pytest.fixture(scope="module")
def validation() -> Bench:
    """The part that choices are made on."""
    return Bench.load("validation")


def test_pack_gram_is_the_sum_of_what_devices_send() -> None:
    """One product over the population equals adding up one packed vector a device."""
    rng = np.random.default_rng(0)
    vectors = rng.random((20, 6)) * (rng.random((20, 6)) < 0.5)
    total = np.zeros(21)
    for x in vectors:
        at = np.flatnonzero(x).astype(np.int32)
        total += pack_outer_product(
            positions=at, values=x[at].astype(np.float32), size=6
        ).to_dense()
    assert np.abs(pack_gram(vectors) - total).max() < 1e-5


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_noise_of_two_releases_cost_the_stated_epsilon_together(share: float) -> None:
    """However the budget is split, counts and statistics compose to the epsilon that is printed."""
    release = Release(epsilon=2.0, population=None, counts_share=share)
    counts, gram = noise_of(release, people=798)
    together = 1.0 / np.hypot(1.0 / counts, 1.0 / gram)
    assert epsilon_of(delta=DELTA, noise_multiplier=together) == pytest.approx(2.0, rel=1e-6)
    scaled = noise_of(Release(epsilon=2.0, counts_share=share), people=798)
    assert np.allclose(scaled, np.array([counts, gram]) * 798 / POPULATION)
    assert noise_of(Release(epsilon=None), people=798) == (0.0, 0.0)


def test_learn_same_seed_gives_the_same_release(validation: Bench) -> None:
    """A measured row can be repeated, and another seed is another release."""
    release = Release(population=None)
    one, same, other = (learn(validation, release, seed=s).to_bytes() for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_together_at_epsilon_8_beats_popularity_and_the_device_alone(validation: Bench) -> None:
    """The chosen settings keep the promise on validation: 1.8 times and 1.3 times, three seeds."""
    seeds = (0, 1, 2)

    def mean(make: object, protocol: str) -> float:
        runs = judge(validation, make, seeds, draws=3)  # type: ignore[arg-type]
        return float(np.mean([run[protocol]["hr@10"] for run in runs]))

    alone = device_alone(validation)
    together = [validation.arms.together(learn(validation, Release(), seed=s)) for s in seeds]
    discover = mean(lambda seed: together[seed], "discover")
    assert discover >= 1.8 * mean(lambda _: popularity(validation.split.train), "discover")
    assert discover >= 1.3 * mean(lambda _: alone, "discover")
    assert mean(lambda seed: together[seed], "next") >= mean(lambda _: alone, "next") - 0.005
