"""The shelf: wishes, stock, new items, and reasons that are true."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.catalogue_updates import CatalogueUpdates
from client_sdk.experience.preferences import Preferences
from client_sdk.installed import InstalledRelease, without_release
from client_sdk.intelligence import History, RankerTable
from client_sdk.intelligence.history import SESSION_GAP_S
from client_sdk.shelf import LIKED_FADES_AT, RankedItem, ShelfMemory, rank_items, similar_items
from client_sdk.signals.activity import Activity
from client_sdk.signals.events import Event
from client_sdk.wire import DEFAULT_POLICY, Catalogue, Item

NAMES = {"Tea": ("green", "black", "mint", "white"), "Mugs": ("blue", "red", "grey", "small")}
ITEMS = tuple(
    Item(
        item_id=f"{kind.lower()}-{row}",
        name=f"{name} {kind}",
        category=kind,
        brand="Elm" if row % 2 else "Oak",
        tags=("Organic",) if name in {"mint", "red"} else (),
    )
    for kind, names in NAMES.items()
    for row, name in enumerate(names)
)
POPULARITY = np.array([0.1, 0.2, 0.3, 0.4, 1.0, 0.9, 0.8, 0.7])
IDS = [item.item_id for item in ITEMS]
TEA, MUGS = IDS[:4], IDS[4:]


def release(*, learned: bool = True, items: tuple[Item, ...] = ITEMS) -> InstalledRelease:
    """Eight items; tea and mugs point two ways, where something was learned."""
    catalogue = Catalogue(items=items)
    if not learned:
        return without_release(catalogue, DEFAULT_POLICY)
    factors = np.zeros((len(items), 2))
    factors[:4, 0], factors[4:8, 1] = 0.5, 0.5
    weight = (factors**2).sum(axis=1)
    return InstalledRelease(
        version=1,
        aggregator_key="",
        catalogue=catalogue,
        policy=DEFAULT_POLICY,
        table=RankerTable.from_arrays(
            factors=factors,
            self_weight=weight,
            scale=1 / (1 - weight),
            popularity=np.pad(POPULARITY, (0, len(items) - 8)),
        ),
        graph=None,
    )


RELEASE = release()


def shelf_of(installed: InstalledRelease = RELEASE, *bought: str, **asked: Any) -> list[RankedItem]:
    """Rank for who bought these."""
    activity = Activity(Event(kind="purchase", item_id=item, time_s=0.0) for item in bought)
    position = installed.assortment(asked.get("updates", CatalogueUpdates())).position
    given_: dict[str, Any] = {"candidates": None, "k": 20, "include_owned": True, **asked}
    return rank_items(
        installed,
        history=activity.history(position, now_s=1.0),
        activity=activity,
        **given_,
    )


def ids(shelf: list[RankedItem]) -> list[str]:
    """The order alone."""
    return [item.item_id for item in shelf]


def test_rank_somebody_unknown_sees_popularity_then_the_catalogue() -> None:
    """Nothing known, nothing said: the order that everybody gets."""
    assert ids(shelf_of()) == [*MUGS, *TEA[::-1]]
    assert ids(shelf_of(release(learned=False))) == IDS


@pytest.mark.parametrize("learned", [True, False])
def test_rank_first_list_of_who_likes_a_topic_is_theirs(learned: bool) -> None:
    """Without any history, what was asked for stands first, whatever is popular, and says so."""
    shelf = shelf_of(release(learned=learned), preferences=Preferences(liked=frozenset({"TEA"})))
    assert set(ids(shelf)[:4]) == set(TEA)
    assert ids(shelf)[4:] == MUGS
    assert {(item.kind, item.reason) for item in shelf[:4]} == {
        ("liked", "Because you asked for more Tea.")
    }
    assert {item.kind for item in shelf[4:]} <= {"popular", "catalogue"}


def test_rank_liked_stands_first_in_a_first_list_whatever_the_release_prefers() -> None:
    """A release with a strong leaning of its own does not outshout what the person said."""
    leaning = RankerTable.from_arrays(
        factors=np.zeros((8, 2)), bias=[0, 0, 0, 0, 9, 9, 9, 9], popularity=POPULARITY
    )
    shelf = shelf_of(
        replace(RELEASE, table=leaning), preferences=Preferences(liked=frozenset({"tea"}))
    )
    assert set(ids(shelf)[:4]) == set(TEA)


@pytest.mark.parametrize("topic", ["oak", "organic"])
def test_rank_a_brand_and_a_tag_are_topics_too(topic: str) -> None:
    """What is liked stands first, spelled as the catalogue does."""
    shelf = shelf_of(preferences=Preferences(liked=frozenset({topic})))
    about = {IDS[row] for row in np.flatnonzero(RELEASE.assortment().about({topic}))}
    assert set(ids(shelf)[: len(about)]) == about
    assert shelf[0].reason == f"Because you asked for more {topic.capitalize()}."


def test_rank_liked_topics_fade_as_the_history_grows() -> None:
    """The lift of m items in the history is 1 / (1 + m / 10) of a first one's, not more."""
    items = tuple(Item(item_id=str(row), category="a" if row else "b") for row in range(60))
    installed = release(learned=False, items=items)
    liked = Preferences(liked=frozenset({"b"}))

    def lift(m: int) -> float:
        bought = [str(row) for row in range(1, m + 1)]
        scores = [
            {item.item_id: item.score for item in shelf_of(installed, *bought, k=60, **asked)}["0"]
            for asked in ({"preferences": liked}, {})
        ]
        return scores[0] - scores[1]

    first = lift(0)
    for m in (1, 5, 50):
        assert lift(m) == pytest.approx(first / (1 + m / LIKED_FADES_AT), rel=1e-4)


