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
6. A `ShelfMemory` changes how long an answer takes, and nothing else of it. What is in it is as
   private as the history: its owner drops it when consent ends.
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
from client_sdk.intelligence.history import History, same_taste
from client_sdk.intelligence.ranker import score_all, score_items, solve_private_vector, top_k
from client_sdk.intelligence.reasons import Liked, explain_many, similar
from client_sdk.intelligence.score_cache import ScoreCache
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
    memory: ShelfMemory | None = None,
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
        memory: What is known of this person from earlier calls; None computes everything anew.
    """
    stock = installed.assortment(updates)
    asked = _Asked(
        stock=stock,
        history=history,
        candidates=None if candidates is None else tuple(candidates),
        k=k,
        include_owned=include_owned,
        preferences=preferences,
        in_stock_only=in_stock_only,
    )
    if memory is None:
        return list(_ranked(asked, activity, None))
    if memory.last is None or not memory.last[0].same(asked):
        memory.last = asked, _ranked(asked, activity, memory.cache)
    return list(memory.last[1])


class ShelfMemory:
    """What `rank_items` knows of one person from earlier calls: their scores, and the last answer.

    It lies in memory only, and holds for one person and one `Activity`.
    """

    def __init__(self) -> None:
        self.cache = ScoreCache()
        self.last: tuple[_Asked, tuple[RankedItem, ...]] | None = None

    def forget(self) -> None:
        """Drop everything."""
        self.cache.forget()
        self.last = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Asked:
    """Everything that an answer depends on."""

    stock: Assortment
    history: History
    candidates: tuple[str, ...] | None
    k: int
    include_owned: bool
    preferences: Preferences
    in_stock_only: bool

    def same(self, other: _Asked) -> bool:
        """Say whether both have the same answer; a history's arrays are new with every event."""
        return (
            self.stock is other.stock
            and same_taste(self.history, other.history)
            and (self.k, self.include_owned, self.in_stock_only)
            == (other.k, other.include_owned, other.in_stock_only)
            and self.preferences == other.preferences
            and self.candidates == other.candidates
        )


def _ranked(asked: _Asked, activity: Activity, cache: ScoreCache | None) -> tuple[RankedItem, ...]:
    stock, history = asked.stock, asked.history
    table, categories, words = stock.table, stock.categories, stock.words
    candidates = asked.candidates
    rows = None if candidates is None else stock.rows_of(dict.fromkeys(candidates))
    if rows is not None:
        scores = score_items(
            table,
            table.settings,
            solve_private_vector(table, history),
            history,
            rows,
            categories=categories,
            words=words,
        )
    elif cache is not None:
        scores = cache.scores(table, history, categories, words=words)
    else:
        vector = solve_private_vector(table, history)
        scores = score_all(table, table.settings, vector, history, categories, words=words)
    hidden = stock.hidden(in_stock_only=asked.in_stock_only)
    if not asked.include_owned:
        hidden = np.append(hidden, stock.rows_of(activity.owned()))
    if cache is not None and (len(hidden) or asked.preferences != NO_PREFERENCES):
        # What is kept stays as it is.
        scores = scores.copy()
    lifted = _apply_wishes(scores, stock, asked.preferences, history, rows)
    if len(hidden):
        scores[_places(hidden, rows)] = -np.inf
    places = top_k(scores, asked.k)
    found = (places if rows is None else rows[places]).tolist()
    liked = None if lifted is None else [lifted.reason(row) for row in found]
    reasons = explain_many(table, history, found, categories, words=words, liked=liked)
    return tuple(
        RankedItem(
            item_id=stock.catalogue.items[row].item_id,
            name=name_of(stock.catalogue, row),
            score=score,
            reason=sentence(reason, catalogue=stock.catalogue, activity=activity),
            kind=kind_of(reason),
        )
        for row, score, reason in zip(found, scores[places].tolist(), reasons, strict=True)
    )


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
