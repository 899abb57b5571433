"""The shelf: what to show, in which order and why, from a release and a person's history. Pure.

Rules a reader can check line by line:

1. Withdrawn items are never shown; sold-out ones only where asked for.
2. Who likes a topic sees its items lifted by ``LIKED_LIFT / (1 + m / LIKED_FADES_AT)`` for m items
   in the history, and for a history of none above all others, whatever is popular: a first list is
   already theirs, and later what they do counts for more than what they once said.
3. What a person wants less of (an item, or all items of a topic) stands below everything else, in
   the order that it had; it is moved down, not left out. Less wins over liked.
4. Who has no history and no wish sees the order that everybody gets: popularity, then catalogue.
5. A reason is true of the person: a wish for less is no reason to show something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from client_sdk.assortment import Assortment, BoolArray, RowArray, topics_of
from client_sdk.catalogue_updates import NO_UPDATES, CatalogueUpdates
from client_sdk.experience.preferences import NO_PREFERENCES, Preferences
from client_sdk.installed import InstalledRelease
from client_sdk.intelligence.history import History
from client_sdk.intelligence.ranker import score_all, score_items, solve_private_vector, top_k
from client_sdk.intelligence.reasons import Liked, explain, similar
from client_sdk.sentences import CATALOGUE_KIND, SIMILAR_KIND, kind_of, name_of, sentence
from client_sdk.signals.activity import Activity
from client_sdk.wire.table import FloatArray

LIKED_LIFT: Final = 0.1
LIKED_FADES_AT: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedItem:
    """One place on the shelf.

    Attributes:
        item_id: The catalogue's id.
        name: What to call it; the id where the catalogue has no name.
        score: Higher is better; only comparable within one answer.
        reason: Why it is here, a plain sentence.
        kind: ``rebuy``, ``liked``, ``because-of``, ``category``, ``popular``, ``similar``, or
            ``catalogue`` where nothing speaks for it but its place.
    """

    item_id: str
    name: str
    score: float
    reason: str
    kind: str


def rank_items(
    installed: InstalledRelease,
    *,
    history: History,
    activity: Activity,
    candidates: Sequence[str] | None,
    k: int,
    include_owned: bool,
    preferences: Preferences = NO_PREFERENCES,
    updates: CatalogueUpdates = NO_UPDATES,
    in_stock_only: bool = True,
) -> list[RankedItem]:
    """Rank what can be shown, or some candidates of it, for one history.

    Args:
        installed: The release in use.
        history: The person's, for ``installed.assortment(updates).position``; one for the release's
            catalogue fits too, and lacks the added items. Empty gives everybody's order.
        activity: The person's, for true sentences; empty together with the history.
        candidates: Item ids, or None for all; repeated and unknown ones count once and not at all.
        k: At most how many, 0 or more.
        include_owned: False leaves out what was bought and kept.
        preferences: What the person asked for; topics and items count here.
        updates: What changed in the catalogue since the release.
        in_stock_only: False shows what is sold out too.
    """
    stock = installed.assortment(updates)
    table, categories, words = stock.table, stock.categories, stock.words
    vector = solve_private_vector(table, history)
    rows = None if candidates is None else stock.rows_of(dict.fromkeys(candidates))
    if rows is None:
        scores = score_all(table, table.settings, vector, history, categories, words=words)
    else:
        scores = score_items(
            table, table.settings, vector, history, rows, categories=categories, words=words
        )
    lifted = _apply_wishes(scores, stock, preferences, history, rows)
    hidden = stock.hidden(in_stock_only=in_stock_only)
    if not include_owned:
        hidden = np.append(hidden, stock.rows_of(activity.owned()))
    if len(hidden):
        scores[_places(hidden, rows)] = -np.inf
    shelf = []
    for place in top_k(scores, k):
        row = int(place if rows is None else rows[place])
        liked = None if lifted is None else lifted.reason(row)
        reason = explain(table, history, row, categories, words=words, liked=liked)
        shelf.append(
            RankedItem(
                item_id=stock.catalogue.items[row].item_id,
                name=name_of(stock.catalogue, row),
                score=float(scores[place]),
                reason=sentence(reason, catalogue=stock.catalogue, activity=activity),
                kind=kind_of(reason),
            )
        )
    return shelf


def similar_items(
    installed: InstalledRelease,
    item_id: str,
    k: int,
    *,
    updates: CatalogueUpdates = NO_UPDATES,
    in_stock_only: bool = True,
) -> list[RankedItem]:
    """Give items like one item; nothing of a person is used.

    Args:
        installed: The release in use.
        item_id: Like which; it may be sold out or withdrawn itself.
        k: At most how many, 0 or more.
        updates: What changed in the catalogue since the release.
        in_stock_only: False shows what is sold out too.

    Returns:
        The most alike first, by what was learned, or guessed for an item that is new. Without any
        model by their words, and then the others of its category in catalogue order.
    """
    if k < 0:
        raise ValueError(f"k must be >= 0, got {k}")
    stock = installed.assortment(updates)
    row = stock.position.get(item_id)
    if row is None:
        return []
    hidden = stock.hidden(in_stock_only=in_stock_only)
    reason = f"Similar to {name_of(stock.catalogue, row)}."
    found = similar(stock.table, row, k, exclude=hidden)
    if found:
        return [_similar(stock, other, score, SIMILAR_KIND, reason) for other, score in found]
    found = _similar_in_words(stock, row, k, hidden)
    shelf = [_similar(stock, other, score, SIMILAR_KIND, reason) for other, score in found]
    category = stock.catalogue.items[row].category
    if category:
        known = {row, *hidden.tolist(), *(other for other, _ in found)}
        alike = np.flatnonzero(stock.categories.codes == stock.categories.codes[row]).tolist()
        shelf += [
            _similar(stock, other, 0.0, CATALOGUE_KIND, f"Also in {category}.")
            for other in [other for other in alike if other not in known][: k - len(shelf)]
        ]
    return shelf


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lifted:
    """Which rows were lifted for a liked topic, and by how much."""

    stock: Assortment
    topics: frozenset[str]
    rows: BoolArray
    lift: float

    def reason(self, row: int) -> Liked | None:
        """Name the first of a lifted item's topics that is liked, as the catalogue spells it."""
        if not self.rows[row]:
            return None
        topics = topics_of(self.stock.catalogue.items[row])
        named = next(topic for topic in topics if topic.casefold() in self.topics)
        return Liked(topic=named, lift=self.lift)


