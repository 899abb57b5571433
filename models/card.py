"""The model card: what a release is for, what it learned from, what it promises, and its proof."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

FORBIDDEN_FEATURES: Final = (
    "age", "disability", "ethnicity", "gender", "health", "location", "name", "religion",
    "sexual orientation", "trade union membership",
)  # fmt: skip
"""What no release of this project may learn from (GDPR, article 9, and identifiers)."""

_CARD_VERSION: Final = 1


class CardFormatError(ValueError):
    """The bytes are not a model card this version can read."""


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """The privacy claim of a release; never epsilon alone.

    Attributes:
        epsilon: > 0, or None where no noise was added, which claims nothing.
        delta: in (0, 1); None together with epsilon.
        adjacency: what two neighbouring populations differ in, in words.
        trust: who must be trusted for the claim to hold, in words.
        mechanism: how the noise was made, in words.
    """

    epsilon: float | None
    delta: float | None
    adjacency: str
    trust: str
    mechanism: str

    def __post_init__(self) -> None:
        """Refuse half a claim."""
        if (self.epsilon is None) != (self.delta is None):
            raise ValueError("epsilon and delta come together")
        if self.epsilon is not None and not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ValueError(f"epsilon must be finite and > 0, got {self.epsilon}")
        if self.delta is not None and not 0 < self.delta < 1:
            raise ValueError(f"delta must be in (0, 1), got {self.delta}")
        if not (self.adjacency and self.trust and self.mechanism):
            raise ValueError("state the adjacency, the trust and the mechanism in words")

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON, as the release manifest carries it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """The proof that an exported model computes what its definition says.

    Attributes:
        model_sha256: of the bytes that were checked, hexadecimal.
        signatures: names, sorted.
        operators: builtin operators in the file, sorted.
        cases: how many inputs each signature was run on.
        largest_difference: by signature, relative to the largest output.
        tolerance: what was allowed.
        runtime: name and version of the runtime.
        reference: name and version of what it was compared with.
    """

    model_sha256: str
    signatures: tuple[str, ...]
    operators: tuple[str, ...]
    cases: int
    largest_difference: Mapping[str, float]
    tolerance: float
    runtime: str
    reference: str

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON."""
        return {
            **dataclasses.asdict(self),
            "signatures": list(self.signatures),
            "operators": list(self.operators),
            "largest_difference": dict(self.largest_difference),
        }


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a reader must know about a release.

    Attributes:
        name: of the model.
        purpose: what it is for, in a sentence.
        data_used: kinds of data it learned from, in words; at least one.
        forbidden_features: what it must not have learned from.
        guarantee: the privacy claim.
        parity: the proof of the export.

    Raises:
        ValueError: when a forbidden feature is among the data used, or a text is missing.
    """

    name: str
    purpose: str
    data_used: tuple[str, ...]
    guarantee: Guarantee
    parity: ParityReport
    forbidden_features: tuple[str, ...] = FORBIDDEN_FEATURES

    def __post_init__(self) -> None:
        """Refuse a card that says nothing, or says something forbidden."""
        if not (self.name and self.purpose and self.data_used):
            raise ValueError("a card states a name, a purpose and the data used")
        used = {text.casefold() for text in self.data_used}
        if clash := sorted(used & {text.casefold() for text in self.forbidden_features}):
            raise ValueError(f"a release may not learn from {clash}")

    def to_bytes(self) -> bytes:
        """Write canonical JSON."""
        value = {
            "card_version": _CARD_VERSION,
            "name": self.name,
            "purpose": self.purpose,
            "data_used": list(self.data_used),
            "forbidden_features": list(self.forbidden_features),
            "guarantee": self.guarantee.to_json(),
            "parity": self.parity.to_json(),
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelCard:
        """Read what `to_bytes` wrote.

        Raises:
            CardFormatError: on anything else.
        """
        try:
            value = json.loads(data)
            version = value.pop("card_version")
            parity = dict(value.pop("parity"))
            parity["signatures"] = tuple(parity["signatures"])
            parity["operators"] = tuple(parity["operators"])
            card = cls(
                guarantee=Guarantee(**value.pop("guarantee")),
                parity=ParityReport(**parity),
                data_used=tuple(value.pop("data_used")),
                forbidden_features=tuple(value.pop("forbidden_features")),
                **value,
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CardFormatError(f"not a model card: {error}") from error
        if version != _CARD_VERSION:
            raise CardFormatError("the card's version is unknown, update the SDK")
        return card
