"""What an app could do now, and the moment in which it asks.

Rules a reader can check line by line:

1. An action is what the app could do: show, say, offer. Doing nothing is no action; it is what is
   left when none is allowed.
2. Values, validated when made; an error names the field, and nothing of a person.
3. Sizes are bounded, so that a log of actions is: 128 characters a text, 32 tags, 64 features.
4. `Action.from_json` reads what `Action.to_json` wrote; a moment's likewise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from client_sdk.signals.features.context import Context

MAX_TEXT_CHARS: Final = 128
MAX_ACTION_FEATURES: Final = 64
MAX_TAGS: Final = 32
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One thing that the app could do.

    Attributes:
        action_id: 1 to 128 characters; unique among the actions of one question.
        kind: What it is, such as ``"message"``, ``"offer"``, ``"content"``, ``"help"``.
        channel: Where it would reach the person, such as ``"in-app"``, ``"push"``, ``"sms"``.
        topic: What it is about: a category, a brand or a tag; case folded.
        item_id: The item that it is about, or None.
        tags: Further words for rules, such as ``"financial"``; case folded.
        value: What it is worth where it works, 0 or more, in the app's unit.
        features: What a model is told of it, at most 64 finite numbers.
        high_impact: Whether a person has to approve it first.
        feature_names: What the features are called, one name each, or none at all; guardrails look
            at the names.
        rule: The rule or journey that proposes it; empty for none.

    >>> Action(action_id="tea-10", kind="offer", topic="Tea", value=2.0).topic
    'tea'
    """

    action_id: str
    kind: str = "message"
    channel: str = "in-app"
    topic: str = ""
    item_id: str | None = None
    tags: tuple[str, ...] = ()
    value: float = 1.0
    features: tuple[float, ...] = ()
    high_impact: bool = False
    feature_names: tuple[str, ...] = ()
    rule: str = ""

    def __post_init__(self) -> None:
        _expect_text("action_id", self.action_id, least=1)
        if self.item_id is not None:
            _expect_text("item_id", self.item_id, least=1)
        for name in ("kind", "channel"):
            _expect_name(name, getattr(self, name))
        for name in ("topic", "rule"):
            _expect_text(name, getattr(self, name))
        if len(self.tags) > MAX_TAGS:
            raise ValueError(f"tags: expected at most {MAX_TAGS}; got {len(self.tags)}")
        for name in ("tags", "feature_names"):
            for text in getattr(self, name):
                _expect_text(name, text, least=1)
        object.__setattr__(self, "topic", self.topic.casefold())
        object.__setattr__(self, "tags", tuple(tag.casefold() for tag in self.tags))
        object.__setattr__(self, "feature_names", tuple(self.feature_names))
        if not _is_number(self.value) or self.value < 0:
            raise ValueError("value: expected a finite number, 0 or more; got another")
        if len(self.features) > MAX_ACTION_FEATURES or not all(map(_is_number, self.features)):
            raise ValueError(f"features: expected at most {MAX_ACTION_FEATURES} finite numbers")
        if self.feature_names and len(self.feature_names) != len(self.features):
            raise ValueError("feature_names: expected one for each feature, or none at all")

    def to_json(self) -> dict[str, Any]:
        """Give the action as plain JSON; what is as it is by default is left out."""
        value: dict[str, Any] = {"action_id": self.action_id}
        for name, default in _DEFAULTS:
            given = getattr(self, name)
            if given != default:
                value[name] = list(given) if isinstance(given, tuple) else given
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Action:
        """Read what `to_json` wrote.

        Raises:
            ValueError: a field is unknown, or not as promised.

        >>> Action.from_json({"action_id": "a", "tags": ["New"]}).tags
        ('new',)
        """
        if not value.keys() <= _FIELDS or "action_id" not in value:
            raise ValueError("action: expected an action_id and the fields of an action only")
        given: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in value.items()
        }
        return cls(**given)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """When and where the app asks what to do.

    Attributes:
        name: The place in the app, such as ``"home"`` or ``"cart"``.
        session: The app's name of the visit; caps per session count by it.
        context: The local time, the kind of device, the coarse region.
    """

    name: str
    session: str = ""
    context: Context = field(default_factory=Context)

    def __post_init__(self) -> None:
        _expect_name("name", self.name)
        _expect_text("session", self.session)

    def to_json(self) -> dict[str, Any]:
        """Give the moment as plain JSON."""
        return {"name": self.name, "session": self.session, "context": asdict(self.context)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Moment:
        """Read what `to_json` wrote.

        >>> Moment.from_json(Moment(name="cart").to_json()).name
        'cart'
        """
        return cls(
            name=value["name"], session=value["session"], context=Context(**value["context"])
        )


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def is_code(name: object) -> bool:
    """Say whether a name may be that of a kind, a channel or a moment."""
    return isinstance(name, str) and _NAME.match(name) is not None


def _expect_text(name: str, value: object, *, least: int = 0) -> None:
    if not isinstance(value, str) or not least <= len(value) <= MAX_TEXT_CHARS:
        raise ValueError(f"{name}: expected {least} to {MAX_TEXT_CHARS} characters; got another")


def _expect_name(name: str, value: object) -> None:
    if not is_code(value):
        raise ValueError(f"{name}: expected 1 to 64 of a-z, 0-9, _ and -; got another name")


_FIELDS: Final = frozenset(each.name for each in fields(Action))
_DEFAULTS: Final = tuple(
    (each.name, each.default) for each in fields(Action) if each.name != "action_id"
)
