"""The decider: limits that hold whatever comes, replays that are the same, a person in the loop.

The property at the end is the promise: thousands of random policies, histories and questions, and
no cap exceeded, nothing excluded chosen, every decision replayed to the same result.

More than 400 lines: every stage of a decision is tested through the same few fixtures.
"""

import base64
import json
import random
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.errors import ConsentRequiredError
from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.decider import Decider
from client_sdk.experience.decision_log import DECISIONS, LogLimits, UnknownDecisionError
from client_sdk.experience.decisions import Decision, Status
from client_sdk.experience.guardrails.matter import Never
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.log_entry import LogEntry
from client_sdk.experience.person import NO_CONSENT, NOTHING_BETTER, PersonReader, Shop
from client_sdk.experience.preferences import NO_PREFERENCES, Preferences
from client_sdk.experience.scoring import Scores
from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.signals.features.columns import FloatArray
from client_sdk.signals.features.context import Context
from client_sdk.signals.records import Record
from client_sdk.testing import FixedClock, sample_catalogue
from client_sdk.wire import Purpose

HOUR_S, DAY_S = 3_600.0, 86_400.0
CATALOGUE = sample_catalogue()
BASE = """
version = 1
fallback = ["top"]
[channels.in-app]
opt_in = false
per_session = 50
per_day = 50
[channels.push]
per_day = 1
[channels.sms]
per_week = 1
[confidence]
minimum = 0.3
[exploration]
epsilon = 0.2
cap = 0.3
"""


