"""Scores that are kept: bit by bit those that are computed anew, whatever happened between."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.intelligence import (
    History,
    ItemCategories,
    ItemWords,
    RankerTable,
    own_frequency,
    score_all,
    solve_private_vector,
    statistics_vector,
    top_k,
)
from client_sdk.intelligence.history import DAY_S, SESSION_GAP_S, same_taste, taste_weights
from client_sdk.intelligence.score_cache import ScoreCache

N, RANK = 1_300, 4
NOW_S = 1.7e9
VOCABULARY = ("red", "blue", "white", "cup", "lamp", "tin", "toy", "bag", "vintage", "rare")


def _shop(seed: int = 0, **ranker: Any) -> tuple[RankerTable, ItemCategories, ItemWords]:
    """Make a release whose items tie often: few words, few categories, factors of three kinds."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((3, RANK))[rng.integers(0, 3, N)] * 0.3
    weight = np.minimum((factors**2).sum(axis=1), 0.5)
    table = RankerTable.from_arrays(
        factors=factors, self_weight=weight, scale=1 / (1 - weight), popularity=np.zeros(N)
    )
    if ranker:
        table = replace(table, settings=replace(table.settings, **ranker))
    names = [" ".join(rng.choice(VOCABULARY, rng.integers(0, 4))) for _ in range(N)]
    groups = [f"g{code}" if code else "" for code in rng.integers(0, 5, N)]
    return table, ItemCategories.from_names(groups), ItemWords.from_names(names)


SHOP = _shop()
FORMS = {"project": SHOP, "ridge": _shop(form="ridge", ridge=0.5)}

# Item, seconds before now (below 0: a clock that runs ahead), how often.
Step = tuple[int, float, int]
STEPS = st.lists(
    st.tuples(
        st.integers(0, N - 1),
        st.one_of(st.floats(0, 400 * DAY_S), st.floats(-DAY_S, 0)),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=12,
)


def _history(steps: list[Step], now_s: float) -> History:
    return History.from_events(
        items=[step[0] for step in steps],
        times_s=[NOW_S - step[1] for step in steps],
        weights=[float(step[2]) for step in steps],
        now_s=now_s,
    )


def _anew(shop: tuple[RankerTable, ItemCategories, ItemWords], history: History) -> np.ndarray:
    """Score as a device without any memory does."""
    table, categories, words = shop
    vector = solve_private_vector(table, history)
    return score_all(table, table.settings, vector, history, categories, words=words)


@pytest.mark.parametrize("form", ["project", "ridge"])
@settings(deadline=None, max_examples=60)
@given(steps=STEPS, later_s=st.lists(st.floats(0, 300 * DAY_S), min_size=12, max_size=12))
def test_score_cache_after_any_events_equals_scores_from_scratch(
    form: str, steps: list[Step], later_s: list[float]
) -> None:
    """Event after event, asked at any time: the same bits, so the same list, ties included."""
    shop = FORMS[form]
    table, categories, words = shop
    cache, now_s = ScoreCache(), NOW_S
    for count in range(1, len(steps) + 1):
        history = _history(steps[:count], now_s)
        # In the session, once more, when it is just over, and at any time.
        moments = (now_s, now_s, now_s + SESSION_GAP_S, now_s + later_s[count - 1])
        for asked in map(history.at, moments):
            kept = cache.scores(table, asked, categories, words=words)
            anew = _anew(shop, asked)
            assert kept.tobytes() == anew.tobytes()
            assert top_k(kept, 20).tolist() == np.lexsort((np.arange(N), -anew))[:20].tolist()
        now_s += later_s[count - 1] / 8


def test_score_cache_one_event_moves_only_what_it_says() -> None:
    """What is kept is really moved on: a taste that differs in few words touches few items."""
    _, _, words = SHOP
    had = np.array([3, 50], np.int32)
    before = words.taste(had, np.array([1.0, 1.0]))
    leaning = words.leaning(before)
    after = before.copy()
    after[2] += 0.25
    expected = words.leaning(after)
    untouched = np.flatnonzero(expected == leaning)
    leaning[untouched[:5]] = -7.0
    words.move(leaning, before, after)
    assert leaning[untouched[:5]].tolist() == [-7.0] * 5
    leaning[untouched[:5]] = expected[untouched[:5]]
    assert leaning.tobytes() == expected.tobytes()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n_tastes=st.integers(1, 12))