def test_rank_what_the_history_says_louder_is_the_reason() -> None:
    """Liked is the reason only where it adds the most; what was bought says that it was bought."""
    liked = Preferences(liked=frozenset({"mugs", "tea"}))
    by_id = {item.item_id: item for item in shelf_of(RELEASE, "tea-0", preferences=liked)}
    assert by_id["tea-0"].kind == "rebuy"
    assert by_id["tea-1"].reason == "Because you bought green Tea."
    assert by_id["mugs-0"].reason == "Because you asked for more Mugs."


def test_rank_less_of_a_topic_puts_all_of_it_below_everything_else() -> None:
    """Down, not out: also what was bought, in the order that it had, and never as a reason."""
    less = Preferences(less=frozenset({"mugs"}))
    for bought in ((), ("mugs-0", "mugs-2"), ("mugs-1", "tea-0")):
        plain, shelf = shelf_of(RELEASE, *bought), shelf_of(RELEASE, *bought, preferences=less)
        assert ids(shelf)[:4] == [item for item in ids(plain) if item in TEA]
        assert ids(shelf)[4:] == [item for item in ids(plain) if item in MUGS]
        assert {item.item_id: item.reason for item in shelf} == {
            item.item_id: item.reason for item in plain
        }
        assert shelf[3].score > shelf[4].score


def test_rank_less_of_an_item_puts_it_last_and_wins_over_a_liked_topic() -> None:
    """Less wins: it stands below, and nobody says that it was asked for."""
    wishes = Preferences(liked=frozenset({"tea"}), less_items=frozenset({"tea-3", "no-such"}))
    shelf = shelf_of(preferences=wishes)
    assert set(ids(shelf)[:3]) == set(TEA[:3])
    assert ids(shelf)[-1] == "tea-3"
    assert shelf[-1].kind == "popular"
    both = Preferences(liked=frozenset({"tea"}), less_items=frozenset({"tea-3", "mugs-0"}))
    assert ids(shelf_of(preferences=both))[-2:] == ["mugs-0", "tea-3"]