class MemoryStore:
    """A vault in memory: everything goes through JSON, as in the vault."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def write(self, *records: Record, durable: bool = False) -> None:
        """Keep all."""
        for record in records:
            text = json.dumps(record.value, allow_nan=False)
            self.kept[record.stream, record.key] = text

    def read(self, stream: str, key: str) -> Any:
        """Give one, or None."""
        found = self.kept.get((stream, key))
        return None if found is None else json.loads(found)

    def records(self, stream: str | None = None) -> Iterator[Record]:
        """Give those of a stream."""
        for (name, key), text in list(self.kept.items()):
            if name == stream:
                yield Record(stream=name, key=key, value=json.loads(text))

    def forget_records(self, stream: str, *keys: str) -> int:
        """Delete."""
        return sum(self.kept.pop((stream, key), None) is not None for key in keys)


class Consent:
    """A yes that a test sets."""

    def __init__(self) -> None:
        self.yes = True

    def allows(self, purpose: Purpose | str) -> bool:
        """The answer."""
        return self.yes

    def require(self, purpose: Purpose | str) -> None:
        """The answer, as an error."""
        if not self.yes:
            raise ConsentRequiredError("no")


class SetScorer:
    """Scores that a test sets by action id: expected value and confidence."""

    def __init__(self) -> None:
        self.scores: dict[str, tuple[float, float]] = {}

    def score(self, actions: ActionTable, features: FloatArray) -> Scores:
        """Give what was set; 1 with a confidence of 0.8 elsewhere."""
        rows = [self.scores.get(a.action_id, (1.0, 0.8)) for a in actions.actions]
        columns = np.array(rows, np.float64).reshape(-1, 2).T
        return Scores(expected=columns[0], confidence=columns[1])


class World:
    """One person, one shop, one decider."""

    def __init__(self, text: str = BASE, **changes: Any) -> None:
        self.store = MemoryStore()
        self.clock = FixedClock()
        self.consent = Consent()
        self.scorer = SetScorer()
        self.preferences: Preferences = NO_PREFERENCES
        self.digest = Digest()
        self.last_s: dict[str, float] = {}
        self.reads = 0
        self.counted = False
        self.sold_out: frozenset[str] = frozenset()
        self.active_offers: frozenset[str] = frozenset()
        self.policy = GuardrailPolicy.from_toml(text)
        self.changes = changes
        self.decider = self.opened()

    def opened(self) -> Decider:
        """Open it, again after the first time."""
        return Decider(
            store=self.store,
            consent=self.consent,
            clock=self.clock,
            lock=nullcontext(),
            person=PersonReader(
                features=self._features,
                activity=lambda: self.digest.activity,
                last_s=self.last_s.get,
                n_events=(lambda: self.digest.n_events) if self.counted else None,
            ),
            preferences=lambda: self.preferences,
            policy=self.policy,
            scorer=self.scorer,
            shop=Shop(sold_out=lambda: self.sold_out, active_offers=lambda: self.active_offers),
            **self.changes,
        )

    def track(self, kind: str, item: str | None = None) -> None:
        """Let the person do one thing."""
        now_s = self.clock.now_s()
        self.digest.add([Event(kind=kind, time_s=now_s, item_id=item)])
        self.last_s[kind] = now_s

    def decide(self, *actions: Action, seed: int = 1, zone: int | None = 0) -> Decision:
        """Ask in one visit."""
        moment = Moment(name="home", session="s", context=Context(utc_offset_s=zone))
        return self.decider.decide(moment, actions, seed=seed)

    def _features(self, context: Context) -> Any:
        self.reads += 1
        return self.digest.features(CATALOGUE, now_s=self.clock.now_s(), context=context)


TOP = Action(action_id="top", kind="content")
TEA = Action(action_id="tea", kind="offer", topic="tea", item_id="green-tea")
PUSH = Action(action_id="push", channel="push")


@pytest.fixture
def world() -> World:
    """With the base policy."""
    return World()


def test_decide_best_is_chosen_with_reason_and_log(world: World) -> None:
    """The reason is true of the person; the decision can be looked up."""
    world.track("product_view", "green-tea")
    world.scorer.scores = {"tea": (2.0, 0.9)}
    decision = world.decide(TEA, TOP, seed=3)
    assert (decision.action, decision.status) == (TEA, Status.CHOSEN)
    assert decision.reason == "Because you looked at it."
    assert (decision.confidence, decision.model) == (float(np.float32(0.9)), "SetScorer")
    assert decision.propensity == pytest.approx(0.8)
    assert "Scored by SetScorer, with a confidence of 90%." in decision.in_words()
    assert world.decider.decisions(status=Status.CHOSEN) == (decision,)
    assert world.opened().decisions() == (decision,)


@pytest.mark.parametrize(
    ("liked", "kind", "expected"),
    [
        ({"tea"}, None, "Because you asked for more tea."),
        (set(), "purchase", "Because you bought it."),
        (set(), "cart", "Because you put it in the cart."),
        (set(), None, "It is worth the most of what may be done now."),
    ],
)
def test_decide_reason_names_what_speaks_for_it(
    world: World, liked: set[str], kind: str | None, expected: str
) -> None:
    """Asked for, done, or neither."""
    world.preferences = Preferences(liked=frozenset(liked))
    if kind is not None:
        world.track(kind, "green-tea")
    assert world.decide(TEA).reason == expected


def test_decide_reason_names_the_category_that_is_often_chosen(world: World) -> None:
    """Another item of the category."""
    world.track("purchase", "black-tea")
    assert world.decide(TEA).reason == "Because you often choose tea."


def test_decide_same_state_time_and_seed_is_the_same() -> None:
    """Two worlds, equal to the id; another seed draws another action."""
    first, second = World(), World()
    for seed in range(40):
        assert first.decide(TEA, TOP, seed=seed) == second.decide(TEA, TOP, seed=seed)
    logged = {decision.action: decision.propensity for decision in first.decider.decisions()}
    assert logged == {TEA: pytest.approx(0.8), TOP: pytest.approx(0.2)}


def test_decide_without_consent_reads_and_logs_nothing(world: World) -> None:
    """A fallback that everybody gets; caps count it in memory."""
    world.consent.yes = False
    decision = world.decide(TEA, TOP)
    assert (decision.action, decision.status, decision.logged) == (TOP, Status.FALLBACK, False)
    assert (decision.reason, decision.confidence, decision.model) == (NO_CONSENT, None, "")
    assert (world.reads, world.store.kept) == (0, {})
    with pytest.raises(UnknownDecisionError):
        world.decider.why(decision.decision_id)
    assert sum(world.decide(TEA, TOP).action is not None for _ in range(60)) == 49
    assert world.store.kept == {}


def test_decide_less_holds_without_consent(world: World) -> None:
    """A wish for less takes away, whatever the consent says."""
    world.consent.yes = False
    world.preferences = Preferences(less=frozenset({"deals"}))
    top = Action(action_id="top", tags=("Deals",))
    assert world.decide(top).status is Status.NOTHING


def test_decide_no_policy_refuses_everything(world: World) -> None:
    """With and without consent, also the fallback."""
    world.decider.change_policy(GuardrailPolicy())
    for yes in (True, False):
        world.consent.yes = yes
        decision = world.decide(TEA, TOP)
        assert decision.action is None
        assert decision.reason.startswith("Nothing may be done now")


def test_decide_no_actions_gives_nothing(world: World) -> None:
    """An empty question has an answer."""
    assert world.decide().status is Status.NOTHING


def test_decide_unsure_falls_back_by_name(world: World) -> None:
    """Below the minimum the named fallback is shown."""
    world.scorer.scores = {"tea": (9.0, 0.2), "top": (0.0, 0.1)}
    decision = world.decide(TEA, TOP)
    assert (decision.action, decision.status) == (TOP, Status.FALLBACK)
    assert (decision.propensity, decision.reason) == (1.0, NOTHING_BETTER)


@pytest.mark.parametrize("seed", [-1, 1 << 63, 1.5, True])
def test_decide_bad_seed_is_refused(world: World, seed: Any) -> None:
    """A seed is 63 bits."""
    with pytest.raises(ValueError, match="seed"):
        world.decide(TEA, seed=seed)


def test_decide_scorer_of_another_length_decides_nothing(world: World) -> None:
    """The caller's mistake is the caller's error."""

    class Short:
        def score(self, actions: ActionTable, features: FloatArray) -> Scores:
            return Scores(expected=np.zeros(1), confidence=np.ones(1))

    world.scorer = Short()  # type: ignore[assignment]
    decider = world.opened()
    with pytest.raises(ValueError, match="scorer"):
        decider.decide(Moment(name="home"), [TEA, TOP])
    assert decider.decisions() == ()


def test_decide_facts_of_the_person_reach_the_guardrails() -> None:
    """Bought, complained, returned, sold out, an active offer: each refuses."""
    text = BASE + (
        '[bought]\n[cool_down]\nafter_complaint_hours = 2\nafter_return_hours = 2\n'
        '[offers]\nactive_days = 3\n'
    )  # fmt: skip
    world = World(text)
    assert world.decide(TEA).action == TEA
    # The offer was made: it is active for three days, and never doubled.
    assert world.decide(TEA).action is None
    world.clock.advance(3 * DAY_S)
    assert world.decide(TEA).action == TEA
    world.clock.advance(4 * DAY_S)
    world.active_offers = frozenset({"green-tea"})
    assert world.decide(TEA).action is None
    world.active_offers = frozenset()
    world.sold_out = frozenset({"green-tea"})
    assert world.decide(TEA).action is None
    world.sold_out = frozenset()
    world.track("support")
    assert world.decide(TEA).action is None
    world.clock.advance(3 * HOUR_S)
    world.track("purchase", "green-tea")
    assert world.decide(TEA).action is None
    world.track("return", "green-tea")
    assert "cool-down:return" in world.decide(TEA).stages[2].refused
    world.clock.advance(3 * HOUR_S)
    assert world.decide(TEA).action == TEA


def test_decide_person_is_read_anew_after_an_event_or_a_minute(world: World) -> None:
    """Several places of one screen read once; consent is asked each time."""
    world.counted = True
    world.decider = world.opened()
    for _ in range(3):
        world.decide(TEA)
    assert world.reads == 1
    world.track("purchase", "black-tea")
    assert world.decide(TEA).reason == "Because you often choose tea."
    assert world.reads == 2
    world.decide(TEA, zone=7_200)
    assert world.reads == 3
    world.clock.advance(60.0)
    world.decide(TEA, zone=7_200)
    world.clock.advance(-1.0)
    world.decide(TEA, zone=7_200)
    assert world.reads == 5
    world.consent.yes = False
    assert not world.decide(TEA, zone=7_200).logged


def test_decide_item_bought_later_is_known_at_once() -> None:
    """Columns of purchases follow the person's history as it grows, and start anew with another."""
    world = World(BASE + "[bought]\n")
    world.track("product_view", "mug")
    assert world.decide(TEA).action == TEA
    world.track("purchase", "green-tea")
    assert world.decide(TEA).action is None
    world.digest = Digest()
    assert world.decide(TEA).action == TEA


