"""What a device may know, says that it knows, and forgets: events, features, wishes, erasure.

    python examples/know_and_forget.py

Everything happens in a folder that is deleted at the end; nothing talks to a network.
"""

import tempfile
import time
from pathlib import Path

from client_sdk import (
    Catalogue,
    CatalogueUpdates,
    CustomKind,
    Household,
    Item,
    PropertyRule,
    SignalRules,
    Taxonomy,
)
from client_sdk.signals.adapters import segment

SHOP = Catalogue(
    items=(
        Item(item_id="tea", name="Green tea", category="pantry", brand="Leaf", price=4.0),
        Item(item_id="honey", name="Forest honey", category="pantry", brand="Bee", price=7.5),
        Item(item_id="lamp", name="Desk lamp", category="home", brand="Lux", price=39.0, stock=3),
    )
)
# An app's own kind of event has a schema; anything else under its name is refused.
TASTING = CustomKind(
    name="tasting_booked",
    meaning="A tasting was booked.",
    properties={"guests": PropertyRule(type="integer", required=True, minimum=1, maximum=12)},
)
FROM_SEGMENT = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m-1",
    "userId": "ada@example.org",
    "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    "properties": {"products": [{"product_id": "tea", "price": 4.0, "quantity": 2}]},
}


def main() -> None:
    """Live a day on one device."""
    rules = SignalRules(taxonomy=Taxonomy([TASTING]))
    with (
        tempfile.TemporaryDirectory() as folder,
        Household.open(Path(folder) / "home", catalogue=SHOP, rules=rules) as household,
    ):
        home = household.current
        home.preferences.more("home")
        home.consent.grant("personalise")  # the default is no
        print("Nothing known yet, but she likes things for the home:")
        print("  ", home.rank(k=1)[0].name, "-", home.rank(k=1)[0].reason)

        home.track_many(segment.events_from(FROM_SEGMENT).events)
        home.track("product_view", item="honey")
        home.track("tasting_booked", guests=2)
        done = home.track_many([{"event": "cart", "timestamp": time.time()}], quarantine=True)
        print(f"{home.signals.count} events kept, {done.rejected} set aside:")
        print("  ", home.signals.quarantined()[0].message)

        print("What the device knows, in words:")
        for sentence in home.features().in_words()[:4]:
            print("  ", sentence)

        home.update_catalogue(
            CatalogueUpdates(
                stock={"lamp": 0},
                added=(Item(item_id="matcha", name="Matcha green tea", category="pantry"),),
            )
        )
        print("The lamp is sold out; matcha is new, and nobody ever bought it:")
        for item in home.rank(k=3, include_owned=False):
            print("  ", item.name, "-", item.reason)

        signed_in = household.sign_in("ada@example.org")
        print(signed_in.reason)
        home = household.current
        lines = home.export(Path(folder) / "ada.jsonl")
        home.consent.withdraw("personalise")
        print(f"{lines} lines exported. After a withdrawal the list is everybody's:")
        print("  ", home.rank(k=1)[0].name, "-", home.rank(k=1)[0].reason)
        household.erase()
        print("Erased: the keys are destroyed, no copy of the files opens any more.")


if __name__ == "__main__":
    main()
