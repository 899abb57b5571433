"""Categories and words: what the catalogue alone says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence import ItemCategories, ItemWords

names = st.lists(
    st.lists(st.sampled_from(["red", "tea", "cup", "of", "x1", "blue", "Cup"]), max_size=5).map(
        " ".join
    ),
    min_size=1,
    max_size=20,
)


def test_categories_share_counts_weights_and_leaves_the_unnamed_out() -> None:
    """Affinity is the share of the person's weight; without a category there is none."""
    categories = ItemCategories.from_names(["tea", "", "tea", "cup"])
    share = categories.affinity(np.array([0, 1, 3], np.int32), np.array([3, 9, 1], np.float32), 0.0)
    by_name = dict(zip(categories.names, share.tolist(), strict=True))
    assert by_name == {"": 0.0, "tea": 0.75, "cup": 0.25}


def test_categories_size_power_one_is_the_share_per_item() -> None:
    """A small category that somebody likes stands out against a large one."""
    categories = ItemCategories.from_names(["big"] * 4 + ["small"])
    share = categories.affinity(np.array([0, 4], np.int32), np.array([4, 4], np.float32), 1.0)
    assert share.tolist() == pytest.approx([0.2, 0.8])


def test_categories_without_weight_give_zeros() -> None:
    """Nobody's taste is no taste."""
    categories = ItemCategories.from_names(["a", "b"])
    none = categories.affinity(np.zeros(0, np.int32), np.zeros(0, np.float32), 0.5)
    assert none.tolist() == [0.0, 0.0]


def test_categories_codes_without_a_name_are_refused() -> None:
    """A code must have a name and a size."""
    with pytest.raises(ValueError, match="codes must be"):
        ItemCategories(codes=np.array([1]), names=("a",), sizes=np.ones(1, np.float32))
    with pytest.raises(ValueError, match="codes must be intp"):
        ItemCategories(codes=np.zeros(1, np.int16), names=("a",), sizes=np.ones(1, np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sizes"):
        ItemCategories(codes=np.zeros(1, np.intp), names=("a",), sizes=np.zeros(1, np.float32))


@given(names)
def test_words_affinity_of_one_item_is_the_cosine_of_tf_idf(texts: list[str]) -> None:
    """Sparse code and a dense reading of the formula agree, for any names."""
    words = ItemWords.from_names(texts)
    sets = [{w.casefold() for w in text.split() if len(w) > 2 and w.isalpha()} for text in texts]
    vocabulary = sorted({w for s in sets for w in s if sum(w in t for t in sets) > 1})
    z = np.array(
        [
            [np.log(len(sets) / sum(w in t for t in sets)) if w in s else 0.0 for w in vocabulary]
            for s in sets
        ]
    ).reshape(len(sets), len(vocabulary))
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    z = np.divide(z, norms, out=np.zeros_like(z), where=norms > 0)
    items = np.arange(len(texts), dtype=np.int32)[::2]
    weights = np.linspace(1.0, 2.0, len(items)).astype(np.float32)
    expected = z @ (weights @ z[items]) / weights.sum()
    every = words.affinity(items, weights)
    assert np.abs(every - expected).max() < 1e-5
    wanted = np.arange(len(texts))[::-1]
    assert np.abs(words.affinity_of(wanted, items, weights) - every[wanted]).max() < 1e-6
    assert np.abs(words.cosines(items, 0) - z[items] @ z[0]).max() < 1e-6


def test_words_of_somebody_new_say_nothing() -> None:
    """An empty history leans to nothing."""
    words = ItemWords.from_names(["red cup", "red lamp"])
    nobody = np.zeros(0, np.int32), np.zeros(0, np.float32)
    assert words.affinity(*nobody).tolist() == [0.0, 0.0]
    assert words.affinity_of(np.array([1]), *nobody).tolist() == [0.0]
