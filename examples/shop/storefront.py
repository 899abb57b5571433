"""The shop behind the page: how an app embeds Homebody.

Rules a reader can check line by line:

1. What the page gets is plain JSON, and every sentence in it is the SDK's own or this shop's.
2. Without a yes to personalise, or during a pause, a state holds no feature of the person, the list
   that everybody gets, and no message that was chosen for the person.
3. A message leaves the page with the wish that speaks against it: a closed channel, less of its
   topic or item.
4. Only ids of the catalogue, and messages that are on the page, are acted on; others raise
   `NotThereError`.
5. Nothing leaves: an e-mail is drafted in the tray and not sent, and what is exported goes to the
   person's own browser.
6. Erasing destroys the store and its key; the shop goes on with a new store that knows nobody.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from cards import Card, Message, NotThereError

from client_sdk import (
    ConsentRequiredError,
    ConsentState,
    Context,
    EventKind,
    Homebody,
    Item,
    Purpose,
    RankedItem,
)
from client_sdk.experience.account import Teller
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.decider import Decider
from client_sdk.experience.decisions import Decision
from client_sdk.experience.guardrails.policy import GuardrailPolicy

SHELF: Final = 12
FOUND: Final = 12
PICKS: Final = 4
KINDS: Final[Mapping[str, EventKind]] = {
    "view": EventKind.PRODUCT_VIEW,
    "cart": EventKind.CART,
    "purchase": EventKind.PURCHASE,
}
_CHANNELS: Final = {
    "in-app": "Messages in the tray of this page",
    "email": "A letter by e-mail (drafted in the tray; this sample sends nothing)",
}
_TITLES: Final = {"letter": "The weekly letter", "house-shelf": "The house shelf"}
_PURPOSES: Final = {
    Purpose.PERSONALISE: "Sort this shop for me",
    Purpose.TRAIN: "Help improve suggestions for everyone",
    Purpose.STATISTICS: "Be counted in statistics",
}
_STANDING: Final = (ConsentState.GRANTED, ConsentState.PAUSED)


class Storefront:
    """What one person can do on the page.

    Args:
        open_home: Opens their store; it is called again after everything was erased.
        policy: The guardrails of the tray.
    """

    def __init__(self, open_home: Callable[[], Homebody], policy: GuardrailPolicy) -> None:
        self._open_home = open_home
        self._policy = policy
        self._lock = threading.RLock()
        self._begin()

    def _begin(self) -> None:
        self._home: Homebody = self._open_home()
        self._decider: Decider = self._home.decider(self._policy)
        self._session = secrets.token_hex(8)
        self._message: Message | None = None
        self._closed: set[str] = set()

    def close(self) -> None:
        """Close the store."""
        with self._lock:
            self._home.close()

    def export(self) -> str:
        """Give everything that is kept of the person: JSON Lines."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "export.jsonl"
            self._home.export(file)
            return file.read_text(encoding="utf-8")

    def erase(self) -> None:
        """Destroy everything that is kept of the person, and begin anew with nobody."""
        with self._lock:
            self._home.erase()
            self._begin()

    def state(self) -> dict[str, Any]:
        """Everything that the page shows but the results of a search."""
        with self._lock:
            known = self._known()
            if self._message is not None and self._unwanted(self._message.decision, known):
                self._message = None
            return {
                "personal": known is not None,
                "shelf": [asdict(card) for card in self._cards(self._home.rank(k=SHELF))],
                "topics": self._topics(),
                "message": None if self._message is None else self._message.to_json(),
                "consent": self._consent(),
                "preferences": self._preferences(),
                "known": [] if known is None else known,
                "kept": self._home.signals.count,
                "left": [entry.sentence() for entry in self._home.transparency()],
            }

    def search(self, query: str, *, typed: bool) -> list[dict[str, Any]]:
        """Find items by their words, the person's favourites first.

        Args:
            query: What is searched for; every word of it is in an item's words.
            typed: Whether the person just searched; otherwise results are only sorted anew.
        """
        words = query.casefold().split()
        found = [
            item.item_id
            for item in self._home.catalogue.items
            if words and all(word in _text(item) for word in words)
        ]
        if typed and words:
            self._home.track(EventKind.SEARCH, query=query)
        ranked = self._home.rank(found, k=FOUND, slot="search")
        return [asdict(card) for card in self._cards(ranked)]

    def did(self, kind: str, item_id: str) -> bool:
        """Tell that the person looked at an item, put it in the cart or bought it.

        Returns:
            Whether it was kept; without consent it is not.
        """
        item = self._item(item_id)
        return self._home.track(KINDS[kind], item=item_id, price=item.price).stored

    def answer(self, purpose: str, *, granted: bool) -> None:
        """Record the person's yes or no."""
        centre = self._home.consent
        (centre.grant if granted else centre.withdraw)(purpose)

    def prefer(self, wish: str, about: str) -> None:
        """Record what the person wants more or less of, or by which channel."""
        centre = self._home.preferences
        if wish == "less item":
            centre.less_item(self._item(about).item_id)
            return
        if wish in ("allow channel", "refuse channel") and about not in _CHANNELS:
            raise NotThereError("expected a channel of this shop; got another: see the page")
        {
            "more": centre.more,
            "less": centre.less,
            "forget": centre.forget,
            "allow channel": centre.allow_channel,
            "refuse channel": centre.refuse_channel,
        }[wish](about)

    def pause(self, hours: int) -> None:
        """Pause for some hours; 0 ends a pause."""
        if hours:
            self._home.preferences.pause(for_s=hours * 3600.0)
        else:
            self._home.preferences.resume()

    def ask(self, utc_offset_s: int) -> None:
        """Decide what the tray shows now.

        Args:
            utc_offset_s: The person's local time minus UTC.
        """
        context = Context(utc_offset_s=utc_offset_s)
        moment = Moment(name="home", session=self._session, context=context)
        with self._lock:
            decision = self._decider.decide(moment, self._actions())
            self._message = self._worded(decision)
            self._tell(EventKind.MESSAGE_SHOWN, decision)

    def opened(self, decision_id: str) -> None:
        """Tell that the person opened the message."""
        with self._lock:
            message = self._on_page(decision_id)
            self._message = replace(message, opened=True)
            self._came_of(message.decision, "opened", 0.0)
            self._tell(EventKind.MESSAGE_OPENED, message.decision)

    def ended(self, decision_id: str, *, accepted: bool) -> None:
        """Tell that the person took the message up, or dismissed it; it leaves the tray."""
        with self._lock:
            decision = self._on_page(decision_id).decision
            action = decision.action
            self._message = None
            if action is None:
                return
            self._closed.add(action.action_id)
            if accepted:
                self._came_of(decision, "clicked", 1.0)
                if action.item_id is not None:
                    self.did("view", action.item_id)
            else:
                self._came_of(decision, "dismissed", 0.0)
                self._tell(EventKind.MESSAGE_DISMISSED, decision)

    def why(self, decision_id: str) -> dict[str, Any]:
        """Say why a message is on the page: decided again from the log, where it is in there."""
        with self._lock:
            decision = self._on_page(decision_id).decision
            if not decision.logged:
                policy = self._decider.policy.explain()
                return {"said": self._teller.tell(decision), "same": None, "policy": policy}
            why = self._decider.why(decision_id)
        said = self._teller.tell(why.decision, refused=why.refused, same=why.same)
        return {"said": said, "same": why.same, "policy": why.policy}

    def _known(self) -> list[str] | None:
        try:
            return self._home.features().in_words()
        except ConsentRequiredError:
            return None

    def _unwanted(self, decision: Decision, known: list[str] | None) -> bool:
        if known is None and decision.logged:
            return True
        action, wishes = decision.action, self._home.preferences.current()
        return action is not None and (
            action.channel not in wishes.channels
            or action.topic in wishes.less
            or action.item_id in wishes.less_items
        )

    def _topics(self) -> list[str]:
        return list(dict.fromkeys(item.category for item in self._home.catalogue.items))

    def _item(self, item_id: str) -> Item:
        catalogue = self._home.catalogue
        row = catalogue.position.get(item_id)
        if row is None:
            raise NotThereError(
                "expected the id of an item of this shop; got another: see the page"
            )
        return catalogue.items[row]

    def _cards(self, ranked: Sequence[RankedItem]) -> list[Card]:
        cards = []
        for place in ranked:
            item = self._item(place.item_id)
            cards.append(
                Card(
                    id=item.item_id,
                    name=place.name,
                    topic=item.category,
                    brand=item.brand,
                    price=item.price or 0.0,
                    reason=place.reason,
                    kind=place.kind,
                )
            )
        return cards

    def _consent(self) -> list[dict[str, Any]]:
        centre = self._home.consent
        return [
            {
                "purpose": purpose.value,
                "title": _PURPOSES[purpose],
                "text": centre.text(purpose),
                "granted": status.state in _STANDING,
                "state": status.state.value,
            }
            for purpose, status in centre.status().items()
        ]

    def _preferences(self) -> dict[str, Any]:
        centre = self._home.preferences
        current = centre.current()
        spelled = {topic.casefold(): topic for topic in self._topics()}
        return {
            "liked": sorted(spelled.get(topic, topic) for topic in current.liked),
            "less": sorted(spelled.get(topic, topic) for topic in current.less),
            "less_items": [
                {"id": item_id, "name": self._home.catalogue.items[row].name}
                for item_id in sorted(current.less_items)
                if (row := self._home.catalogue.position.get(item_id)) is not None
            ],
            "channels": [
                {"name": name, "title": title, "open": name in current.channels}
                for name, title in _CHANNELS.items()
            ],
            "paused": centre.paused(),
            "sentences": centre.in_words(),
        }

    def _actions(self) -> list[Action]:
        letter = Action(action_id="letter", kind="newsletter", channel="email", value=20.0)
        house = Action(action_id="house-shelf", kind="content", value=0.1)
        # What everybody may get does not compete with what is for the person.
        actions = [letter, *(self._picks() or [house])]
        return [each for each in actions if each.action_id not in self._closed]

    def _picks(self) -> list[Action]:
        if not self._home.consent.allows(Purpose.PERSONALISE):
            return []
        places = self._home.rank(k=PICKS + len(self._closed), slot="message", include_owned=False)
        return [
            Action(
                action_id=f"pick:{place.item_id}",
                kind="recommendation",
                topic=self._item(place.item_id).category,
                item_id=place.item_id,
                # What stands higher on the person's shelf is worth more to them.
                value=float(len(places) - number),
                rule="your shelf",
            )
            for number, place in enumerate(places)
        ]

    @property
    def _teller(self) -> Teller:
        return Teller(name=self._title)

    def _title(self, name: str) -> str:
        return _TITLES.get(name) or self._item(name.removeprefix("pick:")).name

    def _worded(self, decision: Decision) -> Message:
        action = decision.action
        if action is None:
            return Message(
                decision=decision, title="Nothing for now", body=self._teller.tell(decision)[0]
            )
        title = self._title(action.action_id)
        if action.item_id is not None:
            item = self._item(action.item_id)
            body = f"{item.name} by {item.brand}, {item.price:.2f} €."
            return Message(decision=decision, title=f"For you: {title}", body=body)
        if action.channel == "email":
            names = [place.name for place in self._home.rank(k=3, slot="letter")]
            body = f"Draft, not sent: this week {', '.join(names)}."
            return Message(decision=decision, title=title, body=body)
        body = "What we like ourselves: have a look around."
        return Message(decision=decision, title=title, body=body)

    def _on_page(self, decision_id: str) -> Message:
        message = self._message
        if message is None or message.decision.decision_id != decision_id:
            raise NotThereError("expected the id of the message on the page; got another: reload")
        return message

    def _came_of(self, decision: Decision, kind: str, value: float) -> None:
        if decision.logged:
            self._decider.outcome(decision.decision_id, kind, value=value)

    def _tell(self, kind: EventKind, decision: Decision) -> None:
        if decision.action is not None:
            self._home.track(kind, channel=decision.action.channel)


def _text(item: Item) -> str:
    return " ".join((item.name, item.category, item.brand, *item.tags)).casefold()
