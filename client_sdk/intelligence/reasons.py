"""Why an item ranks where it does, in words a person can check, and what is like an item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import History, own_frequency
from client_sdk.intelligence.ranker import check_catalogue, history_vector, ridge_inverse, top_k
from client_sdk.intelligence.words import ItemWords
from client_sdk.wire.table import FloatArray, RankerTable

ReasonKind = Literal["rebuy", "liked", "because-of", "category", "popular"]

REASON_KINDS: Final[tuple[ReasonKind, ...]] = (
    "rebuy", "liked", "because-of", "category", "popular",
)  # fmt: skip


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
    if not 0 <= item < table.n_items:
        raise ValueError(f"item must be from 0 to {table.n_items - 1}, got {item}")
    check_catalogue(table, categories, words)
    settings = table.settings
    at = int(np.searchsorted(history.items, item))
    if at < len(history) and int(history.items[at]) == item:
        return Reason(kind="rebuy", item=item, times=float(history.counts[at]), strength=1.0)
    own = own_frequency(history, half_life_days=settings.own_half_life_days)
    parts = contributions(table, history, item) * settings.together_weight
    if words is not None and len(history):
        parts += words.cosines(history.items, item) * own * (settings.word_weight / own.sum())
    parts = np.maximum(parts, 0.0)
    total = float(parts.sum())
    if liked is not None and liked.lift > total:
        strength = liked.lift / (liked.lift + total)
        return Reason(kind="liked", topic=liked.topic, strength=strength)
    if total > 0:
        best = int(np.argmax(parts))
        return Reason(
            kind="because-of",
            item=int(history.items[best]),
            times=float(history.counts[best]),
            strength=float(parts[best]) / total,
        )
    if categories is not None and len(history):
        code = int(categories.codes[item])
        share = float(categories.affinity(history.items, own, 0.0)[code])
        if share > 0:
            return Reason(kind="category", category=categories.names[code], strength=share)
    return Reason(kind="popular", strength=float(table.popularity[item]))


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
