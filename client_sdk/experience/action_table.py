"""A question's actions as columns: made once, used for as long as the app gives the same actions.

Rules a reader can check line by line:

1. A row is an action, in the order in which they were given; their ids differ.
2. A table is a value: nothing of the person, of the time or of a policy is in it.
3. `ActionTable.sha256` is the hash of everything in it: two tables with one hash decide alike.
4. `TableCache` gives the same table for equal actions. It compares them; it trusts no list to have
   stayed what it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, KeysView, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np

from client_sdk.experience.actions import Action
from client_sdk.signals.features.columns import BoolArray, FloatArray, IntArray

MAX_ACTIONS: Final = 10_000
_KEPT_TABLES: Final = 8
_KEPT_MASKS: Final = 64
_encode: Final = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False).encode


class ActionTable:
    """The actions of one question.

    Args:
        actions: At most 10,000. Those with features have equally many.

    Attributes:
        actions: As given.
        values: float64[n], what each is worth where it works.
        features: float64[n, d], zeros for an action without any.
        high_impact: bool[n].

    Raises:
        ValueError: too many, an id twice, or features of different lengths.

    >>> table = ActionTable([Action(action_id="a", topic="tea"), Action(action_id="b")])
    >>> table.about({"tea"}).tolist()
    [True, False]
    """

    def __init__(self, actions: Iterable[Action]) -> None:
        self.actions: Final = tuple(actions)
        if len(self.actions) > MAX_ACTIONS:
            raise ValueError(f"actions: expected at most {MAX_ACTIONS}; got {len(self.actions)}")
        self.row_of: Final = {action.action_id: row for row, action in enumerate(self.actions)}
        if len(self.row_of) != len(self.actions):
            raise ValueError("actions: expected different ids; got one twice")
        self.values: FloatArray = np.array([action.value for action in self.actions], np.float64)
        self.features: FloatArray = _features(self.actions)
        self.high_impact: BoolArray = np.array([a.high_impact for a in self.actions], np.bool_)
        for array in (self.values, self.features, self.high_impact):
            array.setflags(write=False)
        self._masks: dict[Hashable, BoolArray] = {}
        self._row_texts: dict[int, str] = {}
        self._words = _rows_of((a.topic, *a.tags) for a in self.actions)
        self._kinds = _rows_of((a.kind,) for a in self.actions)
        self._channels = _rows_of((a.channel,) for a in self.actions)
        self._items = _rows_of((a.item_id,) if a.item_id else () for a in self.actions)

    def __len__(self) -> int:
        """The number of actions."""
        return len(self.actions)

    @property
    def words(self) -> KeysView[str]:
        """Every topic and tag."""
        return self._words.keys()

    @property
    def items(self) -> KeysView[str]:
        """Every item that an action is about."""
        return self._items.keys()

    def about(self, words: Iterable[str]) -> BoolArray:
        """bool[n]: whose topic, or one of whose tags, is among the words."""
        return self._marked(self._words, words)

    def of_kinds(self, kinds: Iterable[str]) -> BoolArray:
        """bool[n]: whose kind is among these."""
        return self._marked(self._kinds, kinds)

    def on_channels(self, channels: Iterable[str]) -> BoolArray:
        """bool[n]: whose channel is among these."""
        return self._marked(self._channels, channels)

    def of_items(self, items: Iterable[str]) -> BoolArray:
        """bool[n]: whose item is among these."""
        return self._marked(self._items, items)

    def named(self, action_ids: Iterable[str]) -> BoolArray:
        """bool[n]: whose id is among these."""
        rows = [self.row_of[name] for name in action_ids if name in self.row_of]
        mask = np.zeros(len(self), np.bool_)
        mask[rows] = True
        return mask

    def once(self, rule: Hashable, make: Callable[[], BoolArray]) -> BoolArray:
        """Give a mask that depends on nothing but the actions and a rule; it is made once."""
        mask = self._masks.get(rule)
        if mask is None:
            if len(self._masks) >= _KEPT_MASKS:
                self._masks.clear()
            mask = self._masks[rule] = make()
            mask.setflags(write=False)
        return mask

    def row_text(self, row: int) -> str:
        """One action as JSON; made once."""
        text = self._row_texts.get(row)
        if text is None:
            text = self._row_texts[row] = _encode(self.actions[row].to_json())
        return text

    @cached_property
    def encoded(self) -> str:
        """The actions as JSON; `from_encoded` reads it."""
        rows = [action.to_json() for action in self.actions]
        return _encode(rows)

    @cached_property
    def sha256(self) -> str:
        """The hash of `encoded`, in hexadecimal."""
        return hashlib.sha256(self.encoded.encode()).hexdigest()

    @classmethod
    def from_encoded(cls, encoded: str) -> ActionTable:
        """Read what `encoded` gave.

        Raises:
            ValueError: not what it gives.
        """
        rows: Any = json.loads(encoded)
        return cls(Action.from_json(row) for row in rows)

    def _marked(self, rows_of: Mapping[str, IntArray], names: Iterable[str]) -> BoolArray:
        mask = np.zeros(len(self), np.bool_)
        for name in names:
            rows = rows_of.get(name)
            if rows is not None:
                mask[rows] = True
        return mask


class TableCache:
    """The latest tables, by their actions."""

    def __init__(self) -> None:
        self._tables: list[ActionTable] = []

    def table(self, actions: Sequence[Action]) -> ActionTable:
        """Give the table of these actions; equal actions get the table that is there already."""
        given = tuple(actions)
        for place, table in enumerate(self._tables):
            # Identical elements compare at once, so this costs microseconds for the same actions.
            if table.actions == given:
                if place:
                    self._tables.insert(0, self._tables.pop(place))
                return table
        made = ActionTable(given)
        self._tables = [made, *self._tables[: _KEPT_TABLES - 1]]
        return made


def _features(actions: Sequence[Action]) -> FloatArray:
    lengths = {len(action.features) for action in actions} - {0}
    if len(lengths) > 1:
        raise ValueError("features: expected equally many for each action that has some")
    width = lengths.pop() if lengths else 0
    rows = np.zeros((len(actions), width))
    for row, action in enumerate(actions):
        if action.features:
            rows[row] = action.features
    return rows


def _rows_of(names: Iterable[Iterable[str]]) -> dict[str, IntArray]:
    rows: dict[str, list[int]] = {}
    for row, some in enumerate(names):
        for name in some:
            if name:
                rows.setdefault(name, []).append(row)
    return {name: np.array(found, np.int64) for name, found in rows.items()}
