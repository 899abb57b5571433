"""Explanations are honest: they add up to the score and name only what the person had."""

from collections.abc import Callable

import numpy as np
import pytest

from client_sdk.intelligence import (
    History,
    ItemCategories,
    ItemWords,
    Liked,
    RankerTable,
    contributions,
    explain,
    explain_many,
    score_all,
    similar,
    solve_private_vector,
)

MakeTable = Callable[..., RankerTable]
MakeHistory = Callable[..., History]


@pytest.mark.parametrize("form", ["project", "ridge"])
def test_contributions_add_up_to_the_together_score(
    make_table: MakeTable, make_history: MakeHistory, form: str
) -> None:
    """What each item of the history adds is the score, to rounding, in both forms."""
    table = make_table(2, form=form, own_weight=0.0, popularity_weight=0.0)
    history = make_history(2, m=12)
    u = solve_private_vector(table, history)
    scores = score_all(table, table.settings, u, history)
    for item in range(table.n_items):
        total = contributions(table, history, item).sum() + table.bias[item]
        assert total == pytest.approx(scores[item], abs=2e-6)


def test_contributions_project_form_leave_the_item_itself_out(
    make_table: MakeTable, make_history: MakeHistory
) -> None:
    """As in EASE, an item never speaks for itself."""
    table, history = make_table(2), make_history(2)
    for at, item in enumerate(history.items.tolist()):
        assert contributions(table, history, item)[at] == pytest.approx(0.0, abs=1e-6)


def test_explain_had_before_is_rebuy_with_the_count(
    make_table: MakeTable, make_history: MakeHistory
) -> None:
    """An item of the history is explained by itself: you had this N times."""
    table, history = make_table(), make_history()
    for item, count in zip(history.items.tolist(), history.counts.tolist(), strict=True):
        reason = explain(table, history, item)
        assert (reason.kind, reason.item, reason.times) == ("rebuy", item, count)


def test_explain_because_of_names_the_greatest_contribution(
    make_table: MakeTable, make_history: MakeHistory
) -> None:
    """The named item is the one that adds most, and the person had it."""
    table, history = make_table(4), make_history(4)
    seen = 0
    for item in set(range(table.n_items)) - set(history.items.tolist()):
        parts = contributions(table, history, item)
        reason = explain(table, history, item)
        if parts.max() > 0:
            seen += 1
            assert reason.kind == "because-of"
            assert reason.item == history.items[int(np.argmax(parts))]
            assert 0 < reason.strength <= 1
    assert seen > 10


def test_explain_without_model_names_the_words_then_the_category_then_popularity() -> None:
    """Each weaker reason is used only where no stronger one is true."""
    table = RankerTable.from_arrays(factors=np.zeros((5, 0)), popularity=[0.1, 0.2, 0.3, 0.4, 0.5])
    history = History.from_events(items=[0], times_s=[0.0], now_s=1.0)
    categories = ItemCategories.from_names(["cups", "cups", "cups", "lamps", ""])
    words = ItemWords.from_names(["red cup", "blue cup", "beaker", "lamp", "lamp oil"])

    def reason(item: int) -> tuple[str, object, object]:
        found = explain(table, history, item, categories, words=words)
        return found.kind, found.item, found.category

    assert reason(1) == ("because-of", 0, None)
    assert reason(2) == ("category", None, "cups")
    assert reason(3) == ("popular", None, None)
    assert reason(4) == ("popular", None, None)
    assert explain(table, history, 4, categories, words=words).strength == pytest.approx(0.5)


def test_explain_somebody_new_is_popular(make_table: MakeTable, words: ItemWords) -> None:
    """With an empty history nothing of theirs can be a reason."""
    history = History.empty(now_s=0.0)
    assert explain(make_table(), history, 3, words=words).kind == "popular"


def test_explain_unknown_item_is_refused(make_table: MakeTable, make_history: MakeHistory) -> None:
    """There is no reason for what isn't in the catalogue."""
    for item in (-1, 40):
        with pytest.raises(ValueError, match="item must be"):
            explain(make_table(), make_history(), item)
        with pytest.raises(ValueError, match="item must be"):
            similar(make_table(), item, 3)


def test_similar_is_the_cosine_of_factors_best_first(make_table: MakeTable) -> None:
    """Similar items point the same way; the item itself and items without factors are not there."""
    table = make_table(7)
    item = int(np.flatnonzero(table.factors.any(axis=1))[0])
    found = similar(table, item, 5)
    f = table.factors.astype(np.float64)
    norms = np.linalg.norm(f, axis=1)
    with np.errstate(invalid="ignore"):
        cosine = np.nan_to_num(f @ f[item] / (norms * norms[item]), nan=-1.0)
    cosine[item] = -1.0
    expected = [int(j) for j in np.argsort(-cosine)[:5] if cosine[j] > 0]
    assert [j for j, _ in found] == expected
    assert all(value == pytest.approx(cosine[j], abs=1e-5) for j, value in found)


def test_similar_item_without_factors_has_none(make_table: MakeTable) -> None:
    """An item that nothing is known of is like no other."""
    table = make_table(7)
    item = int(np.flatnonzero(~table.factors.any(axis=1))[0])
    assert similar(table, item, 5) == []


@pytest.mark.parametrize("form", ["project", "ridge"])
def test_explain_many_gives_the_reason_of_each(
    make_table: MakeTable,
    make_history: MakeHistory,
    categories: ItemCategories,
    words: ItemWords,
    form: str,
) -> None:
    """Together or one by one, with wishes or without: the same reasons, in the order asked."""
    table, history = make_table(5, form=form), make_history(5)
    asked = [*range(table.n_items), 3, 0] * 8
    liked = [Liked(topic="cups", lift=0.2) if item % 3 else None for item in asked]
    for wishes in (None, liked):
        many = explain_many(table, history, asked, categories, words=words, liked=wishes)
        assert len(many) == len(asked) > 256
        for at, (item, reason) in enumerate(zip(asked, many, strict=True)):
            wish = None if wishes is None else wishes[at]
            one = explain(table, history, item, categories, words=words, liked=wish)
            assert (reason.kind, reason.item, reason.category, reason.times, reason.topic) == (
                one.kind, one.item, one.category, one.times, one.topic,
            )  # fmt: skip
            assert reason.strength == pytest.approx(one.strength, abs=1e-6)
    assert {reason.kind for reason in many} >= {"rebuy", "liked", "because-of"}
    with pytest.raises(ValueError, match="item must be"):
        explain_many(table, history, [0, table.n_items])