def test_rank_some_candidates_stand_as_they_do_among_all() -> None:
    """Wishes, stock and updates hold for candidates too; unknown and repeated ids don't count."""
    asked = {
        "preferences": Preferences(liked=frozenset({"organic"}), less=frozenset({"oak"})),
        "updates": CatalogueUpdates(stock={"tea-1": 0}, withdrawn=frozenset({"mugs-1"})),
    }
    whole = shelf_of(RELEASE, "tea-0", **asked)
    for candidates in (IDS[::-1], [*TEA, "no-such", "tea-0"], ["mugs-1", "tea-1"], []):
        some = shelf_of(RELEASE, "tea-0", candidates=candidates, **asked)
        assert ids(some) == [item for item in ids(whole) if item in candidates]


def test_rank_sold_out_items_are_left_out_unless_asked_for() -> None:
    """From the release or by an update; unknown stock is not sold out."""
    items = (*ITEMS[:7], Item(item_id="mugs-3", name="small Mugs", category="Mugs", stock=0))
    sold_out = release(items=items)
    assert "mugs-3" not in ids(shelf_of(sold_out))
    assert "mugs-3" in ids(shelf_of(sold_out, in_stock_only=False))
    back = CatalogueUpdates(stock={"mugs-3": 2, "tea-0": 0})
    assert "mugs-3" in ids(shelf_of(sold_out, updates=back))
    assert "tea-0" not in ids(shelf_of(sold_out, "tea-0", updates=back))
    gone = CatalogueUpdates(withdrawn=frozenset({"mugs-3"}))
    assert "mugs-3" not in ids(shelf_of(sold_out, updates=gone, in_stock_only=False))


@pytest.mark.parametrize("learned", [True, False])
def test_rank_an_added_item_is_ranked_by_what_describes_it_at_once(learned: bool) -> None:
    """Who buys tea sees new tea before every mug, with a reason; the app can name it."""
    new = Item(item_id="new", name="oolong green tea", category="Tea", brand="Elm")
    asked = {"updates": CatalogueUpdates(added=(new,))}
    shelf = shelf_of(release(learned=learned), "tea-0", "tea-2", **asked)
    place = ids(shelf).index("new")
    assert place < min(ids(shelf).index(mug) for mug in MUGS)
    assert (shelf[place].name, shelf[place].kind) == ("oolong green tea", "because-of")
    assert shelf[place].reason in {"Because you bought green Tea.", "Because you bought mint Tea."}


def test_rank_an_added_item_that_was_bought_is_known_as_bought() -> None:
    """What a person did with it counts, and can be left out as theirs."""
    updates = CatalogueUpdates(added=(Item(item_id="new", name="New tea", category="Tea"),))
    shelf = shelf_of(RELEASE, "new", updates=updates)
    assert (shelf[0].item_id, shelf[0].reason) == ("new", "You bought it.")
    assert "new" not in ids(shelf_of(RELEASE, "new", updates=updates, include_owned=False))


def test_rank_history_of_the_release_alone_fits_updates_too() -> None:
    """A caller that folds for the release's catalogue still gets an answer."""
    activity = Activity([Event(kind="purchase", item_id="tea-0", time_s=0.0)])
    shelf = rank_items(
        RELEASE,
        history=activity.history(RELEASE.catalogue.position, now_s=1.0),
        activity=activity,
        candidates=None,
        k=3,
        include_owned=False,
        updates=CatalogueUpdates(added=(Item(item_id="new", category="Tea", brand="Oak"),)),
    )
    assert "tea-0" not in ids(shelf)
    assert len(shelf) == 3