def test_decide_channel_needs_opt_in_and_no_pause(world: World) -> None:
    """A message by push: after a yes, not in a pause, once a day."""
    assert world.decide(PUSH).action is None
    world.preferences = Preferences(channels=frozenset({"push"}))
    assert world.decide(PUSH).action == PUSH
    assert world.decide(PUSH).action is None
    world.clock.advance(DAY_S)
    world.preferences = Preferences(
        channels=frozenset({"push"}), paused_until_s=world.clock.now_s() + 5
    )
    assert world.decide(PUSH).action is None
    world.clock.advance(6)
    assert world.decide(PUSH).action == PUSH


def test_decide_cap_reached_holds_after_reopening() -> None:
    """Counts come back from the log, also of what the log let go."""
    world = World(limits=LogLimits(max_decisions=3))
    world.preferences = Preferences(channels=frozenset({"sms"}))
    sms = Action(action_id="sms", channel="sms")
    assert world.decide(sms).action == sms
    for _ in range(10):
        world.decide(TOP)
    world.clock.advance(6 * DAY_S)
    world.decider = world.opened()
    assert world.decide(sms).action is None
    world.clock.advance(DAY_S)
    assert world.decide(sms).action == sms


def test_outcome_within_its_window_counts_once_shown(world: World) -> None:
    """Kept with the decision; it teaches the default scorer."""
    decision = world.decide(TEA)
    world.clock.advance(HOUR_S)
    assert world.decider.outcome(decision.decision_id, "clicked").attributed
    world.clock.advance(2 * DAY_S)
    assert not world.decider.outcome(decision.decision_id, "clicked").attributed
    assert world.decider.outcome(decision.decision_id, "purchase", value=4.5).attributed
    early = world.decider.outcome(decision.decision_id, "clicked", time_s=0.0)
    assert early.reason == "not kept: outside of its window"
    kept = world.opened().outcomes(decision.decision_id)
    assert [(o.kind, o.value) for o in kept] == [("clicked", 1.0), ("purchase", 4.5)]
    for _ in range(60):
        last = world.decider.outcome(decision.decision_id, "purchase")
    assert last.reason == "not kept: there are enough"


