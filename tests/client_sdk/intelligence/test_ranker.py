"""The ranker's formula: against a plain reading of it, and its three forms against each other."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence import (
    History,
    ItemCategories,
    ItemWords,
    RankerTable,
    own_frequency,
    score_all,
    score_items,
    score_many,
    solve_many,
    solve_private_vector,
    statistics_vector,
    top_k,
)

MakeTable = Callable[..., RankerTable]
MakeHistory = Callable[..., History]


def _plain_scores(
    table: RankerTable, history: History, categories: ItemCategories, words: ItemWords
) -> np.ndarray:
    """Read the formula of the module's docstring item by item, in float64."""
    s = table.settings
    items, x = statistics_vector(history, weighting=s.weighting, half_life_days=s.half_life_days)
    factors = table.factors.astype(np.float64)
    u = x @ factors[items]
    if s.form == "ridge":
        rows = factors[items]
        u = np.linalg.solve(rows.T @ np.diag(x) @ rows + s.ridge * np.eye(table.rank), u)
    x_at = dict(zip(items.tolist(), x.tolist(), strict=True))
    own = own_frequency(history, half_life_days=s.own_half_life_days)
    own_at = dict(zip(items.tolist(), own.tolist(), strict=True))
    leaning = categories.affinity(items, own, s.category_size_power)
    z = np.zeros((table.n_items, words.n_words))
    for j in range(table.n_items):
        part = slice(words.starts[j], words.starts[j + 1])
        z[j, words.words[part]] = words.values[part]
    taste = own @ z[items] / own.sum()
    scores = []
    for j in range(table.n_items):
        together = table.scale[j] * (u @ factors[j] - x_at.get(j, 0.0) * table.self_weight[j])
        scores.append(
            s.together_weight * (together + table.bias[j])
            + s.own_weight * own_at.get(j, 0.0)
            + s.category_weight * leaning[categories.codes[j]]
            + s.word_weight * z[j] @ taste
            + s.popularity_weight * table.popularity[j]
        )
    return np.array(scores)


@pytest.mark.parametrize("form", ["project", "ridge"])
@pytest.mark.parametrize("seed", range(4))
def test_score_all_equals_the_plain_formula(  # noqa: PLR0917 -- fixtures
    make_table: MakeTable,
    make_history: MakeHistory,
    categories: ItemCategories,
    words: ItemWords,
    form: str,
    seed: int,
) -> None:
    """The fast scores are the documented formula, in both forms."""
    table = make_table(
        seed, form=form, together_weight=0.7, category_weight=0.3, word_weight=0.2, own_weight=1.3
    )
    history = make_history(seed)
    u = solve_private_vector(table, history)
    fast = score_all(table, table.settings, u, history, categories, words=words)
    assert fast.dtype == np.float32
    assert np.abs(fast - _plain_scores(table, history, categories, words)).max() < 2e-6


@pytest.mark.parametrize("form", ["project", "ridge"])
def test_score_many_equals_score_all_for_each_person(
    make_table: MakeTable,
    make_history: MakeHistory,
    categories: ItemCategories,
    words: ItemWords,
    form: str,
) -> None:
    """Simulations rank with the formula that ships, to 1e-6."""
    table = make_table(3, form=form, category_weight=0.2, word_weight=0.2)
    histories = [make_history(s, m=1 + s) for s in range(6)] + [History.empty(now_s=0.0)]
    vectors = solve_many(table, histories)
    many = score_many(table, table.settings, vectors, histories, categories, words=words)
    for row, history in enumerate(histories):
        u = solve_private_vector(table, history)
        one = score_all(table, table.settings, u, history, categories, words=words)
        assert np.abs(many[row] - one).max() < 1e-6


def test_score_items_gives_the_entries_of_score_all(
    make_table: MakeTable,
    make_history: MakeHistory,
    categories: ItemCategories,
    words: ItemWords,
) -> None:
    """Candidates in any order, repeated or not, get the numbers of the whole catalogue."""
    table = make_table(1, category_weight=0.2, word_weight=0.3)
    wanted = np.array([7, 0, 39, 7, 12, 3])
    for history in (make_history(1, m=20), History.empty(now_s=0.0)):
        u = solve_private_vector(table, history)
        every = score_all(table, table.settings, u, history, categories, words=words)
        some = score_items(
            table, table.settings, u, history, wanted, categories=categories, words=words
        )
        assert np.abs(some - every[wanted]).max() < 1e-6


