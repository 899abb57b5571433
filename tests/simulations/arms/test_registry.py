"""The registry: every arm by name, whom one must trust for it, and what it claims."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from client_sdk.intelligence import RankerSettings
from privacy.budget import Budget
from privacy.events import ADJACENCY, LOCAL_ADJACENCY, AssumedPopulation
from simulations.arms import (
    ARMS,
    Arms,
    ArmSettings,
    LibraryMissingError,
    PrivacyNotAskedError,
    Request,
    UnknownArmError,
    make_arm,
)
from simulations.arms.least_squares import LeastSquaresSettings
from simulations.arms.private_factors import FactorSettings
from tests.simulations.arms.conftest import HALF, ITEMS, PEOPLE

SETTINGS = ArmSettings(
    factors=FactorSettings(top_items=12, rank=2, steps=3, sampling_rate=0.5),
    least_squares=LeastSquaresSettings(factors=2, regularisation=1.0),
)
REQUEST = Request(settings=SETTINGS, budget=Budget(epsilon=8.0, delta=1e-6))
EVERYBODY = np.arange(PEOPLE, dtype=np.int32)


@pytest.mark.parametrize("name", list(ARMS))
def test_make_arm_any_name_gives_finite_scores_for_everybody(shop: Arms, name: str) -> None:
    """[people, items], also for the person without a history."""
    if name == "central-ials":
        pytest.importorskip("implicit", reason="the extra 'peers' is not installed")
    if name == "central-dp-sgd":
        pytest.importorskip("opacus", reason="the extra 'prv' is not installed")
    made = make_arm(name, shop, REQUEST)
    scores = made.scorer(EVERYBODY)
    assert scores.shape == (PEOPLE, ITEMS)
    assert np.isfinite(scores).all()
    assert (made.claim is not None) == ARMS[name].private
    # Any order of people gets the same rows: an arm knows whom it is asked about.
    assert scores[[7, 3]] == pytest.approx(made.scorer(np.array([7, 3], np.int32)), abs=1e-6)


@pytest.mark.parametrize("name", ["item-knn", "central", "central-ials"])
def test_make_arm_that_sees_everything_finds_the_tastes(shop: Arms, name: str) -> None:
    """Of what a person has not, the items of their taste stand higher; popularity can't do that."""
    if name == "central-ials":
        pytest.importorskip("implicit", reason="the extra 'peers' is not installed")
    assert right_share(shop, name) > 0.9
    assert right_share(shop, "popularity") < 0.7


def right_share(shop: Arms, name: str) -> float:
    """How many people's best new item is one of their taste."""
    scores = np.array(make_arm(name, shop, REQUEST).scorer(EVERYBODY))
    scores[shop.holdings().toarray() > 0] = -np.inf
    best = scores.argmax(axis=1)[1:]
    return float(np.mean(best // HALF == EVERYBODY[1:] % 2))


def test_own_frequency_counts_are_exact(shop: Arms) -> None:
    """Row by row of the training part; nothing of anybody else."""
    expected = np.zeros((PEOPLE, ITEMS))
    np.add.at(expected, (shop.train.users, shop.train.items), 1.0)
    assert (make_arm("own-frequency", shop).scorer(EVERYBODY) == expected).all()
    assert expected.max() > 1.0


def test_beside_alone_adds_the_device_once(shop: Arms) -> None:
    """Weight 0 is the device alone; the model's part grows with its weight."""
    model = shop.popularity()
    alone = shop.alone()(EVERYBODY)
    assert (shop.beside_alone(model, weight=0.0)(EVERYBODY) == alone).all()
    mixed = shop.beside_alone(model, weight=2.0)(EVERYBODY)
    assert mixed - alone == pytest.approx(2.0 * model(EVERYBODY), abs=1e-5)
    with pytest.raises(ValueError, match="weight"):
        shop.beside_alone(model, weight=float("nan"))


def test_central_weighs_together_as_the_ranker_says(shop: Arms) -> None:
    """Settings that give what was learned no weight leave the device alone."""
    settings = RankerSettings(together_weight=0.0)
    assert (shop.central(settings)(EVERYBODY) == shop.alone()(EVERYBODY)).all()


@pytest.mark.parametrize(
    ("name", "adjacency", "trusted"),
    [("central-dp-sgd", ADJACENCY, "the central server"), ("local-dp", LOCAL_ADJACENCY, "nobody")],
)
def test_make_arm_private_claims_at_most_its_budget(
    shop: Arms, name: str, adjacency: str, trusted: str
) -> None:
    """ε, adjacency, trust and population stand beside the scorer; a larger population is said."""
    if name == "central-dp-sgd":
        pytest.importorskip("opacus", reason="the extra 'prv' is not installed")
    claim = make_arm(name, shop, REQUEST).claim
    assert claim is not None
    assert 7.9 < claim.epsilon <= 8.0 * (1 + 1e-9)
    assert (claim.delta, claim.adjacency, claim.population) == (1e-6, adjacency, PEOPLE)
    assert claim.trusted.startswith(trusted)
    assert ARMS[name].trusted == claim.trusted
    assert claim.forecast == ""
    assumed = AssumedPopulation(simulated_people=PEOPLE, people=100 * PEOPLE)
    request = Request(settings=SETTINGS, budget=REQUEST.budget, assumed=assumed)
    many = make_arm(name, shop, request).claim
    assert many is not None
    assert (many.epsilon, many.population) == (claim.epsilon, 100 * PEOPLE)
    assert "6,000 people" in many.forecast
    assert many.to_json()["forecast"] == many.forecast


def test_make_arm_nonsense_is_refused(shop: Arms) -> None:
    """An unknown name, an arm that spends without a budget, a population that is not this one."""
    with pytest.raises(UnknownArmError, match="expected one of popularity, own-frequency"):
        make_arm("centrall", shop)
    with pytest.raises(PrivacyNotAskedError, match="local-dp spends privacy"):
        make_arm("local-dp", shop)
    wrong = AssumedPopulation(simulated_people=PEOPLE + 1, people=1_000)
    with pytest.raises(ValueError, match="60 people"):
        make_arm("local-dp", shop, Request(budget=REQUEST.budget, assumed=wrong))


def test_make_arm_without_opacus_says_which_extra(
    shop: Arms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing extra is one sentence that names it."""
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(LibraryMissingError, match=r"homebody\[prv\]"):
        # Another budget than elsewhere: plans are remembered.
        make_arm("central-dp-sgd", shop, Request(budget=Budget(epsilon=7.0, delta=1e-6)))