def test_outcome_of_nothing_shown_or_without_consent_is_not_kept(world: World) -> None:
    """Nothing is stored without consent, and nothing is credited to what nobody saw."""
    nothing = world.decide()
    assert not world.decider.outcome(nothing.decision_id, "clicked").attributed
    decision = world.decide(TEA)
    world.consent.yes = False
    assert not world.decider.outcome(decision.decision_id, "clicked").attributed
    with pytest.raises(UnknownDecisionError):
        world.decider.outcome("unknown", "clicked")
    assert world.decider.outcomes(decision.decision_id) == ()


def test_prior_outcomes_make_what_worked_more_likely() -> None:
    """Without a model the log's own outcomes are learned from."""
    world = World(BASE.replace("epsilon = 0.2", "epsilon = 0.0"))
    world.scorer = None  # type: ignore[assignment]
    world.decider = world.opened()
    news = Action(action_id="news", kind="news")
    for _ in range(5):
        world.decider.outcome(world.decide(news).decision_id, "clicked")
        world.decider.outcome(world.decide(TEA).decision_id, "dismissed", value=0.0)
    decision = world.decide(TEA, news)
    assert (decision.action, decision.model) == (news, "prior")


def test_why_says_what_refused_each_action(world: World) -> None:
    """The same again, with the rules of each refusal and the policy as it was."""
    world.preferences = Preferences(less=frozenset({"tea"}))
    decision = world.decide(TEA, PUSH, TOP)
    world.decider.change_policy(GuardrailPolicy())
    why = world.decider.why(decision.decision_id)
    assert why.same
    assert why.refused == {"tea": ("less-of-this",), "push": ("opt-in",)}
    assert "At most 1 by push in any 24 hours." in why.policy
    assert why.in_words()[-1] == "Deciding again from the log gives the same."


