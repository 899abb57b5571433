"""Categories and words: what the catalogue alone says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence import ItemCategories, ItemWords
from client_sdk.wire import Item

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


def test_words_of_items_with_names_alone_are_the_words_of_their_names() -> None:
    """A catalogue that describes nothing else has exactly the numbers that it had."""
    texts = ["red tea cup", "blue tea cup", "", "garden spade 12", "red spade"]
    of_names = ItemWords.from_names(texts)
    of_items = ItemWords.from_items(
        [Item(item_id=str(row), name=text, category="c") for row, text in enumerate(texts)]
    )
    assert of_items.names == of_names.names == ("cup", "red", "spade", "tea")
    for column in ("starts", "words", "values", "rarity"):
        assert np.array_equal(getattr(of_items, column), getattr(of_names, column))


def test_words_of_described_items_are_facts_with_a_name_of_their_own() -> None:
    """A brand, a tag and an attribute of one text are three facts, in any case, and no word."""
    items = [
        Item(item_id="a", name="Rose", brand="rose", tags=("ROSE",), attributes={"Scent": "Rose"}),
        Item(item_id="b", name="rose", brand="Rose", tags=("rose",), attributes={"scent": "rose"}),
        Item(item_id="c", name="Cup", brand="Rose & Co"),
    ]
    words = ItemWords.from_items(items)
    assert words.names == ("attribute:scent=rose", "brand=rose", "rose", "tag=rose")
    alike = words.affinity(np.array([0], np.int32), np.ones(1, np.float32))
    assert alike.tolist() == pytest.approx([1.0, 1.0, 0.0])


@given(names, names)
def test_words_extended_leave_the_items_before_as_they_were(
    texts: list[str], more: list[str]
) -> None:
    """Added items are read with the words that are there, and change nothing for the others."""
    words = ItemWords.from_names(texts)
    items = [Item(item_id=str(row), name=text) for row, text in enumerate(more)]
    longer = words.extended(items)
    assert longer.n_items == len(texts) + len(more)
    had, weights = np.array([0], np.int32), np.ones(1, np.float32)
    before, after = words.affinity(had, weights), longer.affinity(had, weights)
    assert np.array_equal(before, after[: len(texts)])
    # An added item that is called as one of the catalogue's is as much alike as that one.
    twin = words.extended([Item(item_id="twin", name=texts[-1])]).affinity(had, weights)
    assert twin[-1] == pytest.approx(before[-1], abs=1e-6)


def test_words_extended_by_unknown_words_say_nothing() -> None:
    """What no item of the catalogue is called has no weight."""
    words = ItemWords.from_names(["red cup", "red tea"]).extended([Item(item_id="x", name="spade")])
    assert words.affinity(np.array([2], np.int32), np.ones(1, np.float32)).tolist() == [0, 0, 0]


def test_categories_extended_keep_numbers_sizes_and_the_unnamed() -> None:
    """An added item leans as the others of its category do; no category stays no category."""
    categories = ItemCategories.from_names(["tea", "cup", "tea"])
    longer = categories.extended(["tea", "", "mug", ""])
    assert longer.names == ("cup", "tea", "", "mug")
    assert longer.sizes.tolist() == [1.0, 2.0, 2.0, 1.0]
    items, weights = np.array([0, 4], np.int32), np.array([3, 1], np.float32)
    share = longer.affinity(items, weights, 0.5)
    assert share.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert longer.codes.tolist() == [1, 0, 1, 1, 2, 3, 2]
    only = categories.affinity(items[:1], weights[:1], 0.5)
    assert longer.affinity(items[:1], weights[:1], 0.5)[:2].tolist() == only.tolist()
