"""Why an item ranks where it does, in words a person can check, and what is like an item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import History, own_frequency, taste_weights
from client_sdk.intelligence.ranker import check_catalogue, history_vector, ridge_inverse, top_k
from client_sdk.intelligence.words import ItemWords, total_of
from client_sdk.wire.table import FloatArray, RankerTable

ReasonKind = Literal["rebuy", "liked", "because-of", "category", "popular"]

REASON_KINDS: Final[tuple[ReasonKind, ...]] = (
    "rebuy", "liked", "because-of", "category", "popular",
)  # fmt: skip


_BLOCK: Final = 256


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One honest reason for an item.

    Attributes:
        kind: ``rebuy`` (the person had it), ``liked`` (they asked for more of its topic),
            ``because-of`` (another item of theirs speaks for it), ``category`` (they lean to its
            category), ``popular`` (nothing of theirs speaks for it).
        item: the history's item that speaks for it; the item itself for ``rebuy``; else None.
        category: the name of the category for ``category``; else None.
        times: how often the person had the item (``rebuy``) or the item that speaks; 0 otherwise.
        strength: in [0, 1], the part of what speaks for the item that this reason carries: the
            share of the positive contributions (``because-of``), the part of the lift
            (``liked``), the share of the taste (``category``), 1 for ``rebuy``, the popularity for
            ``popular``.
        topic: what the person asked for more of, for ``liked``; else None.
    """

    kind: ReasonKind
    item: int | None = None
    category: str | None = None
    times: float = 0.0
    strength: float
    topic: str | None = None


@dataclass(frozen=True, kw_only=True)
class Liked:
    """That the person asked for more of a topic of an item.

    Attributes:
        topic: what to call it.
        lift: what the item's score gained by it, > 0.
    """

    topic: str
    lift: float


def contributions(table: RankerTable, history: History, item: int) -> FloatArray:
    """Split the together part of an item's score over the history: they add up to it.

    Args:
        table: the release.
        history: the person's items.
        item: the item to explain.

    Returns:
        float32[m] aligned with ``history.items``; c_j (x_i f_i' A f_j), with A the identity in the
        project form and the ridge inverse in the ridge form. In the project form the item itself
        is left out, as in EASE.
    """
    items, x = history_vector(table, history)
    target = table.factors[item]
    if table.settings.form == "ridge" and len(items):
        target = (ridge_inverse(table, items, x) @ target).astype(np.float32)
    parts: FloatArray = (table.factors[items] @ target) * x * table.scale[item]
    parts -= np.where(items == item, table.scale[item] * table.self_weight[item] * x, 0)
    return parts


def explain(
    table: RankerTable,
    history: History,
    item: int,
    categories: ItemCategories | None = None,
    *,
    words: ItemWords | None = None,
    liked: Liked | None = None,
) -> Reason:
    """Give the reason that carries most of an item's rank.

    Args:
        table: the release.
        history: the person's items.
        item: the item to explain, a catalogue index.
        categories: the catalogue's categories.
        words: the words of the catalogue's names: an item can speak for another by its name too.
        liked: that the person asked for more of the item's topic; the reason where it adds more
            than all of the history does.

    Returns:
        The reason; never one that names an item the person did not have.

    Raises:
        ValueError: when the item is not in the table, or the catalogue is another one.
    """
    return explain_many(table, history, [item], categories, words=words, liked=[liked])[0]


def explain_many(
    table: RankerTable,
    history: History,
    items: Sequence[int],
    categories: ItemCategories | None = None,
    *,
    words: ItemWords | None = None,
    liked: Sequence[Liked | None] | None = None,
) -> list[Reason]:
    """Give the reason for each of some items, at little more than the cost of one.

    Args:
        table: the release.
        history: the person's items.
        items: the items to explain, catalogue indices.
        categories: the catalogue's categories.
        words: the words of the catalogue's names.
        liked: for each item, that the person asked for more of its topic; None for none of them.

    Returns:
        What `explain` gives for each.

    Raises:
        ValueError: as `explain`.
    """
    for item in items:
        if not 0 <= item < table.n_items:
            raise ValueError(f"item must be from 0 to {table.n_items - 1}, got {item}")
    check_catalogue(table, categories, words)
    wishes = [None] * len(items) if liked is None else liked
    own = own_frequency(history, half_life_days=table.settings.own_half_life_days)
    reasons: list[Reason] = []
    # Blocks bound the memory: a whole catalogue may be asked for.
    for first in range(0, len(items), _BLOCK):
        block = slice(first, first + _BLOCK)
        reasons += _explain_block(
            table, history, own, items[block], wishes[block], categories, words
        )
    return reasons