@pytest.mark.parametrize("field", ["seed", "situation", "scores"])
def test_why_changed_evidence_is_noticed(world: World, field: str) -> None:
    """A replay that could not fail would prove nothing."""
    decision = world.decide(TEA, TOP, seed=1)
    place = (DECISIONS, decision.decision_id)
    kept = world.store.read(*place)
    value = kept["evidence"]
    if field == "seed":
        value["seed"] = next(
            seed
            for seed in range(2, 99)
            if world.decide(TEA, TOP, seed=seed).action != decision.action
        )
    elif field == "situation":
        value["situation"]["less"] = ["tea"]
    else:
        numbers = np.frombuffer(base64.b64decode(value["scores"]), "<f4")
        value["scores"] = base64.b64encode(numbers[::-1].tobytes()).decode()
    world.store.kept[place] = json.dumps(kept)
    why = world.decider.why(decision.decision_id)
    assert not why.same
    assert "NOT" in why.in_words()[-1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("propensity", 0.5), ("confidence", 0.5), ("status", "fallback"), ("stages", ())],
)
def test_why_changed_decision_is_noticed(world: World, field: str, value: object) -> None:
    """Whatever of the result was altered in the log, deciding again does not give it."""
    place = (DECISIONS, world.decide(TEA, TOP).decision_id)
    kept = world.store.read(*place)
    entry = LogEntry.read(place[1], kept["entry"])
    altered = replace(entry, decision=replace(entry.decision, **{field: value}))
    kept["entry"] = json.loads(altered.text(ActionTable([TEA, TOP])))
    world.store.kept[place] = json.dumps(kept)
    assert not world.opened().why(place[1]).same


def test_review_high_impact_waits_until_a_person_says_yes(world: World) -> None:
    """Not shown, not counted, not asked twice; then shown, counted and labelled."""
    call = Action(action_id="call", high_impact=True)
    decision = world.decide(call)
    assert (decision.action, decision.status) == (None, Status.WAITING)
    assert world.decide(call).status is Status.NOTHING
    (waiting,) = world.opened().waiting()
    assert (waiting.action, waiting.decision_id) == (call, decision.decision_id)
    world.clock.advance(HOUR_S)
    approved = world.decider.approve(decision.decision_id, by="ann", note="fine")
    assert (approved.action, approved.status) == (call, Status.CHOSEN)
    (label,) = world.opened().labels()
    assert (label.approved, label.by, label.note) == (True, "ann", "fine")
    assert world.opened().waiting() == world.decider.waiting() == []
    assert world.decider.outcome(decision.decision_id, "clicked").attributed
    assert world.decider.why(decision.decision_id).same


def test_review_approved_too_late_is_refused_by_the_guardrails(world: World) -> None:
    """The cap was reached meanwhile, so nothing is shown; the label is kept."""
    world.preferences = Preferences(channels=frozenset({"push"}))
    heavy = Action(action_id="heavy", channel="push", high_impact=True)
    decision = world.decide(heavy)
    assert world.decide(PUSH).action == PUSH
    answer = world.decider.approve(decision.decision_id, by="ann")
    assert (answer.action, answer.status) == (None, Status.NOTHING)
    assert "cap:push:day" in answer.reason
    assert [label.approved for label in world.decider.labels()] == [True]
    assert world.decider.outcome(decision.decision_id, "clicked").attributed is False


def test_review_refused_expired_or_withdrawn_is_not_shown(world: World) -> None:
    """A no, too late, and no consent any more."""
    call = Action(action_id="call", high_impact=True)
    decision = world.decide(call)
    assert not world.decider.refuse(decision.decision_id, by="ann").approved
    with pytest.raises(ValueError, match="waits"):
        world.decider.approve(decision.decision_id, by="ann")
    second = world.decide(call)
    world.consent.yes = False
    with pytest.raises(ConsentRequiredError):
        world.decider.approve(second.decision_id, by="ann")
    world.consent.yes = True
    world.clock.advance(73 * HOUR_S)
    with pytest.raises(ValueError, match="waits"):
        world.decider.approve(second.decision_id, by="ann")
    assert len(world.decider.labels()) == 1


def test_dry_run_of_the_log_counts_without_changing_it(world: World) -> None:
    """A stricter policy on what was decided."""
    for _ in range(3):
        world.decide(TEA)
    stricter = GuardrailPolicy.from_toml(BASE + '[never]\ntopics = ["tea"]\n')
    before = dict(world.store.kept)
    run = world.decider.dry_run(stricter)
    assert (run.done, run.still_done, run.done_refused) == (3, 0, {"never": 3})
    assert world.decider.dry_run(world.policy).still_done == 3
    assert world.store.kept == before


def test_own_rules_refuse_in_decisions(world: World) -> None:
    """An app's rule in code, replayed while it is in use."""
    world.decider.change_policy(world.policy.and_also(Never(actions=frozenset({"tea"}))))
    decision = world.decide(TEA, TOP)
    assert decision.action == TOP
    assert world.decider.why(decision.decision_id).same


