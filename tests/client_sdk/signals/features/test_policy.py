"""Sensitive and protected attributes become features by name only, whatever they are called."""

from pathlib import Path

import pytest

from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.signals.features import FeaturePolicy, FeatureSet, PropertyFeature
from client_sdk.signals.features.definitions import Sensitivity
from client_sdk.signals.features.protected import sensitivity_of
from client_sdk.wire import Catalogue, Item

PROTECTED = """
gender userGender user_gender GENDER usergender genders sex age age_group ageGroup AGE ages
birth_date birthDate birthdate dateOfBirth dob birthday ethnicity ethnic_origin race religion
religiousBelief sexual_orientation sexualOrientation political_opinion politicalParty tradeUnion
trade_union_member disability isDisabled health health_score pregnancy is_pregnant pregnant_weeks
marital_status maritalStatus nationality citizenship genetic_risk biometric_id criminal_record
skin_colour_of_skin hiv_status motherTongue unionMembership gender2 2gender
agegroup dateofbirth maritalstatus mothertongue
"""
SENSITIVE = """
income annualIncome salary postcode postCode postal_code zip zipCode ip ipAddress ip_address phone
phoneNumber email e_mail eMail name first_name lastName latitude gps_position location homeAddress
creditScore device_id children passport firstname zipcodes
"""
ORDINARY = """
usage page pages message average image package storage stage voltage manager trace embrace grace
raceway brand category price n_items essex sexton ageing_cheese union_jack zipper equip tip ship
ranged strength
"""


@pytest.mark.parametrize("name", PROTECTED.split())
def test_sensitivity_of_a_protected_name_is_protected(name: str) -> None:
    """Snake case, camel case, capitals, plurals, and written as one word."""
    assert sensitivity_of(name) == "protected"


@pytest.mark.parametrize("name", SENSITIVE.split())
def test_sensitivity_of_a_sensitive_name_is_sensitive(name: str) -> None:
    """What identifies, locates or prices a person."""
    assert sensitivity_of(name) == "sensitive"


@pytest.mark.parametrize("name", ORDINARY.split())
def test_sensitivity_of_an_ordinary_name_is_ordinary(name: str) -> None:
    """A word that only contains another word is no match."""
    assert sensitivity_of(name) == "ordinary"


def _feature(
    name: str = "visits", reads: str = "n", sensitivity: Sensitivity = "ordinary", kind: str = "a"
) -> PropertyFeature:
    return PropertyFeature(
        name=name,
        meaning="What it is.",
        kinds=(kind,),
        property=reads,
        reducer="last",
        window="ever",
        bins=(0.0, 1.0),
        sensitivity=sensitivity,
    )


def _allowing(*names: str) -> FeaturePolicy:
    return FeaturePolicy(features=names, reason="The person asked for it.", approved_by="the board")


@pytest.mark.parametrize(
    "feature",
    [
        _feature(name="age_group"),
        _feature(reads="userGender"),
        _feature(kind="pregnancy_week"),
        _feature(reads="postcode"),
        _feature(reads="postcode", sensitivity="sensitive"),
        _feature(reads="gender", sensitivity="sensitive"),
        _feature(reads="gender", sensitivity="protected"),
        _feature(sensitivity="sensitive"),
    ],
)
def test_feature_set_without_a_policy_refuses_what_is_not_ordinary(
    feature: PropertyFeature,
) -> None:
    """By the feature's name, by the property, by the kind, or by its own declaration."""
    with pytest.raises(ValueError, match="feature '"):
        FeatureSet(custom=(feature,))
    with pytest.raises(ValueError, match="feature '"):
        FeatureSet(custom=(feature,), policy=_allowing("another"))


def test_feature_set_allows_by_name_what_is_declared_honestly() -> None:
    """The name in the policy and the class in the declaration: both are needed."""
    policy = _allowing("visits")
    FeatureSet(custom=(_feature(reads="gender", sensitivity="protected"),), policy=policy)
    with pytest.raises(ValueError, match="expected the sensitivity 'protected'; got 'sensitive'"):
        FeatureSet(custom=(_feature(reads="gender", sensitivity="sensitive"),), policy=policy)


def test_feature_set_of_two_features_with_one_name_is_refused() -> None:
    """Also with the name of a standard feature."""
    for names in (("visits", "visits"), ("events_7_days",)):
        with pytest.raises(ValueError, match="one feature a name"):
            FeatureSet(custom=tuple(_feature(name=name) for name in names))


