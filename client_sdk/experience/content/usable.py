"""What may be used now: features, favourites, facts, and what the person said yes to.

Rules a reader can check line by line:

1. What is not in a `Usable` is not known, and nothing may be concluded from that.
2. Features and favourites are there only with a yes to personalise; `Usable.of` is given a
   vector only then, since reading one needs that yes.
3. An opt-in is what the person opened in the preference centre: a channel such as ``sms``, or the
   permission to use a source such as ``location``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from client_sdk.experience.preferences import Preferences
from client_sdk.signals.features.vector import FeatureVector
from client_sdk.wire import Purpose

Scalar = str | float | bool
FAVOURITES: Final = ("category_affinity", "brand_affinity")
"""The maps of which the largest entry is a favourite."""


@dataclass(frozen=True, kw_only=True)
class Usable:
    """What may be used at one moment.

    Attributes:
        features: What is known of the person, by the feature's name; finite numbers.
        favourites: The favourite category and brand, by the map's name; see `FAVOURITES`.
        facts: What the app says of this moment, by name.
        consents: The purposes that there is a yes to now, such as ``"personalise"``.
        opt_ins: What the person opened in the preference centre.
        paused: Whether the person's pause lasts.

    Raises:
        ValueError: a number is not finite, or a purpose is none.
    """

    features: Mapping[str, float] = field(default_factory=dict)
    favourites: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Scalar] = field(default_factory=dict)
    consents: frozenset[str] = frozenset()
    opt_ins: frozenset[str] = frozenset()
    paused: bool = False

    def __post_init__(self) -> None:
        numbers = [*self.features.values(), *self.facts.values()]
        if not all(isinstance(value, str) or math.isfinite(value) for value in numbers):
            raise ValueError("features and facts: expected finite numbers; got another")
        object.__setattr__(self, "consents", frozenset(str(name) for name in self.consents))
        if not self.consents <= set(Purpose):
            raise ValueError(f"consents: expected some of {[str(name) for name in Purpose]}")

    @classmethod
    def of(
        cls,
        *,
        features: FeatureVector | None,
        preferences: Preferences,
        consents: Iterable[str],
        now_s: float,
        facts: Mapping[str, Scalar] | None = None,
    ) -> Usable:
        """Put together what the store knows and what the app says.

        Args:
            features: Of `Homebody.features`; None where there is no yes to personalise.
            preferences: What is set in the preference centre.
            consents: The purposes that there is a yes to now.
            now_s: Seconds since 1970 (UTC).
            facts: What the app says of this moment.
        """
        known: dict[str, float] = {}
        favourites: dict[str, str] = {}
        if features is not None:
            rows = zip(
                features.names, features.values.tolist(), features.known.tolist(), strict=True
            )
            known = {name: value for name, value, is_known in rows if is_known}
            for name in FAVOURITES:
                shares = features.map(name)
                if shares:
                    favourites[name] = max(sorted(shares), key=shares.__getitem__)
        return cls(
            features=known,
            favourites=favourites,
            facts=dict(facts or {}),
            consents=frozenset(consents),
            opt_ins=preferences.channels | preferences.permissions,
            paused=preferences.paused(now_s),
        )

    def with_facts(self, facts: Mapping[str, Scalar]) -> Usable:
        """The same, with other facts."""
        return dataclasses.replace(self, facts=dict(facts))
