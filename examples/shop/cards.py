"""What the page shows, one thing at a time: an item on a shelf, a message in the tray."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_sdk import Catalogue, HomebodyError, Item
from client_sdk.experience.decisions import Decision


class NotThereError(HomebodyError):
    """No item of that id is in the catalogue, or no message of that id is on the page."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """An item with its place on a shelf, and why it is there."""

    id: str
    name: str
    topic: str
    brand: str
    price: float
    reason: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Message:
    """A decision that is on the page, in the shop's words."""

    decision: Decision
    title: str
    body: str
    opened: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give what the page shows."""
        action = self.decision.action
        return {
            "id": self.decision.decision_id,
            "title": self.title,
            "body": self.body,
            "opened": self.opened,
            "reason": self.decision.reason,
            "confidence": self.decision.confidence,
            "channel": "" if action is None else action.channel,
            "item": None if action is None else action.item_id,
            "nothing": action is None,
        }


def read_catalogue(path: Path) -> Catalogue:
    """Read what the shop sells.

    Args:
        path: A TOML file of ``[[items]]`` with the fields of `client_sdk.Item`.

    Raises:
        TypeError: an item has a field that there is not.
    """
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["items"]
    return Catalogue(
        items=tuple(Item(**{**row, "tags": tuple(row.get("tags", ()))}) for row in rows)
    )