@given(
    st.lists(st.sampled_from(IDS), max_size=5),
    st.sets(st.sampled_from(["tea", "mugs", "oak", "elm", "organic"])),
    st.sets(st.sampled_from(["tea", "mugs", "oak", "elm", "organic"])),
    st.sets(st.sampled_from(IDS)),
)
def test_rank_any_wishes_nothing_wanted_less_stands_above_anything_else(
    bought: list[str], liked: set[str], less: set[str], less_items: set[str]
) -> None:
    """Whatever else is true, the disliked are last, everything is there, scores descend."""
    wishes = Preferences(
        liked=frozenset(liked - less), less=frozenset(less), less_items=frozenset(less_items)
    )
    shelf = shelf_of(RELEASE, *bought, preferences=wishes)
    unwanted = {IDS[row] for row in np.flatnonzero(RELEASE.assortment().about(less))} | less_items
    assert sorted(ids(shelf)) == sorted(IDS)
    assert set(ids(shelf)[len(IDS) - len(unwanted) :]) == unwanted
    scores = [item.score for item in shelf]
    assert scores == sorted(scores, reverse=True)
    assert not any(item.kind == "liked" for item in shelf if item.item_id in unwanted)


def test_similar_without_a_model_is_by_words_then_the_category() -> None:
    """What shares rare words is similar, the others are of one category."""
    plain = release(learned=False)
    shelf = similar_items(plain, "tea-2", 5)
    assert (shelf[0].item_id, shelf[0].kind) == ("mugs-1", "similar")  # organic, both
    assert {item.item_id for item in shelf[1:]} >= {"tea-0", "tea-1", "tea-3"}
    assert all(item.reason == "Similar to mint Tea." for item in shelf if item.kind == "similar")
    assert len(similar_items(plain, "tea-2", 2)) == 2
    gone = CatalogueUpdates(withdrawn=frozenset({"mugs-1"}))
    assert "mugs-1" not in ids(similar_items(plain, "tea-2", 9, updates=gone))
    with pytest.raises(ValueError, match="k must be"):
        similar_items(plain, "tea-2", -1)


def test_similar_of_an_added_item_is_by_what_describes_it() -> None:
    """New tea is like tea, and tea like new tea; what is gone or sold out is not shown."""
    updates = CatalogueUpdates(
        added=(Item(item_id="new", name="New tea", category="Tea"),),
        withdrawn=frozenset({"tea-0"}),
        stock={"tea-1": 0},
    )
    found = similar_items(RELEASE, "new", 2, updates=updates)
    assert set(ids(found)) == {"tea-2", "tea-3"}
    assert {item.reason for item in found} == {"Similar to New tea."}
    assert "new" in ids(similar_items(RELEASE, "tea-2", 2, updates=updates))
    every = ids(similar_items(RELEASE, "new", 9, updates=updates, in_stock_only=False))
    assert "tea-1" in every
    assert "tea-0" not in every
    assert similar_items(RELEASE, "new", 3) == []


def test_similar_of_a_lone_item_without_words_is_nothing() -> None:
    """No category, no words, nothing learned: no answer is better than any."""
    items = (Item(item_id="a"), Item(item_id="b", category="x"), Item(item_id="c", category="x"))
    plain = release(learned=False, items=items)
    assert similar_items(plain, "a", 3) == []
    assert ids(similar_items(plain, "b", 3)) == ["c"]
    sold = CatalogueUpdates(stock={"c": 0})
    assert similar_items(plain, "b", 3, updates=sold) == []


def test_rank_of_an_empty_catalogue_is_empty() -> None:
    """Nothing to show, whatever is wished."""
    empty = without_release(None, DEFAULT_POLICY)
    wishes = Preferences(liked=frozenset({"tea"}), less=frozenset({"mugs"}))
    history = History.empty(now_s=0.0)
    for candidates in (None, ["tea-0"]):
        assert (
            rank_items(
                empty,
                history=history,
                activity=Activity(),
                candidates=candidates,
                k=3,
                include_owned=True,
                preferences=wishes,
            )
            == []
        )


UPDATES = (
    CatalogueUpdates(),
    CatalogueUpdates(stock={MUGS[0]: 0}, withdrawn=frozenset({TEA[0]})),
    CatalogueUpdates(added=(Item(item_id="new", name="new green Tea", category="Tea"),)),
)
WISHES = (
    Preferences(),
    Preferences(liked=frozenset({"tea"}), less_items=frozenset({MUGS[1]})),
    Preferences(less=frozenset({"elm"})),
)