def test_forget_after_erasure_has_nothing_left(world: World) -> None:
    """Memory is emptied as well."""
    world.decide(Action(action_id="call", high_impact=True))
    world.decider.forget()
    assert world.decider.decisions() == ()
    assert world.decider.waiting() == []


# The promise.

CHANNELS = ("in-app", "push", "sms")
TOPICS = ("tea", "debt", "gambling", "health")
ITEMS = ("green-tea", "mug", "oats")
CAPS = (("day", 3), ("week", 8), ("session", 4))
STEPS = 30
OTHER_STEPS = ("approve", "reopen", "support", "return", "purchase", "open", "less", "consent")
PAUSES_S = (0.0, 60.0, HOUR_S, 5 * HOUR_S, DAY_S)


def random_policy(rng: random.Random) -> str:
    """Any policy file that is valid; most channels are open and most sections are there."""
    lines = ["version = 1", 'fallback = ["a0", "a1"]']
    for name in CHANNELS:
        lines += [f"[channels.{name}]", f"opt_in = {str(rng.random() < 0.3).lower()}"]
        lines += [f"per_{per} = {rng.randint(1, most * 3) // 2}" for per, most in CAPS]
    start, end = rng.randint(0, 11), rng.randint(12, 23)
    sections = {
        "quiet_hours": f'from = "{start:02d}:00"\nto = "{end}:30"\nchannels = ["push"]',
        "cool_down": "after_complaint_hours = 30\nafter_return_hours = 10",
        "bought": "within_days = 3",
        "offers": f"active_days = 2\none_at_a_time = {str(rng.random() < 0.5).lower()}",
        "sensitive": 'topics = ["debt"]',
        "never": 'topics = ["gambling"]\nkinds = ["news"]',
        "confidence": f"minimum = {rng.choice([0.0, 0.4, 0.9])}",
        "review": f"below_confidence = {rng.choice([0.0, 0.5])}",
        "exploration": f"epsilon = {rng.choice([0.0, 0.3])}\nfloor = 0.01\ncap = 0.4",
    }
    for name, section in sections.items():
        if rng.random() < 0.6:
            lines += [f"[{name}]", section]
    return "\n".join(lines)


def random_actions(rng: random.Random) -> list[Action]:
    """A few different actions."""
    return [
        Action(
            action_id=f"a{number}",
            kind=rng.choice(["message", "message", "offer", "news"]),
            channel=rng.choice(CHANNELS),
            topic=rng.choice(["", "", "", "", "", *TOPICS]),
            item_id=rng.choice([None, *ITEMS]),
            tags=(rng.choice(TOPICS),) if rng.random() < 0.2 else (),
            high_impact=rng.random() < 0.15,
        )
        for number in rng.sample(range(8), rng.randint(0, 6))
    ]


class Witness:
    """Watches what is shown, by the events and the file alone: it shares no code with the rules."""

    def __init__(self, world: World, text: str) -> None:
        self.world, self.said = world, tomllib.loads(text)
        self.shown: list[tuple[float, str, Action]] = []
        self.bought: dict[str, float] = {}

    def check(self, action: Action, session: str, zone: int | None, *, personal: bool) -> None:
        """Fail where an action may not be shown now."""
        now_s, said = self.world.clock.now_s(), self.said
        channel = said["channels"][action.channel]
        same = [(time_s, visit) for time_s, visit, a in self.shown if a.channel == action.channel]
        assert sum(time_s > now_s - DAY_S for time_s, _ in same) < channel["per_day"]
        week = [visit for time_s, visit in same if time_s > now_s - 7 * DAY_S]
        assert len(week) < channel["per_week"]
        assert week.count(session) < channel["per_session"]
        preferences = self.world.preferences
        assert not channel["opt_in"] or action.channel in preferences.channels
        words = {action.topic, *action.tags}
        assert not words & preferences.less
        assert "health" not in words
        assert not ("sensitive" in said and "debt" in words)
        assert not ("never" in said and ("gambling" in words or action.kind == "news"))
        quiet = said.get("quiet_hours")
        if quiet and action.channel in quiet["channels"]:
            assert zone is not None
            hour = (now_s + zone) % DAY_S / HOUR_S
            assert not int(quiet["from"][:2]) <= hour < int(quiet["to"][:2]) + 0.5
        offers = said.get("offers")
        if offers and action.kind == "offer":
            active = [
                a for time_s, _, a in self.shown if a.kind == "offer" and time_s > now_s - 2 * DAY_S
            ]
            assert not (offers["one_at_a_time"] and active)
            assert action.action_id not in {a.action_id for a in active}
        if personal:
            last_s = self.world.last_s
            if "cool_down" in said:
                assert now_s - last_s.get("support", -1e9) >= 30 * HOUR_S
                assert now_s - last_s.get("return", -1e9) >= 10 * HOUR_S
            if "bought" in said and action.item_id is not None:
                assert now_s - self.bought.get(action.item_id, -1e9) >= 3 * DAY_S
        self.shown.append((now_s, session, action))


