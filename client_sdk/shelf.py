"""The shelf: what to show, in which order and why, from a release and a person's history. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from client_sdk.installed import InstalledRelease
from client_sdk.intelligence.history import History, IndexArray
from client_sdk.intelligence.ranker import score_all, score_items, solve_private_vector, top_k
from client_sdk.intelligence.reasons import explain, similar
from client_sdk.sentences import CATALOGUE_KIND, SIMILAR_KIND, kind_of, name_of, sentence
from client_sdk.signals.activity import Activity


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedItem:
    """One place on the shelf.

    Attributes:
        item_id: The catalogue's id.
        name: What to call it; the id where the catalogue has no name.
        score: Higher is better; only comparable within one answer.
        reason: Why it is here, a plain sentence.
        kind: ``rebuy``, ``because-of``, ``category``, ``popular``, ``similar``, or ``catalogue``
            where nothing speaks for it but its place.
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
) -> list[RankedItem]:
    """Rank the catalogue, or some candidates of it, for one history.

    Args:
        installed: The release in use.
        history: The person's, for the release's catalogue; empty gives everybody's order.
        activity: The person's, for true sentences; empty together with the history.
        candidates: Item ids, or None for all; repeated and unknown ones count once and not at all.
        k: At most how many, 0 or more.
        include_owned: False leaves out what was bought and kept.
    """
    table, catalogue = installed.table, installed.catalogue
    categories, words = installed.categories, installed.words
    vector = solve_private_vector(table, history)
    rows = None if candidates is None else _rows(installed, candidates)
    if rows is None:
        scores = score_all(table, table.settings, vector, history, categories, words=words)
    else:
        scores = score_items(
            table, table.settings, vector, history, rows, categories=categories, words=words
        )
    if not include_owned:
        owned = np.array(
            [row for item in activity.owned() if (row := catalogue.position.get(item)) is not None],
            np.int64,
        )
        scores = scores.copy()
        scores[owned if rows is None else np.isin(rows, owned)] = -np.inf
    best = [int(place) for place in top_k(scores, k)]
    shelf = []
    for place in best:
        row = place if rows is None else int(rows[place])
        reason = explain(table, history, row, categories, words=words)
        shelf.append(
            RankedItem(
                item_id=catalogue.items[row].item_id,
                name=name_of(catalogue, row),
                score=float(scores[place]),
                reason=sentence(reason, catalogue=catalogue, activity=activity),
                kind=kind_of(reason),
            )
        )
    return shelf


def similar_items(installed: InstalledRelease, item_id: str, k: int) -> list[RankedItem]:
    """Give items like one item: by what was learned, else of its category in catalogue order."""
    if k < 0:
        raise ValueError(f"k must be >= 0, got {k}")
    catalogue = installed.catalogue
    row = catalogue.position.get(item_id)
    if row is None:
        return []
    name = name_of(catalogue, row)
    found = similar(installed.table, row, k)
    if found:
        return [
            _similar(installed, other, score, SIMILAR_KIND, f"Similar to {name}.")
            for other, score in found
        ]
    category = catalogue.items[row].category
    if not category:
        return []
    code = installed.categories.codes[row]
    others = [int(other) for other in np.flatnonzero(installed.categories.codes == code)]
    return [
        _similar(installed, other, 0.0, CATALOGUE_KIND, f"Also in {category}.")
        for other in others
        if other != row
    ][:k]


def _similar(
    installed: InstalledRelease, row: int, score: float, kind: str, reason: str
) -> RankedItem:
    return RankedItem(
        item_id=installed.catalogue.items[row].item_id,
        name=name_of(installed.catalogue, row),
        score=score,
        reason=reason,
        kind=kind,
    )


def _rows(installed: InstalledRelease, candidates: Sequence[str]) -> IndexArray:
    position = installed.catalogue.position
    known = dict.fromkeys(row for item in candidates if (row := position.get(item)) is not None)
    return np.array(list(known), np.int32)
