"""What comes in through delivery: the catalogue, the consent policy and the release manifest.

A release is a set of TUF targets; TUF signs their hashes. These classes say what the targets mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from client_sdk.wire.frame import KEY_HEX_DIGITS, Fields, WireFormatError, canonical_json
from client_sdk.wire.messages import sha256_hex
from client_sdk.wire.vocabulary import Purpose

MANIFEST_TARGET: Final = "release.json"
CATALOGUE_FILE: Final = "catalogue.json"
POLICY_FILE: Final = "consent-policy.json"
TABLE_FILE: Final = "items.table"
GRAPH_FILE: Final = "ranker.tflite"
CARD_FILE: Final = "card.json"
_LARGEST_PRICE: Final = 1e15
RELEASE_FILES: Final = (CATALOGUE_FILE, POLICY_FILE, TABLE_FILE, GRAPH_FILE, CARD_FILE)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that can be ranked."""

    item_id: str
    name: str = ""
    category: str = ""
    price: float | None = None


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The items that can be ranked, in the order that gives every table and vector its meaning."""

    items: tuple[Item, ...]

    def __post_init__(self) -> None:
        if len(self.position) != len(self.items):
            raise ValueError("item ids must be unique")

    @cached_property
    def position(self) -> Mapping[str, int]:
        """Item id to row number."""
        return {item.item_id: row for row, item in enumerate(self.items)}

    @cached_property
    def sha256(self) -> str:
        """Identity of this catalogue: SHA-256 of its bytes, hexadecimal."""
        return sha256_hex(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Canonical JSON: one list a column."""
        return canonical_json(
            {
                "item_id": [item.item_id for item in self.items],
                "name": [item.name for item in self.items],
                "category": [item.category for item in self.items],
                "price": [item.price for item in self.items],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Catalogue:
        """Read what `to_bytes` wrote.

        Raises:
            WireFormatError: anything else.
        """
        fields = Fields(_read_object(data))
        columns = [fields.take(name, list) for name in ("item_id", "name", "category", "price")]
        fields.done()
        if len({len(column) for column in columns}) != 1:
            raise WireFormatError("the catalogue's columns differ in length")
        items = []
        for item_id, name, category, price in zip(*columns, strict=True):
            texts = isinstance(item_id, str) and isinstance(name, str) and isinstance(category, str)
            number = price is None or (type(price) in (int, float) and abs(price) <= _LARGEST_PRICE)
            if not (texts and number and item_id):
                raise WireFormatError("a catalogue row is not (id, name, category, price)")
            items.append(Item(item_id=item_id, name=name, category=category, price=price))
        try:
            return cls(items=tuple(items))
        except ValueError as error:
            raise WireFormatError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class ConsentPolicy:
    """The text that a person is asked to agree to, one paragraph a purpose."""

    version: str
    texts: Mapping[Purpose, str]
    valid_for_s: int

    def __post_init__(self) -> None:
        if set(self.texts) != set(Purpose) or self.valid_for_s <= 0:
            raise ValueError("a policy has one text for each purpose and a positive validity")

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the policy's bytes, hexadecimal; receipts and orders carry it."""
        return sha256_hex(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        texts = {purpose.value: text for purpose, text in self.texts.items()}
        return canonical_json(
            {"version": self.version, "texts": texts, "valid_for_s": self.valid_for_s}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ConsentPolicy:
        """Read what `to_bytes` wrote.

        Raises:
            WireFormatError: anything else.
        """
        fields = Fields(_read_object(data))
        version = fields.take("version", str)
        texts = fields.take("texts", dict)
        valid_for_s = fields.take("valid_for_s", int)
        fields.done()
        if any(not isinstance(text, str) for text in texts.values()):
            raise WireFormatError("a policy text is not text")
        try:
            by_purpose = {Purpose(name): text for name, text in texts.items()}
            return cls(version=version, texts=by_purpose, valid_for_s=valid_for_s)
        except ValueError as error:
            raise WireFormatError(str(error)) from error


DEFAULT_POLICY: Final = ConsentPolicy(
    version="2026-11",
    texts={
        Purpose.PERSONALISE: (
            "This app may learn from what you do, on this device, to sort what it shows you. "
            "What it learns stays on this device."
        ),
        Purpose.TRAIN: (
            "This device may send one bounded summary of your history to help improve "
            "suggestions for everyone. Noise is added to the sum before anyone uses it."
        ),
        Purpose.STATISTICS: (
            "This device may be counted, once a release and within a bound, in statistics "
            "such as how popular an item is. Noise is added before anyone sees a count."
        ),
    },
    valid_for_s=365 * 24 * 3600,
)


@dataclass(frozen=True, kw_only=True)
class ReleaseManifest:
    """What a release is made of.

    Attributes:
        version: Release number, from 1; a device never goes back to a lower one unless the
            operator publishes the older content under a new number.
        created_at_s: Seconds since 1970 (UTC).
        minimum_sdk_version: The oldest SDK that can use it, ``"major.minor.patch"``.
        aggregator_key: Ed25519 public key, hexadecimal, whose orders the device obeys.
        files: File name (one of `RELEASE_FILES`) to SHA-256. The catalogue and the policy are
            always there; table, graph and card come together or not at all.
        guarantee: The privacy claim of what was learned, as in the model card; empty without one.
    """

    version: int
    created_at_s: int
    minimum_sdk_version: str
    aggregator_key: str
    files: Mapping[str, str]
    guarantee: Mapping[str, Any]

    def __post_init__(self) -> None:
        names = set(self.files)
        model = {TABLE_FILE, GRAPH_FILE, CARD_FILE}
        if names - set(RELEASE_FILES) or not {CATALOGUE_FILE, POLICY_FILE} <= names:
            raise ValueError("a release has a catalogue, a policy, and no unknown file")
        if names & model and not model <= names:
            raise ValueError("a release has table, graph and card, or none of them")
        if self.version < 1:
            raise ValueError("release numbers start at 1")

    @property
    def has_model(self) -> bool:
        """Whether something was learned yet."""
        return TABLE_FILE in self.files

    def target_path(self, file: str) -> str:
        """The TUF target path of one of the release's files."""
        return f"{self.version}/{file}"

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            {
                **vars(self),
                "files": dict(self.files),
                "guarantee": dict(self.guarantee),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ReleaseManifest:
        """Read what `to_bytes` wrote.

        Raises:
            WireFormatError: anything else.
        """
        fields = Fields(_read_object(data))
        try:
            manifest = cls(
                version=fields.take("version", int),
                created_at_s=fields.take("created_at_s", int),
                minimum_sdk_version=fields.take("minimum_sdk_version", str),
                aggregator_key=fields.take_hex("aggregator_key", KEY_HEX_DIGITS),
                files=fields.take("files", dict),
                guarantee=fields.take("guarantee", dict),
            )
        except WireFormatError:
            raise
        except (ValueError, TypeError) as error:
            raise WireFormatError(str(error)) from error
        fields.done()
        return manifest


def _read_object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireFormatError("expected JSON") from error
    if not isinstance(value, dict):
        raise WireFormatError("expected a JSON object")
    return value
