"""What a decision reads of the person, and the situation that it makes of it.

Rules a reader can check line by line:

1. Without a yes to personalise no callable of `PersonReader` is called.
2. What was read is remembered while nothing happens, for a minute at most: several decisions for
   one screen read once. It is never used without a yes at that moment.
3. Reading costs the same however long the history is: features and last times are folded already,
   and purchases are columns.
4. The reason of an action names what the person asked for or did, and is true of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.decisions import Decision, Status
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
        return Person(features=self.features(context), activity=self.activity())


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """What was read of the person for one decision; only with a yes to personalise."""

    features: FeatureVector
    activity: Activity


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
        self._activity: Activity | None = None
        self._known = 0

    def kept(self, activity: Activity) -> dict[str, float]:
        """Give the time of the last purchase of each item that was bought and not returned."""
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
        places = np.flatnonzero(self._rows != _NO_ROW)
        if not len(places):
            return {}
        rows = self._rows[places]
        bought = table.kept()[rows] > 0
        times = table.last_purchase_s[rows[bought]].tolist()
        return {
            self._items[place]: time_s
            for place, time_s in zip(places[bought].tolist(), times, strict=True)
        }


def because(
    action: Action,
    *,
    preferences: Preferences,
    activity: Activity,
    affinity: Mapping[str, float],
) -> str:
    """Say in one sentence what of the person speaks for an action.

    Args:
        action: The one that was chosen.
        preferences: What the person asked for.
        activity: What was done with each item.
        affinity: Each category's share of the person's interest.

    >>> because(Action(action_id="a", topic="tea"), preferences=Preferences(),
    ...         activity=Activity(), affinity={"Tea": 0.5})
    'Because you often choose tea.'
    """
    liked = next((word for word in (action.topic, *action.tags) if word in preferences.liked), None)
    if liked is not None:
        return f"Because you asked for more {liked}."
    if action.item_id is not None:
        done = activity.of(action.item_id)
        if done.purchases:
            return "Because you bought it."
        if done.carts:
            return "Because you put it in the cart."
        if done.views:
            return "Because you looked at it."
    if action.topic and action.topic in {name.casefold() for name in affinity}:
        return f"Because you often choose {action.topic}."
    return NOTHING_KNOWN


def reason_of(
    decision: Decision,
    *,
    person: Person | None,
    preferences: Preferences,
) -> str:
    """Say in one sentence why a decision came out as it did.

    Args:
        decision: Without its reason.
        person: None without a yes to personalise.
        preferences: What the person asked for.
    """
    if decision.status is Status.NOTHING:
        refused = {rule: n for stage in decision.stages for rule, n in stage.refused.items()}
        most = max(refused, key=refused.__getitem__, default="")
        return f"Nothing may be done now{f'; most is refused by {most}' if most else ''}."
    action = decision.action or decision.proposed
    if person is None or action is None:
        return NO_CONSENT
    if decision.confidence is None:
        return NOTHING_BETTER
    return because(
        action,
        preferences=preferences,
        activity=person.activity,
        affinity=person.features.map("category_affinity"),
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
    last_s: Callable[[str], float | None],
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
        last_s: Asked for a person only.
        purchases: Of the same actions.
    """
    actions, now_s = asked.actions, asked.now_s
    offers = frozenset(shop.active_offers())
    if policy.offers is not None:
        since_s = now_s - policy.offers.active_days * DAY_S
        offers |= ledger.names_since(policy.offers.kinds, since_s)
    common = Situation(
        now_s=now_s,
        utc_offset_s=asked.moment.context.utc_offset_s,
        personal=False,
        paused=preferences.paused(now_s),
        opted_in=preferences.channels,
        less=frozenset(actions.words & preferences.less),
        less_items=frozenset(actions.items & preferences.less_items),
        sold_out=frozenset(actions.items & shop.sold_out()),
        offers=offers,
        waiting=waiting,
        counts=ledger.counts(session=asked.moment.session, now_s=now_s),
    )
    if person is None:
        return common
    return replace(
        common,
        personal=True,
        bought_s=purchases.kept(person.activity),
        messages_7_days=int(person.features.get("messages_7_days") or 0),
        dismissed_share=person.features.get("dismissed_share_30_days"),
        last_complaint_s=last_s("support"),
        last_return_s=last_s("return"),
    )