def test_policy_file_that_is_missing_or_empty_allows_nothing(tmp_path: Path) -> None:
    """Silence is no permission."""
    assert FeaturePolicy.read(tmp_path / "none.toml") == FeaturePolicy()
    for text in ("", "# nothing yet\n", "[allow]\n", "[allow]\nfeatures = []\n"):
        path = tmp_path / "policy.toml"
        path.write_text(text)
        assert not FeaturePolicy.read(path).allows("age_group")


def test_policy_file_allows_the_names_in_it(tmp_path: Path) -> None:
    """The example of the docstring."""
    path = tmp_path / "policy.toml"
    path.write_text(
        '[allow]\nfeatures = ["age_group", "sensitive:health"]\n'
        'reason = "Asked for."\napproved_by = "privacy@example.org"\n'
    )
    policy = FeaturePolicy.read(path)
    assert policy.allows("age_group")
    assert not policy.allows("gender")
    assert policy.approved_by == "privacy@example.org"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allow = 1\n", r"one table \[allow\]"),
        ("[allow]\n[deny]\n", r"one table \[allow\]"),
        ('[allow]\nfeature = ["a"]\n', r"\[allow\] feature: expected only"),
        ('[allow]\nfeatures = "age"\n', r"\[allow\] features: expected a list"),
        ("[allow]\nfeatures = [1]\n", r"\[allow\] features: expected a list"),
        ('[allow]\nfeatures = ["a"]\n', r"\[allow\] reason: expected text"),
        ('[allow]\nfeatures = ["a"]\nreason = "x"\n', r"\[allow\] approved_by: expected text"),
        ("[allow]\nreason = 5\n", r"\[allow\] reason: expected text; write it in quotes"),
        ('[allow]\nfeatures = ["a", "a"]\nreason = "x"\napproved_by = "y"\n', "each name once"),
        ('[allow]\nfeatures = [" "]\nreason = "x"\napproved_by = "y"\n', "an empty one"),
        ("[allow\n", "expected TOML"),
        ("\xff", "expected TOML"),
    ],
)
def test_policy_file_that_is_wrong_says_file_key_and_remedy(
    tmp_path: Path, text: str, said: str
) -> None:
    """One clear line."""
    path = tmp_path / "policy.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"\Apolicy\.toml: .*{said}"):
        FeaturePolicy.read(path)


def test_policy_without_a_reason_is_refused() -> None:
    """In code as in the file."""
    with pytest.raises(ValueError, match="expected a reason"):
        FeaturePolicy(features=("age_group",))


@pytest.mark.parametrize(
    ("tag", "allowed", "seen"),
    [
        ("sensitive", (), False),
        ("Sensitive:Health", (), False),
        ("sensitive:health", (), False),
        ("sensitive:health", ("sensitive:sex",), False),
        ("sensitive:health", ("sensitive",), False),
        ("sensitive:health", ("sensitive:health",), True),
        ("sensitive", ("sensitive",), True),
        ("insensitive", (), True),
    ],
)
def test_policy_of_a_sensitive_item_hides_it_from_every_map_and_scalar(
    tag: str, allowed: tuple[str, ...], *, seen: bool
) -> None:
    """A tagged item is in no feature that looks at items, unless its tag is allowed by name."""
    catalogue = Catalogue(
        items=(
            Item(item_id="kit", category="care", brand="herb", price=3.0, tags=(tag,)),
            Item(item_id="cream", category="care", price=9.0, tags=(tag,)),
            Item(item_id="tea", category="tea", brand="leaf", price=2.0),
        )
    )
    policy = _allowing(*allowed) if allowed else FeaturePolicy()
    digest = Digest(FeatureSet(policy=policy))
    day_s = 86_400.0
    digest.add([Event(kind="purchase", item_id="kit", time_s=day * day_s) for day in (1, 2, 3)])
    digest.add([Event(kind="product_view", item_id=i, time_s=3 * day_s) for i in ("kit", "cream")])
    vector = digest.features(catalogue, now_s=3 * day_s + 1.0)
    assert (vector.map("category_affinity") == {"care": 1.0}) is seen
    assert (vector.map("brand_affinity") == {"herb": 1.0}) is seen
    assert (vector.map("replenishment_due") == {"kit": 0.0}) is seen
    for name in ("top_category_share", "top_brand_share", "price_sensitivity", "replenishment_due"):
        assert (vector.get(name) is not None) is seen, name
    assert vector.get("n_categories") == (1.0 if seen else 0.0)
    assert vector.get("comparison_views_7_days") == (1.0 if seen else 0.0)
    assert any("care" in sentence for sentence in vector.in_words()) is seen
    assert vector.get("purchases_ever") == 3.0
