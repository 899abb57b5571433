"""Guesses for items that nobody had: the ridge of the docstring, and nothing else changes."""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.intelligence import (
    History,
    HybridSettings,
    ItemCategories,
    ItemWords,
    RankerTable,
    complete_table,
    contributions,
    fit_attribute_map,
    learned_rows,
    score_all,
    score_items,
    score_many,
    solve_private_vector,
)
from client_sdk.wire import Item

MakeTable = Callable[..., RankerTable]
MakeHistory = Callable[..., History]
Matrix = npt.NDArray[np.float64]


def completed(
    table: RankerTable,
    categories: ItemCategories,
    words: ItemWords,
    chosen: HybridSettings | None = None,
) -> RankerTable:
    """The table with guesses, under the default settings or others."""
    hybrid = chosen or HybridSettings()
    mapped = fit_attribute_map(table, categories, words, hybrid)
    return complete_table(table, mapped, categories, words, hybrid)


def attributes_of(categories: ItemCategories, words: ItemWords) -> Matrix:
    """Read rule 2 item by item: every shared category and word, in any order of columns."""
    n = words.n_items
    plain = np.zeros((n, len(words.names) + len(categories.names)))
    for row in range(n):
        part = slice(words.starts[row], words.starts[row + 1])
        plain[row, words.words[part][words.values[part] > 0]] = 1.0
        if categories.names[categories.codes[row]]:
            plain[row, len(words.names) + categories.codes[row]] = 1.0
    shared = plain.sum(axis=0)
    plain = plain[:, (shared >= 2) & (shared < n)]
    plain *= np.sqrt(np.log(n / plain.sum(axis=0)))
    norms = np.linalg.norm(plain, axis=1, keepdims=True)
    return np.divide(plain, norms, out=np.zeros_like(plain), where=norms > 0)


@pytest.mark.parametrize("ridge", [0.5, 3.0])
def test_guesses_equal_the_plain_ridge(
    make_table: MakeTable, categories: ItemCategories, words: ItemWords, ridge: float
) -> None:
    """W is the minimiser that the docstring names, and a guess is a W."""
    table = make_table(1)
    a, learned = attributes_of(categories, words), learned_rows(table)
    gram = a[learned].T @ a[learned] + ridge * np.eye(a.shape[1])
    expected = a @ np.linalg.solve(gram, a[learned].T @ table.factors[learned])
    mapped = fit_attribute_map(table, categories, words, HybridSettings(ridge=ridge))
    guesses = mapped.guess(np.arange(table.n_items), categories, words)
    assert np.abs(guesses - expected).max() < 1e-5
    assert np.abs(expected).max() > 0.01


def test_complete_table_leaves_learned_rows_bit_by_bit(
    make_table: MakeTable, categories: ItemCategories, words: ItemWords
) -> None:
    """Only rows of which nothing was learned change, and they all do."""
    table = make_table(2)
    learned = learned_rows(table)
    assert 0 < learned.sum() < table.n_items
    filled = completed(table, categories, words)
    for column in ("factors", "self_weight", "scale"):
        same = getattr(filled, column) == getattr(table, column)
        assert same[learned].all()
    assert filled.factors[~learned].any(axis=1).all()
    assert np.array_equal(filled.bias, table.bias)
    assert np.array_equal(filled.popularity, table.popularity)


def test_complete_table_learned_items_score_as_before_for_who_has_learned_items(
    make_table: MakeTable, categories: ItemCategories, words: ItemWords
) -> None:
    """A guess changes nothing but its own item's score."""
    table = make_table(3)
    filled, learned = completed(table, categories, words), learned_rows(table)
    history = History.from_events(items=np.flatnonzero(learned)[:6], times_s=[0.0] * 6, now_s=1.0)
    before, after = (
        score_all(t, t.settings, solve_private_vector(t, history), history, categories, words=words)
        for t in (table, filled)
    )
    assert np.array_equal(before[learned], after[learned])
    assert not np.array_equal(before[~learned], after[~learned])


