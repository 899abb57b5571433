"""The model card."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.card import CardFormatError, Guarantee, ModelCard, ParityReport

PARITY = ParityReport(
    model_sha256="ab" * 32,
    signatures=("project", "score", "train"),
    operators=("ADD", "MUL"),
    cases=10,
    largest_difference={"score": 1e-7},
    tolerance=1e-5,
    runtime="ai-edge-litert 2.3.0",
    reference="tensorflow 2.21.0",
)
GUARANTEE = Guarantee(
    epsilon=8.0,
    delta=1e-6,
    adjacency="add or remove one person",
    trust="the aggregator sees single sums",
    mechanism="one Gaussian release",
)
CARD = ModelCard(
    name="items",
    purpose="Rank a shop's items for the person who holds the device.",
    data_used=("purchases",),
    guarantee=GUARANTEE,
    parity=PARITY,
)


def test_card_bytes_and_back_is_the_same_card() -> None:
    """A card travels as canonical JSON and comes back equal."""
    data = CARD.to_bytes()
    assert ModelCard.from_bytes(data) == CARD
    assert ModelCard.from_bytes(data).to_bytes() == data
    assert json.loads(data)["guarantee"]["adjacency"] == "add or remove one person"


def test_card_without_noise_claims_nothing() -> None:
    """No noise is stated as no epsilon, never as zero or infinity."""
    card = replace(CARD, guarantee=replace(GUARANTEE, epsilon=None, delta=None))
    assert json.loads(card.to_bytes())["guarantee"]["epsilon"] is None
    assert ModelCard.from_bytes(card.to_bytes()) == card


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": None},
        {"delta": None},
        {"epsilon": 0.0},
        {"epsilon": float("inf")},
        {"epsilon": float("nan")},
        {"delta": 1.0},
        {"adjacency": ""},
        {"trust": ""},
        {"mechanism": ""},
    ],
)
def test_guarantee_half_a_claim_is_refused(wrong: dict[str, object]) -> None:
    """An epsilon goes with delta, adjacency, trust and mechanism, or not at all."""
    with pytest.raises(ValueError, match=r"epsilon|delta|adjacency"):
        replace(GUARANTEE, **wrong)  # type: ignore[arg-type]


def test_card_forbidden_feature_among_the_data_is_refused() -> None:
    """A release that learned from a protected attribute has no card, so it can't ship."""
    with pytest.raises(ValueError, match="health"):
        replace(CARD, data_used=("purchases", "Health"))


@pytest.mark.parametrize("wrong", [{"name": ""}, {"purpose": ""}, {"data_used": ()}])
def test_card_that_says_nothing_is_refused(wrong: dict[str, object]) -> None:
    """Name, purpose and data are stated."""
    with pytest.raises(ValueError, match="a card states"):
        replace(CARD, **wrong)  # type: ignore[arg-type]


@given(st.binary(max_size=60))
def test_card_from_other_bytes_is_refused(data: bytes) -> None:
    """Whatever isn't a card is refused with one error."""
    with pytest.raises(CardFormatError):
        ModelCard.from_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"card_version": 2},
        {"extra": 1},
        {"guarantee": {}},
        {"parity": []},
        {"data_used": 5},
        {"name": ""},
    ],
)
def test_card_from_changed_json_is_refused(change: dict[str, object]) -> None:
    """Missing, extra or wrong fields are refused."""
    value = {**json.loads(CARD.to_bytes()), **change}
    with pytest.raises(CardFormatError):
        ModelCard.from_bytes(json.dumps(value).encode())
