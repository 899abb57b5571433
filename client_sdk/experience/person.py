"""What a decision reads of the person, and the situation that it makes of it.

Rules a reader can check line by line:

1. Without a yes to personalise no callable of `PersonReader` is called.
2. What was read is remembered while nothing happens, for a minute at most: several decisions for
   one screen read once. It is never used without a yes at that moment.
3. Reading costs the same however long the history is: features and last times are folded already,
   and purchases are columns. What was remembered once more gives the very same objects, so whoever
   compares or writes them sees at once that nothing changed.
4. The reason of an action names what the person asked for or did, and is true of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.decisions import Conclusion, Status
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.ledger import DAY_S, Ledger
from client_sdk.experience.preferences import Preferences
from client_sdk.experience.situation import Situation
from client_sdk.signals.activity import Activity
from client_sdk.signals.features.columns import IntArray
from client_sdk.signals.features.context import Context
from client_sdk.signals.features.vector import FeatureVector

NO_CONSENT = "There is no consent to personalise: this is what everybody gets."
NOTHING_BETTER = "Nothing better may be done now: this is what everybody gets."
NOTHING_KNOWN = "It is worth the most of what may be done now."
REMEMBERED_S = 60.0
_NO_ROW = -1
_NOTHING: Final[frozenset[str]] = frozenset()


PreferenceReader = Callable[[], Preferences]


@dataclass(frozen=True, kw_only=True)
class PersonReader:
    """How a decision reads the person; every call needs a yes to personalise.

    Attributes:
        features: Gives every feature as it is now.
        activity: Gives what was done with each item.
        last_s: Gives when a kind of event last happened, seconds since 1970; None for never.
        n_events: Gives how many events are kept: what was read counts until that changes, and for
            `REMEMBERED_S` at most. None reads anew for every decision.
    """

    features: Callable[[Context], FeatureVector]
    activity: Callable[[], Activity]
    last_s: Callable[[str], float | None]
    n_events: Callable[[], int] | None = None

    def read(self, context: Context) -> Person:
        """Read the person as they are now."""
        return Person(
            features=self.features(context),
            activity=self.activity(),
            last_complaint_s=self.last_s("support"),
            last_return_s=self.last_s("return"),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """What was read of the person for one decision; only with a yes to personalise.

    Attributes:
        features: Every feature.
        activity: What was done with each item.
        last_complaint_s: When they last asked for support, seconds since 1970; None for never.
        last_return_s: When they last returned something.
    """

    features: FeatureVector
    activity: Activity
    last_complaint_s: float | None = None
    last_return_s: float | None = None

    @cached_property
    def messages_7_days(self) -> int:
        """Messages shown in the last 7 days, as the events say."""
        return int(self.features.get("messages_7_days") or 0)

    @cached_property
    def dismissed_share(self) -> float | None:
        """How many of the messages they closed, 0 to 1; None for unknown."""
        return self.features.get("dismissed_share_30_days")

    @cached_property
    def categories(self) -> frozenset[str]:
        """The categories that interest them, case folded."""
        return frozenset(name.casefold() for name in self.features.map("category_affinity"))


class PersonMemory:
    """What was read of the person last, for as long as nothing happened.

    Args:
        reader: Reads anew.
    """

    def __init__(self, reader: PersonReader) -> None:
        self._reader = reader
        self._context = Context()
        self._person: Person | None = None
        self._at_s = 0.0
        self._n_events = 0

    def read(self, context: Context, now_s: float) -> Person:
        """Read the person, anew where something happened, or a minute passed."""
        count = self._reader.n_events
        n_events = 0 if count is None else count()
        person = self._person
        if (
            person is None
            or count is None
            or (n_events, context) != (self._n_events, self._context)
            or not 0.0 <= now_s - self._at_s < REMEMBERED_S
        ):
            person = self._reader.read(context)
            self._person, self._context = person, context
            self._at_s, self._n_events = now_s, n_events
        return person

    def forget(self) -> None:
        """Drop what was read."""
        self._person = None


class Purchases:
    """When the items of one table were last bought and kept; it follows an activity as it grows.

    Args:
        actions: The table.
    """

    def __init__(self, actions: ActionTable) -> None:
        self._items = list(actions.items)
        self._places = {item_id: place for place, item_id in enumerate(self._items)}
        self._rows: IntArray = np.full(len(self._items), _NO_ROW, np.int64)
        self._known_places: IntArray = np.zeros(0, np.int64)
        self._activity: Activity | None = None
        self._known = 0
        self._person: Person | None = None
        self._kept: Mapping[str, float] = {}

    def kept(self, person: Person) -> Mapping[str, float]:
        """Give the time of the last purchase of each item that was bought and not returned.

        Returns:
            The very same mapping for the same person read, and for equal purchases.
        """
        if person is not self._person:
            found = self._read(person.activity)
            if found != self._kept:
                self._kept = found
            self._person = person
        return self._kept

    def _read(self, activity: Activity) -> dict[str, float]:
        table = activity.items
        if self._activity is not activity or len(table) < self._known:
            self._activity, self._known = activity, 0
            self._rows[:] = _NO_ROW
        if self._known < len(table):
            for row, item_id in enumerate(activity.item_ids[self._known :], self._known):
                place = self._places.get(item_id)
                if place is not None:
                    self._rows[place] = row
            self._known = len(table)
            self._known_places = np.flatnonzero(self._rows != _NO_ROW)
        places = self._known_places
        rows = self._rows[places]
        bought = table.kept_of(rows) > 0
        times = table.last_purchase_s[rows[bought]].tolist()
        items = self._items
        return {
            items[place]: time_s
            for place, time_s in zip(places[bought].tolist(), times, strict=True)
        }


def because(
    action: Action,
    *,
    preferences: Preferences,
    activity: Activity,
    categories: Callable[[], AbstractSet[str]],
) -> str:
    """Say in one sentence what of the person speaks for an action.

    Args:
        action: The one that was chosen.
        preferences: What the person asked for.
        activity: What was done with each item.
        categories: Gives the categories that interest the person, case folded; asked last.

    >>> because(Action(action_id="a", topic="tea"), preferences=Preferences(),
    ...         activity=Activity(), categories=lambda: {"tea"})
    'Because you often choose tea.'
    """
    if preferences.liked:
        for word in (action.topic, *action.tags):
            if word in preferences.liked:
                return f"Because you asked for more {word}."
    if action.item_id is not None:
        done = activity.of(action.item_id)
        if done.purchases:
            return "Because you bought it."
        if done.carts:
            return "Because you put it in the cart."
        if done.views:
            return "Because you looked at it."
    if action.topic and action.topic in categories():
        return f"Because you often choose {action.topic}."
    return NOTHING_KNOWN


def reason_of(
    conclusion: Conclusion,
    action: Action | None,
    *,
    person: Person | None,
    preferences: Preferences,
) -> str:
    """Say in one sentence why a decision came out as it did.

    Args:
        conclusion: What was concluded.
        action: The one that is done, or waits; None for nothing.
        person: None without a yes to personalise.
        preferences: What the person asked for.
    """
    if conclusion.status is Status.NOTHING:
        refused = {rule: n for stage in conclusion.stages for rule, n in stage.refused.items()}
        most = max(refused, key=refused.__getitem__, default="")
        return f"Nothing may be done now{f'; most is refused by {most}' if most else ''}."
    if person is None or action is None:
        return NO_CONSENT
    if conclusion.confidence is None:
        return NOTHING_BETTER
    return because(
        action,
        preferences=preferences,
        activity=person.activity,
        categories=lambda: person.categories,
    )


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What a decision reads of the app: nothing of the person.

    Attributes:
        sold_out: Gives the items that are out of stock.
        active_offers: Gives ids of actions and items whose offer is active, as the app knows it.
    """

    sold_out: Callable[[], AbstractSet[str]] = frozenset
    active_offers: Callable[[], AbstractSet[str]] = frozenset


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question before it is judged.

    Attributes:
        actions: What could be done.
        moment: When and where.
        now_s: Seconds since 1970 (UTC).
    """

    actions: ActionTable
    moment: Moment
    now_s: float


def situation_of(
    asked: Asked,
    *,
    policy: GuardrailPolicy,
    preferences: Preferences,
    shop: Shop,
    ledger: Ledger,
    waiting: frozenset[str],
    person: Person | None,
    purchases: Purchases,
) -> Situation:
    """Put the situation of a question together.

    Args:
        asked: The question.
        policy: Says how long an offer is active.
        preferences: What the person asked for.
        shop: What the app knows.
        ledger: What was shown.
        waiting: Ids of actions that wait for approval.
        person: None without a yes to personalise.
        purchases: Of the same actions.
    """
    actions, now_s = asked.actions, asked.now_s
    offers = frozenset(shop.active_offers())
    rule = policy.offers
    if rule is not None:
        shown = ledger.names_since(rule.kinds, now_s - rule.active_days * DAY_S)
        offers = offers | shown if offers else shown
    return Situation(
        now_s=now_s,
        utc_offset_s=asked.moment.context.utc_offset_s,
        personal=person is not None,
        paused=preferences.paused(now_s),
        opted_in=preferences.channels,
        less=_of_table(preferences.less, actions.words),
        less_items=_of_table(preferences.less_items, actions.items),
        sold_out=_of_table(shop.sold_out(), actions.items),
        offers=offers,
        waiting=waiting,
        counts=ledger.counts(session=asked.moment.session, now_s=now_s),
        bought_s={} if person is None else purchases.kept(person),
        messages_7_days=0 if person is None else person.messages_7_days,
        dismissed_share=None if person is None else person.dismissed_share,
        last_complaint_s=None if person is None else person.last_complaint_s,
        last_return_s=None if person is None else person.last_return_s,
    )


def _of_table(names: AbstractSet[str], table: AbstractSet[str]) -> frozenset[str]:
    return frozenset(table & names) if names else _NOTHING
