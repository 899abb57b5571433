"""What a catalogue says of its items, as a matrix for `models.item_prior`; it is public."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.words import ItemWords
from client_sdk.wire import Catalogue

WORD_WEIGHT = 1.0
"""What the words of an item weigh in A A'; chosen by ``python -m simulations.tune``."""

CATEGORY_WEIGHT = 1.0
"""What an item's category weighs in A A'; chosen by ``python -m simulations.tune``."""


def catalogue_attributes(
    catalogue: Catalogue,
    *,
    word_weight: float = WORD_WEIGHT,
    category_weight: float = CATEGORY_WEIGHT,
) -> NDArray[np.float64]:
    """Give one row an item: its category, and its unit-norm words.

    Args:
        catalogue: of n items.
        word_weight: squared norm of the words' part, >= 0.
        category_weight: squared norm of the category's part, >= 0; an item without one has none.

    Returns:
        float64[n, categories + words].
    """
    words = ItemWords.from_items(catalogue.items)
    kinds = ItemCategories.from_names([item.category for item in catalogue.items])
    n_items = len(catalogue.items)
    attributes = np.zeros((n_items, len(kinds.names) + words.n_words))
    named = np.array([name != "" for name in kinds.names], bool)[kinds.codes]
    attributes[np.arange(n_items), kinds.codes] = np.sqrt(category_weight) * named
    rows = np.repeat(np.arange(n_items), np.diff(words.starts))
    attributes[rows, len(kinds.names) + words.words] += np.sqrt(word_weight) * words.values
    return attributes