@pytest.mark.parametrize("learned", [True, False])
@settings(deadline=None, max_examples=50)
@given(
    steps=st.lists(
        st.fixed_dictionaries(
            {
                "bought": st.none() | st.sampled_from(IDS),
                "after_s": st.sampled_from([0.0, 60.0, 1e6, 1e8]),
                "candidates": st.none() | st.lists(st.sampled_from([*IDS, "unknown"])),
                "k": st.integers(0, 9),
                "include_owned": st.booleans(),
                "in_stock_only": st.booleans(),
                "updates": st.sampled_from(UPDATES),
                "preferences": st.sampled_from(WISHES),
            }
        ),
        min_size=1,
        max_size=12,
    )
)
def test_rank_with_a_memory_is_what_it_is_without(
    learned: bool, steps: list[dict[str, Any]]
) -> None:
    """Whatever happened and was asked before, the answer is the one that is computed anew."""
    installed, activity, memory, now_s = release(learned=learned), Activity(), ShelfMemory(), 0.0
    for step in steps:
        asked = dict(step)
        now_s += asked.pop("after_s")
        if (item := asked.pop("bought")) is not None:
            activity.add(Event(kind="purchase", item_id=item, time_s=now_s))
        history = activity.history(installed.assortment(asked["updates"]).position, now_s=now_s)
        # The same question twice, and then each time another one of the same person.
        others = (
            {"candidates": IDS[2:5]},
            {"candidates": None},
            {"k": 2},
            {"include_owned": False},
        )
        for other in ({}, {}, *others):
            asked |= other
            kept = rank_items(installed, history=history, activity=activity, memory=memory, **asked)
            anew = rank_items(installed, history=history, activity=activity, **asked)
            assert kept == anew


def test_rank_memory_forgets_everything() -> None:
    """After `forget` no score and no answer is left."""
    memory = ShelfMemory()
    shelf_of(RELEASE, TEA[0], memory=memory)
    assert memory.cache.n_bytes > 0
    memory.forget()
    assert (memory.cache.n_bytes, memory.last) == (0, None)


def test_rank_goes_from_popularity_to_the_session_to_the_person() -> None:
    """Somebody new sees what is popular, at once what they look at, and then who they are."""
    kinds = ("Lamps", "Mugs", "Tea")
    items = tuple(
        Item(item_id=f"{kind}-{row}", name=f"{kind} number {row}", category=kind)
        for row in range(20)
        for kind in kinds
    )
    popularity = [1.0 if item.category == "Lamps" else 0.5 for item in items]
    table = RankerTable.from_arrays(factors=np.zeros((len(items), 0)), popularity=popularity)
    shop = replace(release(items=ITEMS), catalogue=Catalogue(items=items), table=table)
    activity, memory = Activity(), ShelfMemory()

    def kinds_shown(now_s: float) -> set[str]:
        history = activity.history(shop.assortment().position, now_s=now_s)
        shelf = rank_items(
            shop, history=history, activity=activity, candidates=None, k=5, include_owned=False,
            memory=memory,
        )  # fmt: skip
        return {item.item_id.split("-")[0] for item in shelf if item.kind != "rebuy"}

    assert kinds_shown(0.0) == {"Lamps"}
    activity.add(Event(kind="product_view", item_id="Tea-0", time_s=0.0))
    assert kinds_shown(1.0) == {"Tea"}
    for row in range(12):
        activity.add(Event(kind="purchase", item_id=f"Mugs-{row}", time_s=86_400.0 * (row + 1)))
    later_s = 86_400.0 * 20
    assert kinds_shown(later_s) == {"Mugs"}
    activity.add(Event(kind="product_view", item_id="Tea-1", time_s=later_s))
    activity.add(Event(kind="product_view", item_id="Tea-2", time_s=later_s + 60))
    assert kinds_shown(later_s + 90) == {"Tea"}
    assert kinds_shown(later_s + 60 + SESSION_GAP_S) == {"Mugs"}
