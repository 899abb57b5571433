"""The core of a decision: exact propensities, bounded exploration, the order of the stages."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action
from client_sdk.experience.decisions import Status, conclude, judge
from client_sdk.experience.exploration import Exploration, draw, propensities
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.scoring import PriorScorer, Results, Scores
from client_sdk.experience.situation import Situation

POLICY = """
version = 1
fallback = ["gone", "b"]
[channels.in-app]
opt_in = false
per_day = 5
[confidence]
minimum = 0.5
[review]
below_confidence = 0.7
"""
explorations = st.floats(0, 0.5).flatmap(
    lambda cap: st.builds(
        Exploration,
        cap=st.just(cap),
        epsilon=st.floats(0, cap),
        floor=st.floats(0, cap),
        temperature=st.floats(0.01, 100),
    )
)
scores_of = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30).map(np.array)


def table(**changes: Any) -> ActionTable:
    """Three actions; changes are of the first."""
    return ActionTable(
        [Action(action_id="a", **changes), Action(action_id="b"), Action(action_id="c")]
    )


def concluded(actions: ActionTable, confidence: list[float], text: str = POLICY) -> Any:
    """Conclude with the highest expected value first."""
    policy = GuardrailPolicy.from_toml(text)
    verdict = judge(actions, Situation(now_s=0.0), policy)
    n = len(verdict.rows)
    scores = Scores(expected=np.arange(n, 0.0, -1.0), confidence=np.array(confidence))
    return conclude(actions, verdict, scores, policy, seed=1)


@settings(max_examples=500)
@given(scores_of, explorations)
def test_propensities_any_scores_sum_to_one_within_bounds(
    expected: Any, exploration: Exploration
) -> None:
    """They sum to 1; the best keeps 1 - cap; the others get the floor as far as the cap allows."""
    chances = propensities(expected, exploration)
    best, n = int(np.argmax(expected)), len(expected)
    assert abs(chances.sum() - 1.0) < 1e-12
    assert chances.min() >= -1e-15
    assert chances[best] >= 1.0 - exploration.cap - 1e-12
    if n > 1:
        floor = min(exploration.floor, exploration.cap / (n - 1))
        assert np.delete(chances, best).min() >= floor - 1e-12
        least = min(exploration.epsilon, exploration.cap)
        assert 1.0 - chances[best] >= least - 1e-12


def test_propensities_nothing_tried_takes_the_best() -> None:
    """Epsilon 0 and floor 0; ties go to the first."""
    chances = propensities(np.array([1.0, 2.0, 2.0]), Exploration())
    assert chances.tolist() == [0.0, 1.0, 0.0]


def test_propensities_better_scores_are_tried_more() -> None:
    """The softmax follows the scores of the others."""
    exploration = Exploration(epsilon=0.3, cap=0.3, temperature=0.5)
    chances = propensities(np.array([9.0, 1.0, 3.0, 2.0]), exploration)
    assert chances[2] > chances[3] > chances[1] > 0.0


def test_draw_many_seeds_has_the_frequencies_of_the_propensities() -> None:
    """Chi-square over 40,000 seeds accepts the logged propensities and rejects two wrong ones."""
    exploration = Exploration(epsilon=0.3, floor=0.02, cap=0.4, temperature=1.0)
    expected = np.array([0.4, 1.0, 0.2, 0.7])
    chances = propensities(expected, exploration)
    n = 40_000
    drawn = [draw(expected, exploration, seed)[0] for seed in range(n)]
    counts = np.bincount(drawn, minlength=4)

    def statistic(of: Any) -> float:
        return float(((counts - n * of) ** 2 / (n * of)).sum())

    # The 0.999 quantile of chi-square with 3 degrees of freedom.
    assert statistic(chances) < 16.27
    assert statistic(np.full(4, 0.25)) > 16.27
    assert statistic(chances * 0.97 + np.array([0.0, 0.0, 0.03, 0.0])) > 16.27


@settings(max_examples=300)
@given(scores_of, explorations, st.integers(0, 2**63 - 1))
def test_draw_any_scores_says_the_propensity_of_what_it_drew(
    expected: Any, exploration: Exploration, seed: int
) -> None:
    """What is logged is to the last bit what all probabilities together say of that row."""
    place, propensity = draw(expected, exploration, seed)
    assert propensity == propensities(expected, exploration)[place] > 0.0


def test_draw_zero_probability_is_never_drawn() -> None:
    """Also where it is the last, and the sum of the others falls short by a rounding."""
    exploration = Exploration(epsilon=0.5, cap=0.5, temperature=0.01)
    expected = np.array([5.0, *[4.0] * 100, -4.0])
    chances = propensities(expected, exploration)
    assert np.flatnonzero(chances == 0.0).tolist() == [101]
    drawn = {draw(expected, exploration, seed)[0] for seed in range(5_000)}
    assert drawn == set(range(101))


@pytest.mark.parametrize(
    "bad",
    [{"cap": 0.6}, {"epsilon": 0.2}, {"floor": -0.1}, {"temperature": 0.0}, {"cap": float("nan")}],
)
def test_exploration_out_of_range_is_refused(bad: dict[str, float]) -> None:
    """Each number has its range."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        Exploration(**bad)


