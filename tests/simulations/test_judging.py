"""Who is new, light and heavy, and who is asked where there are many."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulations.arms import simple
from simulations.data.bundled import load_bundled
from simulations.evaluation.metrics import measure
from simulations.evaluation.split import Split, draw_targets, hold_out, item_pairs
from simulations.judging import SEGMENTS, Segments, judge_columns, judge_split, restrict


@pytest.fixture(scope="module")
def split() -> Split:
    """The bundled sample."""
    return hold_out(load_bundled().interactions)


def sizes_of(split: Split) -> np.ndarray:
    """Different items of each person."""
    pairs = item_pairs(split.train)
    return np.bincount(pairs // split.train.n_items, minlength=split.train.n_people)


def test_segments_tertiles_hold_a_third_each(split: Split) -> None:
    """Cuts, people and spans agree with the sizes that they came from."""
    sizes = sizes_of(split)
    segments = Segments.by_size(sizes)
    low, high = segments.cuts
    for code, mask in enumerate([sizes <= low, (sizes > low) & (sizes <= high), sizes > high]):
        assert (segments.of[mask] == code).all()
    rows = segments.to_json()
    assert [row["name"] for row in rows] == list(SEGMENTS)
    assert sum(row["people"] for row in rows) == len(sizes)
    assert all(abs(row["people"] - len(sizes) / 3) < 20 for row in rows)
    assert (rows[0]["to"], rows[-1]["to"]) == (low, sizes.max())


def test_segments_all_alike_is_one_segment() -> None:
    """Where everyone has as much, nobody is invented for the others."""
    rows = Segments.by_size(np.full(9, 4)).to_json()
    assert [row["people"] for row in rows] == [9, 0, 0]


def test_judge_split_is_measure_and_its_segments_make_up_the_whole(split: Split) -> None:
    """Looking at segments changes no number; their weighted mean is the number of all."""
    targets, scorer = draw_targets(split, seed=3), simple.popularity(split.train)
    judged = judge_split(scorer, split, targets, Segments.by_size(sizes_of(split)))
    assert judged.measured == measure(scorer, split, targets)
    assert sum(judged.asked.values()) == len(targets.discover_people)
    for metric, whole in judged.measured["discover"].items():
        parts = [judged.asked[name] * judged.segments[name][metric] for name in SEGMENTS]
        assert sum(parts) / len(targets.discover_people) == pytest.approx(whole, abs=1e-12)
    assert len({judged.segments[name]["hr@10"] for name in SEGMENTS}) == 3


def test_judge_split_nobody_asked_is_no_number(split: Split) -> None:
    """A segment without targets has no quality, rather than a bad one."""
    everyone = Segments.by_size(np.full(split.train.n_people, 4))
    targets = draw_targets(split, seed=3)
    judged = judge_split(simple.popularity(split.train), split, targets, everyone)
    assert math.isnan(judged.segments["heavy"]["hr@10"])
    assert judged.asked["heavy"] == 0


def test_judge_columns_equals_judge_split_on_the_same_targets(split: Split) -> None:
    """One target a person over columns is `discover`, whatever the size of a block."""
    targets = draw_targets(split, seed=1)
    wanted = np.zeros(split.train.n_people, np.int32)
    wanted[targets.discover_people] = targets.discover_items
    pairs = item_pairs(split.train)
    held = np.zeros((split.train.n_people, split.train.n_items), np.bool_)
    held[pairs // split.train.n_items, pairs % split.train.n_items] = True
    segments, scorer = Segments.by_size(sizes_of(split)), simple.popularity(split.train)
    theirs = judge_split(scorer, split, targets, segments)
    for block in (7, 10_000):
        ours = judge_columns(
            scorer,
            people=targets.discover_people.astype(np.int64),
            targets=wanted,
            had=lambda people: held[people],
            segments=segments,
            block=block,
        )
        assert ours.asked == theirs.asked
        for name in SEGMENTS:
            assert ours.segments[name] == pytest.approx(theirs.segments[name], abs=1e-12)
        assert ours.measured["discover"] == pytest.approx(theirs.measured["discover"], abs=1e-12)


def test_restrict_many_people_keeps_a_sample_with_its_own_targets(split: Split) -> None:
    """As many as are asked for, the same for the same seed, and nobody's target is another's."""
    targets = draw_targets(split, seed=5)
    assert restrict(targets, most=798) is targets
    some = restrict(targets, most=100)
    asked = np.union1d(some.next_people, some.discover_people)
    assert len(asked) == 100
    at = np.searchsorted(targets.next_people, some.next_people)
    assert (targets.next_items[at] == some.next_items).all()
    assert (targets.negatives[at] == some.negatives).all()
    at = np.searchsorted(targets.discover_people, some.discover_people)
    assert (targets.discover_items[at] == some.discover_items).all()
    again = restrict(targets, most=100)
    assert (again.next_people == some.next_people).all()
    other = restrict(draw_targets(split, seed=6), most=100)
    assert not np.array_equal(other.next_people, some.next_people)