def test_words_move_through_any_tastes_is_exact(seed: int, n_tastes: int) -> None:
    """Sums are exact: moved from taste to taste, all 64 bits are those of the sum made anew."""
    _, _, words = SHOP
    rng = np.random.default_rng(seed)
    weights, had = rng.random(9) * 50, rng.choice(N, 9, replace=False)
    taste = words.taste(had.astype(np.int32), weights)
    leaning = words.leaning(taste)
    for _ in range(n_tastes):
        weights[rng.integers(9)] = rng.random() * 50
        after = words.taste(had.astype(np.int32), weights)
        words.move(leaning, taste, after)
        assert leaning.tobytes() == words.leaning(after).tobytes()
        taste = after


def test_score_cache_other_release_categories_or_words_begin_anew() -> None:
    """What was kept of one release is never an answer for another."""
    table, categories, words = SHOP
    history = _history([(5, 0.0, 1), (9, DAY_S, 2)], NOW_S)
    other = _shop(seed=1)
    cache = ScoreCache()
    cache.scores(table, history, categories, words=words)
    for shop in (other, (table, other[1], words), (table, categories, other[2])):
        kept = cache.scores(shop[0], history, shop[1], words=shop[2])
        assert kept.tobytes() == _anew(shop, history).tobytes()


def test_score_cache_history_of_another_catalogue_is_refused_and_keeps_nothing() -> None:
    """After an error nothing half done is used."""
    table, categories, words = SHOP
    cache = ScoreCache()
    history = _history([(5, 0.0, 1)], NOW_S)
    cache.scores(table, history, categories, words=words)
    with pytest.raises(ValueError, match="names item"):
        cache.scores(table, _history([(N, 0.0, 1)], NOW_S), categories, words=words)
    kept = cache.scores(table, history, categories, words=words)
    assert kept.tobytes() == _anew(SHOP, history).tobytes()


def test_score_cache_forget_leaves_nothing_and_memory_is_as_documented() -> None:
    """16 bytes an item and 8 a word, and none after `forget`."""
    table, categories, words = SHOP
    cache = ScoreCache()
    cache.scores(table, _history([(5, 0.0, 1)], NOW_S), categories, words=words)
    assert cache.n_bytes == 16 * N + 8 * words.n_words
    cache.forget()
    assert cache.n_bytes == 0


@given(steps=STEPS, days=st.floats(0, 3_000), half_life=st.sampled_from([0.01, 60.0, np.inf]))
def test_history_vectors_after_the_latest_event_keep_their_bits(
    steps: list[Step], days: float, half_life: float
) -> None:
    """Time alone changes no vector of norm 1, nor, but for the end of a session, the taste."""
    early = _history([(item, abs(age_s), count) for item, age_s, count in steps], NOW_S)
    late = History.from_events(
        items=early.items,
        times_s=early.last_time_s,
        weights=early.counts,
        now_s=NOW_S + days * DAY_S,
    )
    readings: list[Callable[[History], np.ndarray]] = [
        lambda h: statistics_vector(h, half_life_days=half_life)[1],
        lambda h: own_frequency(h, half_life_days=half_life),
    ]
    if early.in_session is late.in_session:
        readings.append(lambda h: taste_weights(h, half_life_days=half_life))
    for read in readings:
        assert read(early).tobytes() == read(late).tobytes()


def test_history_same_taste_ends_with_an_event_or_before_the_latest_one() -> None:
    """A clock set back before the latest event is another moment; so is every new event."""
    history = _history([(5, 0.0, 1), (6, 10.0, 1)], NOW_S)
    assert same_taste(history, history.at(NOW_S + 9.0))
    assert not same_taste(history, history.at(NOW_S + SESSION_GAP_S))
    assert same_taste(history.at(NOW_S + SESSION_GAP_S), history.at(NOW_S + 9 * DAY_S))
    assert not same_taste(history, history.at(NOW_S - 9.0))
    assert same_taste(history.at(NOW_S - 9.0), history.at(NOW_S - 9.0))
    assert not same_taste(history, _history([(5, 0.0, 1), (6, 10.0, 1)], NOW_S))


@given(
    values=st.lists(st.sampled_from([-np.inf, 0.0, 0.5, 1.0]), min_size=1, max_size=40),
    k=st.integers(0, 50),
    copies=st.sampled_from([1, 40, 90]),
)
def test_top_k_of_any_size_is_the_head_of_the_full_order(
    values: list[float], k: int, copies: int
) -> None:
    """Small or grouped, with ties everywhere: the full sort's first k, minus infinity left out."""
    scores = np.array(values * copies, np.float32)
    order = np.lexsort((np.arange(len(scores)), -scores))
    expected = [int(row) for row in order[:k] if scores[row] > -np.inf]
    assert top_k(scores, k).tolist() == expected


def test_top_k_nan_anywhere_is_refused() -> None:
    """One score that is not a number is found in whichever group it lies."""
    for row in (0, 700, 1_299):
        scores = np.zeros(N, np.float32)
        scores[row] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            top_k(scores, 3)