def test_complete_table_all_forms_of_scoring_agree_and_reasons_add_up(
    make_table: MakeTable, make_history: MakeHistory, categories: ItemCategories, words: ItemWords
) -> None:
    """A guess is a row like any other, also where the person has the item."""
    table = completed(
        make_table(4, own_weight=0.0, popularity_weight=0.0, word_weight=0.0), categories, words
    )
    history = make_history(4, m=12)
    u = solve_private_vector(table, history)
    every = score_all(table, table.settings, u, history)
    wanted = np.arange(table.n_items)[::-1]
    some = score_items(table, table.settings, u, history, wanted)
    many = score_many(table, table.settings, u[None], [history])
    assert np.abs(some - every[wanted]).max() < 1e-6
    assert np.abs(many[0] - every).max() < 1e-6
    for item in range(table.n_items):
        total = contributions(table, history, item).sum() + table.bias[item]
        assert total == pytest.approx(every[item], abs=2e-6)


def test_complete_table_finds_the_factors_that_a_brand_stands_for() -> None:
    """Items of two brands point two ways; a new item points as its brand does."""
    items = [Item(item_id=str(i), brand="Oak" if i % 2 else "Elm") for i in range(20)]
    factors = np.zeros((20, 2))
    factors[np.arange(18), np.arange(18) % 2] = 0.5
    table = RankerTable.from_arrays(factors=factors)
    kinds, words = ItemCategories.from_names([""] * 20), ItemWords.from_items(items)
    elm, oak = completed(table, kinds, words).factors[18:]
    assert elm[0] > 0.3
    assert abs(elm[1]) < 1e-6
    assert oak[1] > 0.3
    assert abs(oak[0]) < 1e-6


def test_complete_table_everything_learned_is_the_same_table(make_table: MakeTable) -> None:
    """Nothing to guess costs nothing."""
    table = make_table(5)
    kinds = ItemCategories.from_names(["a"] * 3)
    whole = RankerTable.from_arrays(factors=table.factors[learned_rows(table)][:3])
    names = ItemWords.from_names(["red cup", "red tea", "blue tea"])
    assert completed(whole, kinds, names) is whole
    without = RankerTable.without_model(3)
    assert completed(without, kinds, names) is without


def test_complete_table_trained_form_guesses_have_no_self_weight(
    make_table: MakeTable, categories: ItemCategories, words: ItemWords
) -> None:
    """EASE's form has self weights and scales, the trained form has none; guesses do as rows do."""
    ease = make_table(6)
    guessed = ~learned_rows(ease)
    filled = completed(ease, categories, words)
    squares = (filled.factors[guessed].astype(np.float64) ** 2).sum(axis=1)
    assert filled.self_weight[guessed] == pytest.approx(squares, rel=1e-5)
    assert filled.scale[guessed] == pytest.approx(1 / (1 - squares), rel=1e-5)
    trained = RankerTable.from_arrays(factors=ease.factors, settings=ease.settings)
    filled = completed(trained, categories, words)
    assert not filled.self_weight.any()
    assert (filled.scale == 1).all()


def test_complete_table_counted_items_are_guessed_at_half_strength(
    categories: ItemCategories, words: ItemWords, make_table: MakeTable
) -> None:
    """Who was counted and not learned is known to be rare."""
    table = make_table(7)
    popularity = table.popularity.copy()
    rare, unseen = np.flatnonzero(~learned_rows(table))[:2]
    popularity[rare], popularity[unseen] = 0.01, 0.0
    table = RankerTable.from_arrays(factors=table.factors, popularity=popularity)
    mapped = fit_attribute_map(table, categories, words)
    guesses = mapped.guess(np.arange(table.n_items), categories, words)
    filled = complete_table(table, mapped, categories, words).factors
    assert filled[rare] == pytest.approx(guesses[rare] * 0.5, rel=1e-6)
    assert filled[unseen] == pytest.approx(guesses[unseen], rel=1e-6)


def test_complete_table_a_guess_is_never_longer_than_a_learned_row(
    categories: ItemCategories, words: ItemWords, make_table: MakeTable
) -> None:
    """Even an absurd strength gives a table that a release could hold."""
    table = make_table(8)
    filled = completed(table, categories, words, HybridSettings(strength=1e6, counted_strength=1e6))
    norms = np.linalg.norm(filled.factors, axis=1)
    assert norms.max() <= np.linalg.norm(table.factors, axis=1).max() * (1 + 1e-5)
    none = completed(table, categories, words, HybridSettings(strength=0.0, counted_strength=0.0))
    assert np.array_equal(none.factors, table.factors)


