"""Why something is shown, as a plain sentence that is true of this person."""

from __future__ import annotations

from client_sdk.intelligence.reasons import Reason
from client_sdk.signals.activity import Activity, ItemActivity
from client_sdk.wire import Catalogue

CATALOGUE_KIND = "catalogue"
SIMILAR_KIND = "similar"


def kind_of(reason: Reason) -> str:
    """The kind to show: nobody's favourite is not called popular."""
    if reason.kind == "popular" and reason.strength <= 0:
        return CATALOGUE_KIND
    return reason.kind


def sentence(reason: Reason, *, catalogue: Catalogue, activity: Activity) -> str:
    """Say a reason in plain words.

    >>> sentence(Reason(kind="popular", strength=0.5), catalogue=Catalogue(items=()),
    ...          activity=Activity())
    'Popular with many people.'
    """
    if reason.kind == "rebuy" and reason.item is not None:
        done = activity.of(catalogue.items[reason.item].item_id)
        return f"Y{_did(done, 'it')[1:]}."
    if reason.kind == "liked" and reason.topic:
        return f"Because you asked for more {reason.topic}."
    if reason.kind == "because-of" and reason.item is not None:
        done = activity.of(catalogue.items[reason.item].item_id)
        return f"Because {_did(done, name_of(catalogue, reason.item))}."
    if reason.kind == "category" and reason.category:
        return f"Because you often choose {reason.category}."
    if kind_of(reason) == CATALOGUE_KIND:
        return "From the catalogue."
    return "Popular with many people."


def name_of(catalogue: Catalogue, row: int) -> str:
    """An item's name, or its id where it has none."""
    item = catalogue.items[row]
    return item.name or item.item_id


def _did(done: ItemActivity, what: str) -> str:
    if done.purchases:
        return f"you bought {what}{_times(done.purchases)}"
    if done.carts:
        return f"you put {what} in the cart{_times(done.carts)}"
    return f"you looked at {what}{_times(done.views)}"


def _times(count: int) -> str:
    return "" if count <= 1 else f" {count} times"
