"""Public attributes of MovieLens-1M's items, from ``movies.dat``: they cost no privacy."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_YEARS: Final = (1930, 1945, 1960, 1970, 1980, 1985, 1990, 1993, 1995, 1996, 1997, 1998, 1999, 2000)
_COMMONEST_WORD: Final = 12
# What each kind of attribute weighs in A A', beside 1 for the genres.
_YEAR_WEIGHT: Final = 0.1
_GENRE_YEAR_WEIGHT: Final = 0.3
_TITLE_WEIGHT: Final = 0.3


def attributes_of(folder: Path) -> NDArray[np.float64]:
    """Read public attributes of every item from ``movies.dat``: float64[n_items, m].

    Genres as a unit-norm row, the year between two knots, each genre at each year, and the title's
    words that 2 to 12 titles share.
    """
    movies = {}
    for line in (folder / "movies.dat").read_text("latin-1").splitlines():
        number, title, genres = line.split("::")
        movies[int(number)] = (title, genres.split("|"))
    pairs = np.loadtxt(folder / "ncf_item_map.csv", np.int64, delimiter=",", skiprows=1)
    items = [movies[int(movie)] for movie in pairs[np.argsort(pairs[:, 0]), 1]]
    names = sorted({genre for _, genres in items for genre in genres})
    kinds = np.array([[float(name in genres) for name in names] for _, genres in items])
    kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
    found = [re.search(r"\((\d{4})\)\s*$", title) for title, _ in items]
    years = np.array([float(year[1]) if year else _YEARS[-1] for year in found])
    # A year belongs to its two neighbouring knots, the nearer one more.
    ages = np.stack([np.interp(years, _YEARS, row) for row in np.eye(len(_YEARS))], axis=1)
    words = [set(re.findall(r"[^\W\d_]{3,}", title.lower())) for title, _ in items]
    common = Counter(word for row in words for word in row)
    shared = sorted(word for word, n in common.items() if 2 <= n <= _COMMONEST_WORD)
    rarity = np.log(len(items) / np.array([common[word] for word in shared]))
    titles = np.array([[float(word in row) for word in shared] for row in words]) * rarity
    titles /= np.maximum(np.linalg.norm(titles, axis=1, keepdims=True), 1e-9)
    both = (kinds[:, :, None] * ages[:, None, :]).reshape(len(items), -1)
    parts = (
        kinds,
        ages * np.sqrt(_YEAR_WEIGHT),
        both * np.sqrt(_GENRE_YEAR_WEIGHT),
        titles * np.sqrt(_TITLE_WEIGHT),
    )
    return np.concatenate(parts, axis=1)