def test_complete_table_added_items_get_a_row_from_what_describes_them(
    categories: ItemCategories, words: ItemWords, make_table: MakeTable
) -> None:
    """A twin of a catalogue item gets its guess; what nobody knows a word of gets zeros."""
    table = make_table(9)
    mapped = fit_attribute_map(table, categories, words)
    added = [Item(item_id="twin", name="red cup"), Item(item_id="odd", name="zeppelin")]
    longer = words.extended(added)
    kinds = categories.extended([categories.names[categories.codes[0]], "airships"])
    filled = complete_table(table, mapped, kinds, longer)
    assert filled.n_items == table.n_items + 2
    assert filled.factors[-2] == pytest.approx(
        mapped.guess(np.array([0]), categories, words)[0], rel=1e-5
    )
    assert not filled.factors[-1].any()
    assert filled.popularity[-2:].tolist() == [0.0, 0.0]
    assert filled.scale[-1] == 1.0


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["red", "tea", "cup"]), max_size=3),
            st.sampled_from(["", "a", "b"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_complete_table_of_any_catalogue_is_a_table(
    rows: list[tuple[list[str], str, bool]],
) -> None:
    """No names, no categories, one item, nothing learned: always finite, never longer."""
    words = ItemWords.from_names([" ".join(name) for name, _, _ in rows])
    kinds = ItemCategories.from_names([kind for _, kind, _ in rows])
    factors = np.array([[0.5, -0.25] if known else [0.0, 0.0] for _, _, known in rows])
    table = RankerTable.from_arrays(factors=factors, self_weight=(factors**2).sum(axis=1))
    filled = completed(table, kinds, words)
    known = np.array([known for _, _, known in rows])
    assert np.array_equal(filled.factors[known], table.factors[known])
    assert np.linalg.norm(filled.factors, axis=1).max() <= np.linalg.norm([0.5, 0.25]) + 1e-6


def test_columns_are_the_most_frequent_ones(categories: ItemCategories, words: ItemWords) -> None:
    """What the most items share says the most about them."""
    table = RankerTable.from_arrays(factors=np.eye(words.n_items, 2))
    mapped = fit_attribute_map(table, categories, words, HybridSettings(columns=3))
    assert len(mapped.rarity) == 3
    every = fit_attribute_map(table, categories, words)
    assert mapped.rarity.tolist() == np.sort(every.rarity)[:3].tolist()


def test_complete_table_of_another_catalogue_is_refused(
    make_table: MakeTable, categories: ItemCategories, words: ItemWords
) -> None:
    """Fewer items than rows, or two sizes, are another catalogue's."""
    table = make_table()
    mapped = fit_attribute_map(table, categories, words)
    few = ItemWords.from_names(["red cup"])
    for kinds, names in (
        (ItemCategories.from_names(["a"]), few),
        (categories, few),
        (categories.extended(["a"]), words),
    ):
        with pytest.raises(ValueError, match="must name the same items"):
            complete_table(table, mapped, kinds, names)


@pytest.mark.parametrize(
    "wrong", [{"columns": 0}, {"ridge": 0.0}, {"ridge": np.inf}, {"strength": -1.0},
              {"counted_strength": np.nan}],
)  # fmt: skip
def test_hybrid_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """A setting that can't be one is named."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HybridSettings(**wrong)  # type: ignore[arg-type]


def test_fit_attribute_map_50000_items_take_well_below_a_second() -> None:
    """Once for each release: about 0.2 s, the fastest of three. The limit is wider."""
    rng = np.random.default_rng(0)
    n, vocabulary = 50_000, [f"{a}{b}word" for a in "abcdefghijklmnopqrst" for b in "uvwxyz"]
    names = [" ".join(vocabulary[at] for at in row) for row in rng.integers(0, 120, (n, 4))]
    words = ItemWords.from_names(names)
    categories = ItemCategories.from_names([f"group {row % 40}" for row in range(n)])
    table = RankerTable.from_arrays(factors=rng.standard_normal((n, 128), np.float32) * 0.01)
    fastest = np.inf
    for _ in range(3):
        started = time.perf_counter()
        fit_attribute_map(table, categories, words)
        fastest = min(fastest, time.perf_counter() - started)
    assert fastest < 2.0
