"""What the device computes for its person. Importing it loads nothing heavier than numpy."""

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import History, own_frequency, recency, statistics_vector
from client_sdk.intelligence.hybrid import (
    AttributeMap,
    HybridSettings,
    complete_table,
    fit_attribute_map,
    learned_rows,
)
from client_sdk.intelligence.population import score_many, solve_many
from client_sdk.intelligence.ranker import (
    history_vector,
    score_all,
    score_items,
    solve_private_vector,
    top_k,
)
from client_sdk.intelligence.reasons import (
    Liked,
    Reason,
    contributions,
    explain,
    explain_many,
    similar,
)
from client_sdk.intelligence.words import ItemWords
from client_sdk.wire.table import RankerSettings, RankerTable, ReleaseFormatError

__all__ = [
    "AttributeMap",
    "History",
    "HybridSettings",
    "ItemCategories",
    "ItemWords",
    "Liked",
    "RankerSettings",
    "RankerTable",
    "Reason",
    "ReleaseFormatError",
    "complete_table",
    "contributions",
    "explain",
    "explain_many",
    "fit_attribute_map",
    "history_vector",
    "learned_rows",
    "own_frequency",
    "recency",
    "score_all",
    "score_items",
    "score_many",
    "similar",
    "solve_many",
    "solve_private_vector",
    "statistics_vector",
    "top_k",
]
