"""A compiled policy judges as the policy does, whatever changes from one question to the next."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action
from client_sdk.experience.compiled import CompiledPolicy
from client_sdk.experience.decisions import Verdict, judge
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.guardrails.rule import AttentiveRule
from client_sdk.experience.ledger import Counts
from client_sdk.experience.situation import Situation
from client_sdk.signals.features.columns import BoolArray

DAY_S = 86_400.0
NOW_S = 100 * DAY_S
CHANNELS, ITEMS, WORDS = ("in-app", "push", "sms"), ("tea", "mug"), ("tea", "debt", "health")
EVERY_SECTION = """
version = 1
[channels.in-app]
opt_in = false
per_session = 2
per_day = 3
[channels.push]
per_day = 1
per_week = 2
[quiet_hours]
from = "21:00"
to = "08:00"
[fatigue]
messages_7_days = 4
dismissed_share = 0.5
[cool_down]
after_complaint_hours = 30
after_return_hours = 10
except_kinds = ["help"]
[bought]
within_days = 3
[offers]
active_days = 2
one_at_a_time = false
[sensitive]
topics = ["debt"]
[never]
kinds = ["news"]
"""
POLICY = GuardrailPolicy.from_toml(EVERY_SECTION)


def names(*some: str) -> st.SearchStrategy[frozenset[str]]:
    """Some of a few names."""
    return st.frozensets(st.sampled_from(some))


situations = st.builds(
    Situation,
    now_s=st.sampled_from([NOW_S, NOW_S + 13 * 3_600.0, NOW_S + 2 * DAY_S]),
    utc_offset_s=st.sampled_from([None, 0, 7_200]),
    paused=st.booleans(),
    opted_in=names(*CHANNELS),
    less=names(*WORDS),
    less_items=names(*ITEMS),
    sold_out=names(*ITEMS),
    bought_s=st.dictionaries(
        st.sampled_from(ITEMS), st.sampled_from([NOW_S - DAY_S, NOW_S - 9 * DAY_S])
    ),
    offers=names("a0", "a1", *ITEMS),
    waiting=names("a2", "a3"),
    counts=st.dictionaries(
        st.sampled_from(CHANNELS), st.tuples(*[st.integers(0, 3)] * 3).map(lambda row: Counts(*row))
    ),
    messages_7_days=st.integers(0, 5),
    dismissed_share=st.sampled_from([None, 0.1, 0.9]),
    last_complaint_s=st.sampled_from([None, NOW_S - 3_600.0]),
    last_return_s=st.sampled_from([None, NOW_S - 3_600.0]),
)


def table(seed: int) -> ActionTable:
    """A few different actions, on channels that the policy has or has not."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    return ActionTable(
        Action(
            action_id=f"a{number}",
            kind=rng.choice(["offer", "help", "news"]),
            channel=rng.choice(CHANNELS),
            topic=rng.choice(["", *WORDS]),
            item_id=rng.choice([None, *ITEMS]),
        )
        for number in range(rng.randint(0, 9))
    )


def outline(verdict: Verdict) -> tuple[Any, ...]:
    """Everything of a verdict, the order of the rules included."""
    return verdict.rows.tolist(), list(verdict.refused.items()), verdict.eligible, verdict.stages


@dataclass(frozen=True, kw_only=True)
class Moody:
    """A rule of an app's own that does not say what it looks at; it can fail."""

    refuses: list[bool] = field(default_factory=lambda: [False])
    asked: list[float] = field(default_factory=list)
    name: str = "moody"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """Refuse everything, or nothing."""
        self.asked.append(situation.now_s)
        if situation.messages_7_days < 0:
            raise RuntimeError("out of order")
        return np.full(len(actions), self.refuses[0])

    def in_words(self) -> str:
        """Say it."""
        return "As it likes."


@settings(max_examples=400)
@given(st.integers(0, 50), st.lists(situations, min_size=1, max_size=6))
def test_compiled_policy_any_situations_judges_as_the_policy_does(
    seed: int, lived: list[Situation]
) -> None:
    """The same rows, counts and order for each, there and back again."""
    actions = table(seed)
    compiled = CompiledPolicy(actions, POLICY)
    for situation in [*lived, *reversed(lived)]:
        plain = outline(judge(actions, situation, POLICY))
        assert outline(compiled.judge(situation)) == plain


def test_compiled_policy_without_rules_refuses_everything() -> None:
    """Compiled or not, no policy is a refusal."""
    compiled = CompiledPolicy(table(1), GuardrailPolicy())
    for _ in range(2):
        verdict = compiled.judge(Situation(now_s=NOW_S))
        assert not len(verdict.rows)
        assert list(verdict.refused) == ["no-policy"]


def test_compiled_policy_same_situation_gives_the_very_same_verdict() -> None:
    """Nothing is asked twice; and every rule of a file says what it looks at."""
    assert all(isinstance(rule, AttentiveRule) for rule in POLICY.all_rules)
    compiled, situation = CompiledPolicy(table(1), POLICY), Situation(now_s=NOW_S)
    verdict = compiled.judge(situation)
    assert compiled.judge(replace(situation, now_s=NOW_S + 1.0)) is verdict


def test_compiled_policy_rule_that_does_not_say_is_asked_every_time() -> None:
    """Its mood is no part of a situation, and holds all the same."""
    moody, actions = Moody(), ActionTable([Action(action_id="a")])
    compiled = CompiledPolicy(actions, POLICY.and_also(moody))
    situation = Situation(now_s=NOW_S)
    assert len(compiled.judge(situation).rows) == 1
    moody.refuses[0] = True
    assert not len(compiled.judge(situation).rows)
    assert len(moody.asked) == 2


def test_compiled_policy_rule_fails_keeps_nothing_of_that_situation() -> None:
    """What other rules said of it before does not reach the next verdict."""
    actions = ActionTable([Action(action_id="a", item_id="tea")])
    policy = POLICY.and_also(Moody())
    compiled, calm = CompiledPolicy(actions, policy), Situation(now_s=NOW_S)
    compiled.judge(calm)
    with pytest.raises(RuntimeError, match="out of order"):
        compiled.judge(replace(calm, sold_out=frozenset({"tea"}), messages_7_days=-1))
    later = replace(calm, waiting=frozenset({"b"}))
    assert outline(compiled.judge(later)) == outline(judge(actions, later, policy))
