"""What the person asked for: topics, items, channels, permissions, a pause; and where it is set.

Rules a reader can check line by line:

1. Nothing is on by default: no topic, no channel, no permission, no pause. Only the person's own
   act sets one.
2. A change is durable in the vault before it counts. One that can't be written changes nothing.
3. A topic is liked or wanted less, never both; the later word counts. Topics and channels are case
   folded; item ids stay as they are.
4. Everything is bounded by the constants below; the history keeps the latest `MAX_CHANGES`.
5. A pause ends by itself at its time; `PreferenceCentre.resume` ends it earlier.
6. `united` joins what was said in two places: a wish for less stands wherever it was said and beats
   a like, the later end of two pauses counts, likes fill gaps, and channels and permissions are
   never taken over.
7. No error holds a topic, an item or a channel.
8. What a source such as the location says may be used with its permission only. It is no channel:
   nothing is sent by it. A store from before permissions keeps the person's yes: what was opened
   as a channel and is a source becomes a permission when it is read.

More than 400 lines: what can be set and where it is set stand on one page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final

from client_sdk.ports import Clock
from client_sdk.signals.vault import Record, Vault

MAX_TEXT_CHARS: Final = 128
MAX_TOPICS: Final = 500
MAX_ITEMS: Final = 500
MAX_CHANNELS: Final = 20
MAX_PERMISSIONS: Final = 20
SOURCES: Final = frozenset({"location"})
"""What is a permission whatever an app calls it, and never a channel."""

MAX_CHANGES: Final = 200
# 9999-12-31; a number above it is milliseconds by mistake.
LAST_TIME_S: Final = 253_402_300_799.0
_RECORD: Final = ("preferences", "current")


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """What the person set in the preference centre.

    Attributes:
        liked: Topics to show more of; a topic is a category, a brand or a tag, case folded.
        less: Topics to show less of; none of them is liked as well. At most 500 with the liked.
        less_items: Item ids to show less of, at most 500.
        channels: Channels that the person opted in to, such as ``"email"``; none by default.
        permissions: Sources that the person lets the app use, such as ``"location"``; none by
            default.
        paused_until_s: Nothing is learned, personal or sent before then, seconds since 1970 (UTC);
            None where nothing is paused.

    Raises:
        ValueError: a text has not 1 to 128 characters, there are too many, a topic is in both
            lists, a channel is a permission, or the end of the pause is no time.

    >>> Preferences(liked=frozenset({"Tea"})).liked
    frozenset({'tea'})
    """

    liked: frozenset[str] = frozenset()
    less: frozenset[str] = frozenset()
    less_items: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    paused_until_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("liked", "less", "channels", "permissions"):
            object.__setattr__(
                self, name, frozenset(_folded(name, text) for text in _texts(name, self))
            )
        object.__setattr__(self, "less_items", frozenset(_texts("less_items", self)))
        _at_most("topics", len(self.liked) + len(self.less), MAX_TOPICS)
        _at_most("items", len(self.less_items), MAX_ITEMS)
        _at_most("channels", len(self.channels), MAX_CHANNELS)
        _at_most("permissions", len(self.permissions), MAX_PERMISSIONS)
        if self.channels & SOURCES:
            raise ValueError(
                "channels: expected ways to send; got a source: allow_permission gives that"
            )
        if self.liked & self.less:
            raise ValueError("expected a topic in 'liked' or in 'less'; got one in both")
        if self.paused_until_s is not None:
            end_s = _time("paused_until_s", self.paused_until_s)
            object.__setattr__(self, "paused_until_s", end_s)

    def paused(self, now_s: float) -> bool:
        """Say whether the person asked for a pause that still lasts."""
        return self.paused_until_s is not None and now_s < self.paused_until_s

    def in_words(self, now_s: float) -> list[str]:
        """Say in plain sentences what is set; ``now_s`` tells whether a pause still lasts."""
        said = [
            f"{words}: {', '.join(sorted(names))}."
            for words, names in (
                ("Show more of", self.liked),
                ("Show less of", self.less),
                ("Show less of these items", self.less_items),
                ("Messages may come by", self.channels),
                ("May be used", self.permissions),
            )
            if names
        ]
        if not self.channels:
            said.append("No channel is open: no message may be sent.")
        if self.paused_until_s is not None and self.paused(now_s):
            end = datetime.fromtimestamp(self.paused_until_s, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
            said.append(f"Paused until {end}: nothing is learned, personal or sent before.")
        return said

    def to_json(self) -> dict[str, Any]:
        """Give all fields as plain JSON; lists are sorted."""
        return {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preferences:
        """Read what `to_json` wrote, and nothing else.

        Raises:
            ValueError: a field is missing, unknown or not as `to_json` gives it.

        >>> Preferences.from_json(NO_PREFERENCES.to_json()) == NO_PREFERENCES
        True
        """
        names = {field.name for field in fields(cls)}
        value = _with_permissions(value)
        if not isinstance(value, Mapping) or set(value) != names:
            raise ValueError(f"expected an object with the fields {sorted(names)}; got another")
        lists = {name: value[name] for name in names - {"paused_until_s"}}
        for name, given in lists.items():
            if not isinstance(given, list):
                raise ValueError(f"{name}: expected a list of texts; got {type(given).__name__}")  # noqa: TRY004 - every refusal is a ValueError
        sets = {name: frozenset(_checked(name, text) for text in lists[name]) for name in lists}
        read = cls(**sets, paused_until_s=value["paused_until_s"])
        if read.to_json() != dict(value):
            raise ValueError("expected sorted lists of distinct, case-folded texts; got others")
        return read


def united(own: Preferences, other: Preferences, *, likes: bool = True) -> Preferences:
    """Join what was said elsewhere to what was said here (rule 6).

    Args:
        own: What stands here; it is kept before the other's where the bounds leave no room.
        other: What comes: of another profile, or of an export.
        likes: Whether the other's likes come along.

    >>> own = Preferences(liked=frozenset({"tea"}), channels=frozenset({"email"}))
    >>> other = Preferences(liked=frozenset({"oats"}), less=frozenset({"tea"}))
    >>> united(own, other).to_json()["liked"], united(own, other).to_json()["less"]
    (['oats'], ['tea'])
    """
    less = _filled(own.less, other.less, MAX_TOPICS)
    liked = _filled(
        own.liked - less, other.liked - less if likes else frozenset(), MAX_TOPICS - len(less)
    )
    ends = [end for end in (own.paused_until_s, other.paused_until_s) if end is not None]
    return Preferences(
        liked=liked,
        less=less,
        less_items=_filled(own.less_items, other.less_items, MAX_ITEMS),
        channels=own.channels,
        permissions=own.permissions,
        paused_until_s=max(ends, default=None),
    )


@dataclass(frozen=True, kw_only=True)
class PreferenceChange:
    """One thing that the person set: when, what was done, and to what (empty where to nothing).

    Attributes:
        time_s: Seconds since 1970 (UTC).
        change: ``"more"``, ``"less"``, ``"less item"``, ``"forget"``, ``"allow channel"``,
            ``"refuse channel"``, ``"allow permission"``, ``"refuse permission"``, ``"pause"``,
            ``"resume"`` or ``"unite"``.
        about: The topic, the item, the channel or the permission.
    """

    time_s: float
    change: str
    about: str = ""


class PreferenceCentre:
    """Where the person says what they want more of, less of, by which channel, and when to pause.

    Args:
        vault: Keeps what is set.
        clock: Tells the time.
        lock: Shared with whoever else uses the vault.
    """

    def __init__(self, *, vault: Vault, clock: Clock, lock: AbstractContextManager[object]) -> None:
        self._vault = vault
        self._clock = clock
        self._lock = lock
        kept = vault.read(*_RECORD)
        self._current = NO_PREFERENCES if kept is None else Preferences.from_json(kept["set"])
        changes = [] if kept is None else kept["changes"]
        self._changes = tuple(PreferenceChange(**change) for change in changes)

    def current(self) -> Preferences:
        """Everything that is set now."""
        with self._lock:
            return self._current

    def paused(self) -> bool:
        """Say whether a pause lasts now."""
        return self.current().paused(self._clock.now_s())

    def in_words(self) -> list[str]:
        """Say in plain sentences what is set now."""
        return self.current().in_words(self._clock.now_s())

    def history(self) -> tuple[PreferenceChange, ...]:
        """The latest changes, oldest first."""
        with self._lock:
            return self._changes

    def more(self, topic: str) -> None:
        """Show more of a topic: a category, a brand or a tag.

        Raises:
            ValueError: not 1 to 128 characters, or 500 topics are set already.
        """
        topic = _folded("topic", topic)
        with self._lock:
            now = self._current
            self._set(
                replace(now, liked=now.liked | {topic}, less=now.less - {topic}), "more", topic
            )

    def less(self, topic: str) -> None:
        """Show less of a topic.

        Raises:
            ValueError: as `more`.
        """
        topic = _folded("topic", topic)
        with self._lock:
            now = self._current
            self._set(
                replace(now, liked=now.liked - {topic}, less=now.less | {topic}), "less", topic
            )

    def less_item(self, item_id: str) -> None:
        """Show less of one item.

        Raises:
            ValueError: not 1 to 128 characters, or 500 items are set already.
        """
        _checked("item", item_id)
        with self._lock:
            now = self._current
            self._set(replace(now, less_items=now.less_items | {item_id}), "less item", item_id)

    def forget(self, topic_or_item: str) -> None:
        """Take back what was said of a topic or an item; nothing happens where nothing was.

        Raises:
            ValueError: not 1 to 128 characters.
        """
        topic = _folded("topic", topic_or_item)
        with self._lock:
            now = self._current
            left = replace(
                now,
                liked=now.liked - {topic},
                less=now.less - {topic},
                less_items=now.less_items - {topic_or_item},
            )
            self._set(left, "forget", topic_or_item)

    def allow_channel(self, name: str) -> None:
        """Let messages come by a channel, such as ``"email"`` or ``"push"``.

        Raises:
            ValueError: not 1 to 128 characters, 20 channels are open already, or it is a source
                such as the location: that is a permission.
        """
        channel = _folded("channel", name)
        with self._lock:
            now = self._current
            self._set(replace(now, channels=now.channels | {channel}), "allow channel", channel)

    def refuse_channel(self, name: str) -> None:
        """Let no message come by a channel any more.

        Raises:
            ValueError: not 1 to 128 characters.
        """
        channel = _folded("channel", name)
        with self._lock:
            now = self._current
            self._set(replace(now, channels=now.channels - {channel}), "refuse channel", channel)

    def allow_permission(self, name: str) -> None:
        """Let a source be used, such as ``"location"``.

        Raises:
            ValueError: not 1 to 128 characters, or 20 permissions are given already.
        """
        permission = _folded("permission", name)
        with self._lock:
            given = self._current.permissions | {permission}
            self._set(replace(self._current, permissions=given), "allow permission", permission)

    def refuse_permission(self, name: str) -> None:
        """Let a source be used no more, from the next call on.

        Raises:
            ValueError: not 1 to 128 characters.
        """
        permission = _folded("permission", name)
        with self._lock:
            left = self._current.permissions - {permission}
            self._set(replace(self._current, permissions=left), "refuse permission", permission)

    def pause(self, *, until_s: float | None = None, for_s: float | None = None) -> None:
        """Learn nothing, show nothing personal and send nothing for a while.

        Args:
            until_s: The end, seconds since 1970 (UTC), or
            for_s: how long, in seconds. The new end counts, be it earlier or later than before.

        Raises:
            ValueError: not exactly one of the two, or an end that is not in the future.
        """
        now_s = self._clock.now_s()
        if (until_s is None) == (for_s is None):
            raise ValueError("expected either until_s or for_s; got both or none")
        given_s = until_s if for_s is None else now_s + _time("for_s", for_s)
        end_s = _time("the end of the pause", given_s)
        if end_s <= now_s:
            raise ValueError("expected a pause that ends in the future; got one that ended")
        with self._lock:
            self._set(replace(self._current, paused_until_s=end_s), "pause")

    def resume(self) -> None:
        """End a pause now; nothing happens where there is none."""
        with self._lock:
            self._set(replace(self._current, paused_until_s=None), "resume")

    def unite(self, other: Preferences, *, likes: bool = True) -> None:
        """Join what was said elsewhere (`united`): durable when this returns, changed or not."""
        with self._lock:
            self._write(united(self._current, other, likes=likes), "unite", "")

    def _set(self, wanted: Preferences, change: str, about: str = "") -> None:
        if wanted != self._current:
            self._write(wanted, change, about)

    def _write(self, wanted: Preferences, change: str, about: str) -> None:
        made = PreferenceChange(time_s=self._clock.now_s(), change=change, about=about)
        changes = (*self._changes, made)[-MAX_CHANGES:]
        value = {"set": wanted.to_json(), "changes": [vars(entry) for entry in changes]}
        stream, key = _RECORD
        self._vault.write(Record(stream=stream, key=key, value=value), durable=True)
        self._current, self._changes = wanted, changes


def _with_permissions(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read what was written before there were permissions: an opened source was one (rule 8)."""
    old = isinstance(value, Mapping) and "permissions" not in value
    if not old or not isinstance(value.get("channels"), list):
        return value
    opened = [name for name in value["channels"] if name in SOURCES]
    left = [name for name in value["channels"] if name not in SOURCES]
    return {**value, "channels": left, "permissions": opened}