def test_score_all_project_form_is_ease(make_history: MakeHistory) -> None:
    """With s = |f|^2 and c = 1 / (1 - s) the scores are x times EASE's weights."""
    rng = np.random.default_rng(5)
    x_all = (rng.random((60, 40)) < 0.3).astype(float)
    gram, ridge = x_all.T @ x_all, 20.0
    values, vectors = np.linalg.eigh(gram)
    factors = vectors * np.sqrt(np.maximum(values, 0) / (np.maximum(values, 0) + ridge))
    self_weight = (factors**2).sum(axis=1)
    table = RankerTable.from_arrays(
        factors=factors, self_weight=self_weight, scale=1 / (1 - self_weight)
    )
    only_together = RankerTable.from_arrays(
        factors=factors,
        self_weight=self_weight,
        scale=1 / (1 - self_weight),
        settings=type(table.settings)(own_weight=0.0, popularity_weight=0.0),
    )
    inverse = np.linalg.inv(gram + ridge * np.eye(40))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    history = make_history(2, m=9)
    settings = only_together.settings
    items, x = statistics_vector(
        history, weighting=settings.weighting, half_life_days=settings.half_life_days
    )
    scores = score_all(
        only_together, settings, solve_private_vector(only_together, history), history
    )
    assert np.abs(scores - x @ weights[items]).max() < 1e-5


def test_without_model_own_items_come_first_then_the_category_then_the_catalogue() -> None:
    """A device that never got a release still ranks, by what its person did."""
    names = ["tin", "cup", "lamp", "cup", "tin", "lamp"]
    table = RankerTable.without_model(6)
    history = History.from_events(items=[3], times_s=[0.0], now_s=10.0)
    u = solve_private_vector(table, history)
    assert u.shape == (0,)
    settings = type(table.settings)(category_weight=0.1)
    scores = score_all(table, settings, u, history, ItemCategories.from_names(names))
    assert top_k(scores, 6).tolist() == [3, 1, 0, 2, 4, 5]


def test_without_model_words_rank_what_is_called_alike() -> None:
    """Without a model and without categories, names still say something."""
    names = ["garden spade", "red tea cup", "blue tea cup", "garden rake", "oil lamp"]
    table = RankerTable.without_model(5)
    history = History.from_events(items=[2], times_s=[0.0], now_s=10.0)
    scores = score_all(
        table,
        type(table.settings)(word_weight=0.1),
        solve_private_vector(table, history),
        history,
        words=ItemWords.from_names(names),
    )
    assert top_k(scores, 2).tolist() == [2, 1]


def test_score_all_empty_history_ranks_by_popularity_and_bias(make_table: MakeTable) -> None:
    """Somebody new is shown what the release prefers for everyone."""
    table = make_table(0)
    history = History.empty(now_s=0.0)
    scores = score_all(table, table.settings, solve_private_vector(table, history), history)
    assert np.allclose(scores, table.prior)


def test_score_all_wrong_release_is_refused(
    make_table: MakeTable, make_history: MakeHistory
) -> None:
    """A vector, a history or categories of another release never mix with this one."""
    table, history = make_table(), make_history()
    u = solve_private_vector(table, history)
    with pytest.raises(ValueError, match="u must be"):
        score_all(table, table.settings, u[:-1], history)
    with pytest.raises(ValueError, match="categories must name"):
        score_all(table, table.settings, u, history, ItemCategories.from_names(["a"]))
    with pytest.raises(ValueError, match="words must name"):
        score_all(table, table.settings, u, history, words=ItemWords.from_names(["a"]))
    far = History.from_events(items=[40], times_s=[0.0], now_s=0.0)
    with pytest.raises(ValueError, match="history names item 40"):
        solve_private_vector(table, far)
    for wrong in (np.array([40]), np.array([-1]), np.array([0.5]), np.array([[1]])):
        with pytest.raises(ValueError, match="items must be"):
            score_items(table, table.settings, u, history, wrong)
    with pytest.raises(ValueError, match="vectors must be"):
        score_many(table, table.settings, u[None, :-1], [history])


@given(
    st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 0.5, 2.0]), max_size=60),
    st.integers(0, 70),
    st.sets(st.integers(0, 59), max_size=20),
)
def test_top_k_equals_a_stable_sort(values: list[float], k: int, left_out: set[int]) -> None:
    """Best first, ties by index, without what is left out and what scores minus infinity."""
    scores = np.array(values, np.float32)
    exclude = [i for i in left_out if i < len(scores)]
    before = scores.copy()
    kept = [i for i in range(len(scores)) if i not in exclude and scores[i] > -np.inf]
    expected = sorted(kept, key=lambda i: (-scores[i], i))[:k]
    assert top_k(scores, k, exclude=exclude).tolist() == expected
    assert np.array_equal(scores, before)


def test_top_k_nan_or_negative_k_is_refused() -> None:
    """NaN has no rank, wherever it hides."""
    scores = np.zeros(100, np.float32)
    scores[37] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        top_k(scores, 3)
    with pytest.raises(ValueError, match="k must"):
        top_k(scores, -1)
