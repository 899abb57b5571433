"""What comes in through delivery: the catalogue, the consent policy and the release manifest.

A release is a set of TUF targets; TUF signs their hashes. These classes say what the targets mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
GUARDRAILS_FILE: Final = "guardrails.toml"
JOURNEY_SUFFIX: Final = ".journey.toml"
CONTENT_SUFFIX: Final = ".content.toml"
MAX_RELEASE_FILES: Final = 200
PROGRAMME_PATTERN: Final = r"[a-z][a-z0-9_-]{0,63}\.(?:journey|content)\.toml"
"""What the files of a journey are called, as a regular expression."""

_PROGRAMME: Final = re.compile(PROGRAMME_PATTERN)
BANDITS_FILE: Final = "bandits.priors"
_LARGEST_PRICE: Final = 1e15
_LARGEST_STOCK: Final = 10**12
_NEEDED_COLUMNS: Final = ("item_id", "name", "category", "price")
# What a column holds where an item says nothing; such a column may be left out.
_EMPTY: Final[Mapping[str, Any]] = {"brand": "", "stock": None, "tags": [], "attributes": {}}
_COLUMNS: Final = frozenset(_NEEDED_COLUMNS) | frozenset(_EMPTY)
_ABSENT: Final = object()
RELEASE_FILES: Final = (
    CATALOGUE_FILE, POLICY_FILE, TABLE_FILE, GRAPH_FILE, CARD_FILE, BANDITS_FILE, GUARDRAILS_FILE,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that can be ranked.

    Attributes:
        item_id: The catalogue's id.
        name: What to call it.
        category: The one group that it belongs to.
        price: Of one piece, in the app's currency.
        brand: Who makes it.
        stock: How many pieces there are, 0 for sold out; None where nobody counts.
        tags: Further groups, such as ``"organic"``; the order does not matter, but is kept.
        attributes: Further facts in text, such as ``{"colour": "red"}``.
    """

    item_id: str
    name: str = ""
    category: str = ""
    price: float | None = None
    brand: str = ""
    stock: int | None = None
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        """An item is known by its id; equality compares everything."""
        return hash(self.item_id)

    def to_json(self) -> dict[str, Any]:
        """Give the item as plain JSON; what it does not say is left out, as in a catalogue.

        >>> Item(item_id="cup", brand="Acme").to_json()
        {'item_id': 'cup', 'name': '', 'category': '', 'price': None, 'brand': 'Acme'}
        """
        row = {
            **vars(self),
            "tags": list(self.tags),
            "attributes": dict(self.attributes),
        }
        return {name: value for name, value in row.items() if value != _EMPTY.get(name, _ABSENT)}

    @classmethod
    def from_json(cls, value: object) -> Item:
        """Read what `to_json` wrote.

        Raises:
            WireFormatError: anything else.
        """
        if not isinstance(value, dict) or not set(_NEEDED_COLUMNS) <= set(value) <= _COLUMNS:
            raise WireFormatError(
                f"an item must have {', '.join(_NEEDED_COLUMNS)}, and nothing but "
                f"{', '.join(_EMPTY)} beside them"
            )
        return _item(dict(value))


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
        """Canonical JSON: one list a column; a column that nobody filled is left out."""
        columns: dict[str, list[Any]] = {
            "item_id": [item.item_id for item in self.items],
            "name": [item.name for item in self.items],
            "category": [item.category for item in self.items],
            "price": [item.price for item in self.items],
        }
        described: dict[str, list[Any]] = {
            "brand": [item.brand for item in self.items],
            "stock": [item.stock for item in self.items],
            "tags": [list(item.tags) for item in self.items],
            "attributes": [dict(item.attributes) for item in self.items],
        }
        columns |= {
            name: column
            for name, column in described.items()
            if any(value != _EMPTY[name] for value in column)
        }
        return canonical_json(columns)

    @classmethod
    def from_bytes(cls, data: bytes) -> Catalogue:
        """Read what `to_bytes` wrote.

        Raises:
            WireFormatError: anything else.
        """
        value = _read_object(data)
        fields = Fields(value)
        names = [*_NEEDED_COLUMNS, *(name for name in _EMPTY if name in value)]
        columns = [fields.take(name, list) for name in names]
        fields.done()
        if len({len(column) for column in columns}) != 1:
            raise WireFormatError("the catalogue's columns differ in length")
        rows = zip(*columns, strict=True)
        items = tuple(_item(dict(zip(names, row, strict=True))) for row in rows)
        try:
            return cls(items=items)
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
        files: File name (one of `RELEASE_FILES`, or ``NAME.journey.toml`` and its
            ``NAME.content.toml``) to SHA-256; at most 200. The catalogue and the policy are
            always there; table, graph and card come together or not at all; the priors of bandits
            come with or without a model.
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
        journeys, contents = (_stems(names, end) for end in (JOURNEY_SUFFIX, CONTENT_SUFFIX))
        unknown = {name for name in names if not _PROGRAMME.fullmatch(name)} - set(RELEASE_FILES)
        if len(names) > MAX_RELEASE_FILES:
            raise ValueError(f"a release has at most {MAX_RELEASE_FILES} files")
        if journeys != contents:
            raise ValueError("a release has a content file for each journey, and no other")
        if unknown or not {CATALOGUE_FILE, POLICY_FILE} <= names:
            raise ValueError("a release has a catalogue, a policy, and no unknown file")
        if names & model and not model <= names:
            raise ValueError("a release has table, graph and card, or none of them")
        if self.version < 1:
            raise ValueError("release numbers start at 1")

    @property
    def journeys(self) -> tuple[str, ...]:
        """The journeys that come along, by name."""
        return tuple(sorted(_stems(self.files, JOURNEY_SUFFIX)))

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


def _stems(names: Iterable[str], suffix: str) -> set[str]:
    return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}


def is_experience_file(name: str) -> bool:
    """Say whether a file of a release is its guardrails, a journey or the content of one."""
    return name == GUARDRAILS_FILE or _PROGRAMME.fullmatch(name) is not None


def is_price(value: object) -> bool:
    """Say whether a value may be an item's price: a finite number of a sane size, or None."""
    # NaN and infinity compare as too large.
    return value is None or (type(value) in (int, float) and abs(value) <= _LARGEST_PRICE)  # type: ignore[arg-type]


def is_stock(value: object) -> bool:
    """Say whether a value may be an item's stock: a whole number of pieces, or None."""
    return value is None or (type(value) is int and 0 <= value <= _LARGEST_STOCK)


def _item(row: dict[str, Any]) -> Item:
    for name in ("item_id", "name", "category", "brand"):
        if not isinstance(row.get(name, ""), str):
            raise WireFormatError(f"a catalogue row's {name} is not text")
    if not row["item_id"]:
        raise WireFormatError("a catalogue row's item_id is empty")
    if not is_price(row["price"]):
        raise WireFormatError("a catalogue row's price is not a number")
    if not is_stock(row.get("stock")):
        raise WireFormatError("a catalogue row's stock is not a whole number of pieces")
    tags, attributes = row.pop("tags", []), row.pop("attributes", {})
    if not isinstance(tags, list) or any(not isinstance(tag, str) for tag in tags):
        raise WireFormatError("a catalogue row's tags are not texts")
    if not isinstance(attributes, dict) or any(
        not isinstance(value, str) for value in attributes.values()
    ):
        raise WireFormatError("a catalogue row's attributes are not texts")
    return Item(**row, tags=tuple(tags), attributes=attributes)


def _read_object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireFormatError("expected JSON") from error
    if not isinstance(value, dict):
        raise WireFormatError("expected a JSON object")
    return value
