"""Bounded rounds of alternating least squares, beside the exact solution on made-up people."""

import numpy as np
import pytest

from benchmarks.movielens_rounds import (
    LONGEST,
    RoundSettings,
    contribute,
    gather,
    refine,
    solve_person,
    solved_table,
    step,
)
from client_sdk.intelligence import History, score_many, solve_many

ITEMS, PEOPLE, RANK = 30, 80, 4
SETTINGS = RoundSettings(rank=RANK, rounds=60, unseen=0.3, penalty=0.02, clip=1e6)


def _people(seed: int = 0) -> list[np.ndarray]:
    """Two groups of people with an own half of the catalogue each."""
    rng = np.random.default_rng(seed)
    return [
        np.sort(rng.choice(15, 6, replace=False) + 15 * (person % 2)).astype(np.int64)
        for person in range(PEOPLE)
    ]


def _start(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ITEMS, RANK)) * 0.3


def _loss(factors: np.ndarray, seen: np.ndarray) -> float:
    """The loss of iALS, dense, with each person's vector solved from its normal equations."""
    size, people = len(factors), len(seen)
    total = 0.0
    for row in seen:
        weights = row + SETTINGS.unseen
        penalty = SETTINGS.penalty * (row.sum() + SETTINGS.unseen * size)
        curved = (factors * weights[:, None]).T @ factors + penalty * np.eye(RANK)
        u = np.linalg.solve(curved, factors.T @ row)
        guess = factors @ u
        total += float(row @ (1.0 - guess) ** 2 + SETTINGS.unseen * guess @ guess)
        total += float(penalty * u @ u)
    penalties = SETTINGS.penalty * (seen.sum(axis=0) + SETTINGS.unseen * people)
    return total + float(penalties @ (factors**2).sum(axis=1))


def _exact_half(factors: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """One exact sweep of iALS: all people, then all items, dense."""
    everything = SETTINGS.unseen * factors.T @ factors
    size, people = len(factors), len(seen)
    users = np.array(
        [
            np.linalg.solve(
                (factors * row[:, None]).T @ factors
                + everything
                + SETTINGS.penalty * (row.sum() + SETTINGS.unseen * size) * np.eye(RANK),
                factors.T @ row,
            )
            for row in seen
        ]
    )
    shared = SETTINGS.unseen * users.T @ users
    return np.array(
        [
            np.linalg.solve(
                (users * column[:, None]).T @ users
                + shared
                + SETTINGS.penalty * (column.sum() + SETTINGS.unseen * people) * np.eye(RANK),
                users.T @ column,
            )
            for column in seen.T
        ]
    )


def _dense(histories: list[np.ndarray]) -> np.ndarray:
    seen = np.zeros((len(histories), ITEMS))
    for row, items in enumerate(histories):
        seen[row, items] = 1.0
    return seen


def test_refine_reaches_the_loss_of_exact_alternating_least_squares() -> None:
    """The preconditioned rounds end where the dense oracle ends, from the same start."""
    histories = _people()
    seen = _dense(histories)
    found = refine(_start(), histories, seen.sum(axis=0), SETTINGS)
    oracle = _start()
    for _ in range(SETTINGS.rounds):
        oracle = _exact_half(oracle, seen)
    assert _loss(found, seen) == pytest.approx(_loss(oracle, seen), rel=0.01)
    assert _loss(found, seen) < 0.8 * _loss(_start(), seen)


def test_step_exact_solution_stays_where_it_is() -> None:
    """Where exact alternating least squares has ended, a step moves nothing."""
    histories = _people()
    seen = _dense(histories)
    factors = _start()
    for _ in range(600):
        factors = _exact_half(factors, seen)
    counts = seen.sum(axis=0)
    moved = step(factors, gather(factors, histories, SETTINGS), counts, PEOPLE, SETTINGS)
    np.testing.assert_allclose(moved, factors, atol=1e-4)


def test_contribute_any_person_stays_within_the_clip_norm() -> None:
    """The three parts together are no longer than the clip norm, and short ones are left alone."""
    rng = np.random.default_rng(3)
    for scale in (0.01, 1.0, 100.0):
        factors = rng.standard_normal((ITEMS, RANK)) * scale
        u = rng.standard_normal(RANK) * scale
        items = np.sort(rng.choice(ITEMS, 9, replace=False))
        rows, outer, share, kept = contribute(factors, items, u, 2.0)
        length = np.sqrt((rows**2).sum() + (1.0 + share**2) * (outer**2).sum())
        assert length <= 2.0 + 1e-9
        assert share == 9 / LONGEST
        if kept < 1.0:
            assert length == pytest.approx(2.0)
    whole, _, _, kept = contribute(factors, items, np.zeros(RANK), 2.0)
    assert kept == 1.0
    assert not whole.any()


def test_gather_clip_norm_small_counts_whom_it_clipped() -> None:
    """A clip norm that nobody meets is said to have clipped everybody."""
    histories = _people()
    tight = RoundSettings(rank=RANK, unseen=0.3, penalty=0.02, clip=1e-3)
    assert gather(_start(), histories, tight).clipped == PEOPLE
    assert gather(_start(), histories, SETTINGS).clipped == 0


def test_solved_table_ranks_as_the_persons_own_solve() -> None:
    """The ranker's ridge form gives the scores of rule 1 for somebody of the table's length."""
    factors = _start()
    items = np.arange(3, 9, dtype=np.int64)
    popularity = np.linspace(0.0, 1.0, ITEMS)
    table = solved_table(factors, popularity, float(len(items)), SETTINGS)
    history = History.from_events(items=items, times_s=np.zeros(len(items)), now_s=0.0)
    scores = score_many(table, table.settings, solve_many(table, [history]), [history])[0]
    penalty = SETTINGS.penalty * (len(items) + SETTINGS.unseen * ITEMS)
    base = SETTINGS.unseen * factors.T @ factors + penalty * np.eye(RANK)
    expected = factors @ solve_person(factors, items, base)
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["rank", "rounds", "unseen", "penalty", "clip"])
def test_round_settings_zero_is_refused(name: str) -> None:
    """No part of a round may be nothing."""
    with pytest.raises(ValueError, match="must be"):
        RoundSettings(**{name: 0})


def test_refine_start_of_another_shape_is_refused() -> None:
    """A start for another catalogue is the caller's mistake."""
    with pytest.raises(ValueError, match="start must be"):
        refine(np.zeros((3, RANK)), [], np.ones(ITEMS), SETTINGS)