def _explain_block(  # noqa: PLR0917 -- one caller, in this file
    table: RankerTable,
    history: History,
    own: FloatArray,
    items: Sequence[int],
    wishes: Sequence[Liked | None],
    categories: ItemCategories | None,
    words: ItemWords | None,
) -> list[Reason]:
    rows = np.array(items, np.intp)
    had = _places_of(history, rows)
    new = np.flatnonzero(had < 0)
    parts = np.maximum(_spoken_for(table, history, rows[new], words), 0.0)
    totals, best = parts.sum(axis=0), _first_greatest(parts)
    shares = None
    reasons = [
        Reason(kind="rebuy", item=int(row), times=float(history.counts[at]), strength=1.0)
        if at >= 0
        else Reason(kind="popular", strength=float(table.popularity[row]))
        for row, at in zip(items, had.tolist(), strict=True)
    ]
    for column, place in enumerate(new.tolist()):
        total, wish = float(totals[column]), wishes[place]
        if wish is not None and wish.lift > total:
            strength = wish.lift / (wish.lift + total)
            reasons[place] = Reason(kind="liked", topic=wish.topic, strength=strength)
        elif total > 0:
            at = int(best[column])
            reasons[place] = Reason(
                kind="because-of",
                item=int(history.items[at]),
                times=float(history.counts[at]),
                strength=float(parts[at, column]) / total,
            )
        elif categories is not None and len(history):
            if shares is None:
                shares = categories.affinity(history.items, own, 0.0)
            code = int(categories.codes[rows[place]])
            if (share := float(shares[code])) > 0:
                reasons[place] = Reason(
                    kind="category", category=categories.names[code], strength=share
                )
    return reasons


def _places_of(history: History, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Give where each row stands in the history; -1 for one that the person did not have."""
    if not len(history):
        return np.full(len(rows), -1, np.intp)
    at = np.minimum(np.searchsorted(history.items, rows), len(history) - 1)
    return np.where(history.items[at] == rows, at, -1)


def _spoken_for(
    table: RankerTable,
    history: History,
    rows: npt.NDArray[np.intp],
    words: ItemWords | None,
) -> FloatArray:
    """Give what each item of the history adds to each of some items that are not in it.

    Returns:
        float32[m, k], the `contributions` with their weight, and what the words add.
    """
    settings = table.settings
    had, x = history_vector(table, history)
    if not len(had) or not len(rows):
        return np.zeros((len(had), len(rows)), np.float32)
    targets = table.factors[rows].T
    if settings.form == "ridge":
        targets = (ridge_inverse(table, had, x) @ targets).astype(np.float32)
    parts: FloatArray = np.matmul(table.factors[had], targets)
    parts *= x[:, None]
    parts *= table.scale[rows] * np.float32(settings.together_weight)
    if words is not None:
        weights = taste_weights(history, half_life_days=settings.own_half_life_days)
        each = weights * (settings.word_weight / total_of(weights))
        parts += words.cosines_of(had, rows) * each.astype(np.float32)[:, None]
    return parts


def _first_greatest(parts: FloatArray) -> npt.NDArray[np.intp]:
    """Give the row of the greatest of each column: intp[k]; zeros where there are no rows."""
    return parts.argmax(axis=0) if len(parts) else np.zeros(parts.shape[1], np.intp)


def similar(
    table: RankerTable, item: int, k: int, *, exclude: npt.NDArray[np.intp] | None = None
) -> list[tuple[int, float]]:
    """Find the items whose factors point the same way.

    Args:
        table: the release.
        item: a catalogue index.
        k: how many, >= 0.
        exclude: intp[m], items to leave out.

    Returns:
        At most k pairs of item and cosine in (0, 1], best first; empty for an item without factors.
    """
    if not 0 <= item < table.n_items:
        raise ValueError(f"item must be from 0 to {table.n_items - 1}, got {item}")
    norms = np.sqrt(np.einsum("nr,nr->n", table.factors, table.factors))
    if norms[item] == 0:
        return []
    cosine = (table.factors @ table.factors[item]) / np.maximum(norms * norms[item], 1e-30)
    left_out = [item] if exclude is None else np.append(exclude, item)
    best = top_k(cosine.astype(np.float32), k, exclude=left_out)
    return [(int(j), min(1.0, float(cosine[j]))) for j in best if cosine[j] > 0]
