"""The features of one app: the standard ones, its own, and the policy that allows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from client_sdk.signals.features.custom import PropertyFeature
from client_sdk.signals.features.definitions import FeatureDefinition
from client_sdk.signals.features.policy import FeaturePolicy
from client_sdk.signals.features.standard import STANDARD
from client_sdk.signals.features.subkinds import SUBKIND_OF_KIND


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """What is computed about a person; one that exists was allowed.

    Attributes:
        custom: The app's own features.
        policy: Allows sensitive and protected ones by name.

    Raises:
        ValueError: two features have one name, or the policy does not allow one.

    >>> FeatureSet(custom=(PropertyFeature(
    ...     name="age_group", meaning="How old you are.", kinds=("screen",), property="ageGroup",
    ...     reducer="last", window="ever", bins=(0.0, 9.0), sensitivity="protected"),))
    Traceback (most recent call last):
    ValueError: feature 'age_group' is protected: expected its name in the policy file under \
[allow] features, with a reason; got none
    """

    custom: tuple[PropertyFeature, ...] = ()
    policy: FeaturePolicy = field(default_factory=FeaturePolicy)

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError("features: expected one feature a name; got two of one name")
        for feature in self.custom:
            own_kinds = [kind for kind in feature.kinds if kind not in SUBKIND_OF_KIND]
            self.policy.check(feature.definition, reads=[feature.property, *own_kinds])

    @cached_property
    def definitions(self) -> tuple[FeatureDefinition, ...]:
        """All features, in the order of the vector."""
        return (*STANDARD, *(feature.definition for feature in self.custom))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(definition.name for definition in self.definitions)