class Life:
    """A world in which one step happens after another, each watched."""

    def __init__(self, text: str, *, remembers: bool) -> None:
        self.world = World(text, limits=LogLimits(max_decisions=8))
        self.world.counted = remembers
        self.world.decider = self.world.opened()
        self.witness = Witness(self.world, text)
        self.unlogged = False

    def step(self, what: str, actions: list[Action], seed: int, moment: Moment) -> None:
        """Let one thing happen."""
        if what == "decide":
            self._decide(actions, seed, moment)
        elif what == "approve":
            self._approve()
        elif what == "reopen":
            self._reopen()
        elif what in ("support", "return", "purchase"):
            self._track(what, ITEMS[seed % len(ITEMS)])
        else:
            self._set(what, seed)

    def _decide(self, actions: list[Action], seed: int, moment: Moment) -> None:
        world = self.world
        for action in actions:
            world.scorer.scores[action.action_id] = (seed % 97 / 97, seed % 89 / 89)
        decision = world.decider.decide(moment, actions, seed=seed)
        if decision.action is not None:
            assert decision.propensity is not None
            assert 0.0 < decision.propensity <= 1.0
            self._watch(decision.action, moment)
        self.unlogged = self.unlogged or not decision.logged
        if decision.logged:
            assert world.decider.why(decision.decision_id).same

    def _approve(self) -> None:
        decider = self.world.decider
        moments = {one.decision_id: one.moment for one in decider.decisions()}
        for waiting in decider.waiting() if self.world.consent.yes else ():
            answer = decider.approve(waiting.decision_id, by="ann")
            if answer.action is not None:
                self._watch(answer.action, moments[waiting.decision_id])

    def _reopen(self) -> None:
        # What was shown without consent is counted in memory alone.
        if not self.unlogged:
            before = (self.world.decider.decisions(), self.world.decider.waiting())
            self.world.decider = self.world.opened()
            assert before == (self.world.decider.decisions(), self.world.decider.waiting())

    def _track(self, what: str, item: str) -> None:
        if what == "return" and item not in self.witness.bought:
            return
        self.world.track(what, None if what == "support" else item)
        if what == "purchase":
            self.witness.bought[item] = self.world.clock.now_s()
        elif what == "return":
            self.witness.bought.pop(item, None)

    def _set(self, what: str, seed: int) -> None:
        if what == "consent":
            self.world.consent.yes = not self.world.consent.yes
            return
        before = self.world.preferences
        self.world.preferences = Preferences(
            channels=before.channels | ({CHANNELS[seed % 3]} if what == "open" else set()),
            less=frozenset({TOPICS[seed % 4]}) if what == "less" else before.less,
        )

    def _watch(self, action: Action, moment: Moment) -> None:
        zone = moment.context.utc_offset_s
        self.witness.check(action, moment.session, zone, personal=self.world.consent.yes)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_decider_any_policy_and_history_holds_its_promise(seed: int) -> None:
    """No cap exceeded, nothing excluded shown, every decision replays, propensities are chances.

    A random generator of the seed makes each life: it is denser in decisions that show something
    than examples that are drawn one by one.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    life = Life(random_policy(rng), remembers=rng.random() < 0.5)
    for _ in range(STEPS):
        life.world.clock.advance(rng.choice(PAUSES_S))
        zone = rng.choice([None, 0, 7_200, -18_000])
        moment = Moment(name="home", session=rng.choice("st"), context=Context(utc_offset_s=zone))
        what = "decide" if rng.random() < 0.65 else rng.choice(OTHER_STEPS)
        life.step(what, random_actions(rng), rng.getrandbits(63), moment)
    for decision in life.world.decider.decisions():
        assert life.world.decider.why(decision.decision_id).same