def test_conclude_confident_action_is_chosen_with_its_stages() -> None:
    """The best of those that are sure, and every stage in order."""
    conclusion = concluded(table(), [0.4, 0.9, 0.8])
    assert (conclusion.row, conclusion.status) == (1, Status.CHOSEN)
    assert conclusion.propensity == 1.0
    names = [stage.name for stage in conclusion.stages]
    assert names == ["eligibility", "scores", "guardrails", "confidence", "draw"]
    assert conclusion.stages[3].refused == {"minimum-confidence": 1}


def test_conclude_nothing_sure_takes_the_named_fallback() -> None:
    """The first name that is among the actions and passes."""
    conclusion = concluded(table(), [0.4, 0.4, 0.4])
    assert (conclusion.row, conclusion.status, conclusion.propensity) == (1, Status.FALLBACK, 1.0)


def test_conclude_low_confidence_and_high_impact_wait() -> None:
    """Between the two thresholds, or with high impact, a person looks first."""
    assert concluded(table(), [0.6, 0.5, 0.5]).status is Status.WAITING
    assert concluded(table(high_impact=True), [0.9, 0.5, 0.5]).status is Status.WAITING
    assert concluded(table(), [0.9, 0.5, 0.5]).status is Status.CHOSEN


def test_conclude_fallback_refused_gives_nothing() -> None:
    """A fallback has to pass every guardrail."""
    text = POLICY + '[never]\nactions = ["b"]\n'
    conclusion = concluded(table(), [0.1, 0.1], text)
    assert (conclusion.row, conclusion.status, conclusion.propensity) == (
        None,
        Status.NOTHING,
        None,
    )


def test_conclude_without_scores_gives_a_fallback_that_needs_no_approval() -> None:
    """Without consent nothing is drawn, and nothing can wait."""
    policy = GuardrailPolicy.from_toml(POLICY)
    situation = Situation(now_s=0.0, personal=False)
    actions = table()
    conclusion = conclude(actions, judge(actions, situation, policy), None, policy, seed=1)
    assert (conclusion.row, conclusion.status) == (1, Status.FALLBACK)
    heavy = ActionTable([Action(action_id="b", high_impact=True)])
    conclusion = conclude(heavy, judge(heavy, situation, policy), None, policy, seed=1)
    assert conclusion.status is Status.NOTHING


@pytest.mark.parametrize(
    ("expected", "confidence"),
    [([1.0], [1.0, 1.0]), ([float("nan")], [1.0]), ([1.0], [-0.1]), ([1.0], [1.1]), ([[1.0]], [1])],
)
def test_scores_not_as_promised_are_refused(expected: Any, confidence: Any) -> None:
    """A model that gives nonsense decides nothing."""
    with pytest.raises(ValueError, match="expected"):
        Scores(expected=np.array(expected), confidence=np.array(confidence))


def test_scores_too_large_to_be_logged_are_refused() -> None:
    """What is used is a float32, as it is logged."""
    scores = Scores(expected=np.array([1e300, 0.1]), confidence=np.ones(2))
    assert scores.of_rows(np.array([1])).expected.tolist() == [float(np.float32(0.1))]
    with pytest.raises(ValueError, match="finite"):
        scores.of_rows(np.array([0]))
    largest = float(np.finfo(np.float32).max)
    limit = 2.0**128 - 2.0**103
    for sign in (1.0, -1.0):
        # The last number that rounds to the largest float32, and the first that does not.
        edge = Scores(
            expected=sign * np.array([np.nextafter(limit, 0.0), limit]), confidence=np.ones(2)
        )
        assert edge.of_rows(np.array([0])).expected.tolist() == [sign * largest]
        with pytest.raises(ValueError, match="finite"):
            edge.of_rows(np.array([1]))
    assert len(scores.of_rows(np.zeros(0, np.intp)).expected) == 0


def test_prior_scorer_learns_the_rate_of_a_kind() -> None:
    """A Beta posterior's mean, and a confidence that grows."""
    actions = ActionTable(
        [Action(action_id="a", value=2.0), Action(action_id="b", kind="offer", value=2.0)]
    )
    scorer = PriorScorer(lambda: {"offer": Results(shown=80, worked=19)})
    scores = scorer.score(actions, np.zeros(0))
    assert scores.expected.tolist() == pytest.approx([2 * 1 / 20, 2 * 20 / 100])
    assert scores.confidence.tolist() == pytest.approx([0.5, 0.9])