def _apply_wishes(
    scores: FloatArray,
    stock: Assortment,
    preferences: Preferences,
    history: History,
    rows: RowArray | None,
) -> _Lifted | None:
    """Lift in place what is liked, and put below everything what is wanted less; less wins."""
    if not (preferences.liked or preferences.less or preferences.less_items) or not len(scores):
        return None
    less = stock.about(preferences.less)
    less[stock.rows_of(preferences.less_items)] = True
    liked = stock.about(preferences.liked) & ~less
    lift = LIKED_LIFT / (1.0 + len(history) / LIKED_FADES_AT)
    if not len(history):
        lift += float(np.ptp(stock.table.prior))
    below = less if rows is None else less[rows]
    np.add(scores, np.float32(lift), out=scores, where=liked if rows is None else liked[rows])
    np.subtract(scores, np.ptp(scores) + 1, out=scores, where=below)
    return _Lifted(stock=stock, topics=preferences.liked, rows=liked, lift=lift)


def _places(wanted: RowArray, rows: RowArray | None) -> RowArray:
    """Say where wanted rows stand among the scores: of all rows, or of the candidates."""
    if rows is None or not len(wanted):
        return wanted
    return np.flatnonzero(np.isin(rows, wanted))


def _similar_in_words(
    stock: Assortment, row: int, k: int, hidden: RowArray
) -> list[tuple[int, float]]:
    """Give the items that share words with one, the most alike first."""
    likeness: FloatArray = stock.words.affinity(np.array([row], np.int32), np.ones(1, np.float32))
    best = top_k(likeness, k, exclude=np.append(hidden, row))
    return [(int(other), min(1.0, float(likeness[other]))) for other in best if likeness[other] > 0]


def _similar(stock: Assortment, row: int, score: float, kind: str, reason: str) -> RankedItem:
    return RankedItem(
        item_id=stock.catalogue.items[row].item_id,
        name=name_of(stock.catalogue, row),
        score=score,
        reason=reason,
        kind=kind,
    )