def _filled(own: frozenset[str], other: frozenset[str], room: int) -> frozenset[str]:
    return frozenset([*sorted(own), *sorted(other - own)][: max(room, 0)])


def _texts(name: str, value: Preferences) -> Iterable[str]:
    given = getattr(value, name)
    if not isinstance(given, frozenset | set):
        raise ValueError(f"{name}: expected a set of texts; got {type(given).__name__}")  # noqa: TRY004 - every refusal is a ValueError
    return (_checked(name, text) for text in given)


def _folded(name: str, text: str) -> str:
    # Folding may make a text longer.
    return _checked(name, _checked(name, text).casefold())


def _checked(name: str, text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{name}: expected text; got {type(text).__name__}")  # noqa: TRY004 - every refusal is a ValueError
    if len(text) > MAX_TEXT_CHARS or not text.strip():
        raise ValueError(f"{name}: expected 1 to {MAX_TEXT_CHARS} characters; got {len(text)}")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"{name}: expected Unicode text; got half of a surrogate pair")
    return text


def _at_most(name: str, count: int, limit: int) -> None:
    if count > limit:
        raise ValueError(f"expected at most {limit} {name}; got {count}: forget one first")


def _time(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}: expected seconds; got {type(value).__name__}")  # noqa: TRY004 - every refusal is a ValueError
    if not 0 <= value <= LAST_TIME_S:
        raise ValueError(f"{name}: expected seconds from 0 to the year 9999; got another number")
    return float(value)


# Made last: it is checked as any other.
NO_PREFERENCES: Final = Preferences()
