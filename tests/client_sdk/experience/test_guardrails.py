"""Guardrails: each rule at its edge, and a policy file read strictly and said in words."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action
from client_sdk.experience.guardrails.dry_run import Question, dry_run, questions_of_events
from client_sdk.experience.guardrails.matter import (
    AlreadyBought,
    CoolDown,
    LessOf,
    Never,
    OfferActive,
    ProtectedAttributes,
    SensitiveTopics,
    SoldOut,
)
from client_sdk.experience.guardrails.matter import Waiting as WaitingRule
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.guardrails.reach import Cap, Fatigue, KnownChannel, OptIn, QuietHours
from client_sdk.experience.guardrails.rule import AllOf, AnyOf, Rule
from client_sdk.experience.ledger import Counts
from client_sdk.experience.situation import Situation
from client_sdk.experience.toml_file import FileMistakeError
from client_sdk.signals.events import Event

EXAMPLE = Path(__file__).parents[3] / "examples" / "policy.toml"
HOUR_S, DAY_S = 3_600.0, 86_400.0
NOW_S = 100 * DAY_S + 12 * HOUR_S
PUSH = frozenset({"push"})
SMALL = "version = 1\n[channels.push]\nper_day = 1\n"


def refused(rule: Rule, action: dict[str, Any], **situation: Any) -> bool:
    """Whether a rule refuses one action."""
    table = ActionTable([Action(**{"action_id": "a", "channel": "push", **action})])
    mask = rule.refused(table, Situation(**{"now_s": NOW_S, **situation}))
    assert mask.shape == (1,)
    assert rule.in_words()
    return bool(mask[0])


@pytest.mark.parametrize(
    ("rule", "action", "situation", "expected"),
    [
        (KnownChannel(channels=PUSH), {}, {}, False),
        (KnownChannel(channels=PUSH), {"channel": "sms"}, {}, True),
        (OptIn(channels=PUSH), {}, {}, True),
        (OptIn(channels=PUSH), {}, {"opted_in": PUSH}, False),
        (OptIn(channels=PUSH), {}, {"opted_in": PUSH, "paused": True}, True),
        (OptIn(channels=PUSH), {"channel": "in-app"}, {"paused": True}, False),
        (Cap(channel="push", per="day", limit=2), {}, {"counts": {"push": Counts(9, 1, 9)}}, False),
        (Cap(channel="push", per="day", limit=2), {}, {"counts": {"push": Counts(0, 2, 2)}}, True),
        (Cap(channel="push", per="session", limit=0), {}, {}, True),
        (Cap(channel="sms", per="week", limit=0), {}, {}, False),
        (Fatigue(channels=PUSH, messages_7_days=3), {}, {"messages_7_days": 2}, False),
        (Fatigue(channels=PUSH, messages_7_days=3), {}, {"messages_7_days": 3}, True),
        (
            Fatigue(channels=PUSH, messages_7_days=3),
            {},
            {"counts": {"push": Counts(0, 0, 3)}},
            True,
        ),
        (Fatigue(channels=PUSH, dismissed_share=0.5), {}, {"dismissed_share": 0.5}, True),
        (Fatigue(channels=PUSH, dismissed_share=0.5), {}, {}, False),
        (CoolDown(after="complaint", hours=2), {}, {"last_complaint_s": NOW_S - 7_199}, True),
        (CoolDown(after="complaint", hours=2), {}, {"last_complaint_s": NOW_S - 7_200}, False),
        (CoolDown(after="complaint", hours=2), {}, {"last_return_s": NOW_S}, False),
        (CoolDown(after="return", hours=2), {}, {"last_return_s": NOW_S + 60}, True),
        (
            CoolDown(after="return", hours=2, except_kinds=frozenset({"message"})),
            {},
            {"last_return_s": NOW_S},
            False,
        ),
        (AlreadyBought(), {"item_id": "tea"}, {"bought_s": {"tea": 0.0}}, True),
        (AlreadyBought(), {"item_id": "mug"}, {"bought_s": {"tea": 0.0}}, False),
        (AlreadyBought(within_days=1), {"item_id": "tea"}, {"bought_s": {"tea": 0.0}}, False),
        (AlreadyBought(within_days=1), {"item_id": "tea"}, {"bought_s": {"tea": NOW_S}}, True),
        (SoldOut(), {"item_id": "tea"}, {"sold_out": frozenset({"tea"})}, True),
        (LessOf(), {"topic": "Tea"}, {"less": frozenset({"tea"})}, True),
        (LessOf(), {"tags": ("tea",)}, {"less": frozenset({"tea"})}, True),
        (LessOf(), {"item_id": "x"}, {"less_items": frozenset({"x"})}, True),
        (LessOf(), {"topic": "mug"}, {"less": frozenset({"tea"})}, False),
        (WaitingRule(), {}, {"waiting": frozenset({"a"})}, True),
        (SensitiveTopics(words=frozenset({"debt"})), {"topic": "Debt"}, {}, True),
        (Never(actions=frozenset({"a"})), {}, {}, True),
        (Never(kinds=frozenset({"offer"})), {"kind": "offer"}, {}, True),
        (Never(words=frozenset({"adult"})), {"tags": ("adult",)}, {}, True),
        (Never(words=frozenset({"adult"})), {}, {}, False),
        (ProtectedAttributes(), {"topic": "religion"}, {}, True),
        (ProtectedAttributes(), {"tags": ("userGender",)}, {}, True),
        (ProtectedAttributes(), {"rule": "target by age group"}, {}, True),
        (ProtectedAttributes(), {"features": (1.0,), "feature_names": ("is_pregnant",)}, {}, True),
        (ProtectedAttributes(allow=frozenset({"allergy"})), {"topic": "allergy"}, {}, False),
        (ProtectedAttributes(), {"topic": "tea"}, {}, False),
    ],
)
def test_rule_at_its_edge_refuses_or_passes(
    rule: Rule, action: dict[str, Any], situation: dict[str, Any], expected: bool
) -> None:
    """One row an edge."""
    assert refused(rule, action, **situation) is expected


@pytest.mark.parametrize(
    ("one", "offers", "expected"),
    [
        (True, {"other"}, True),
        (False, {"other"}, False),
        (False, {"a"}, True),
        (True, set(), False),
    ],
)
def test_offer_active_one_or_the_same_is_refused(
    one: bool, offers: set[str], expected: bool
) -> None:
    """Never doubled; other kinds pass."""
    rule = OfferActive(kinds=frozenset({"offer"}), active_days=7, one_at_a_time=one)
    assert refused(rule, {"kind": "offer"}, offers=frozenset(offers)) is expected
    assert not refused(rule, {"kind": "message"}, offers=frozenset(offers))
    assert refused(rule, {"kind": "offer", "item_id": "tea"}, offers=frozenset({"tea"}))


@given(st.integers(0, 1_439), st.integers(0, 1_439), st.integers(0, 3_000), st.integers(-840, 840))
def test_quiet_hours_any_zone_agree_with_walking_the_clock(
    start: int, end: int, minute: int, zone: int
) -> None:
    """The window from start on, around midnight, is quiet until its end."""
    if start == end:
        with pytest.raises(ValueError, match="quiet hours"):
            QuietHours(start_minute=start, end_minute=end, channels=PUSH)
        return
    rule = QuietHours(start_minute=start, end_minute=end, channels=PUSH)
    local = (minute + zone) % 1_440
    expected = (local - start) % 1_440 < (end - start) % 1_440
    assert refused(rule, {}, now_s=minute * 60.0 + 59.0, utc_offset_s=zone * 60) is expected
    assert refused(rule, {}, now_s=minute * 60.0, utc_offset_s=None)
    assert not refused(rule, {"channel": "in-app"}, now_s=minute * 60.0, utc_offset_s=None)


def test_composition_empty_refuses_and_joins_as_it_says() -> None:
    """`AllOf` is strict, `AnyOf` is not; nothing is refused by neither of no rules."""
    no, yes = Never(actions=frozenset({"a"})), Never(actions=frozenset({"b"}))
    assert refused(AllOf(rules=()), {})
    assert refused(AnyOf(rules=()), {})
    assert refused(AllOf(rules=(no, yes)), {})
    assert not refused(AnyOf(rules=(no, yes)), {})
    assert refused(AnyOf(rules=(no, no)), {})
    assert not refused(AllOf(rules=(yes, yes)), {})


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (GuardrailPolicy(), "no policy"),
        (GuardrailPolicy.from_toml(""), "empty"),
        (GuardrailPolicy.from_toml("# nothing\n"), "only a comment"),
        (GuardrailPolicy.read(Path("no-such-policy.toml")), "missing"),
        (GuardrailPolicy().and_also(SoldOut()), "an own rule is no policy"),
    ],
)
def test_policy_empty_or_missing_refuses_everything(policy: GuardrailPolicy, why: str) -> None:
    """Fail closed, whatever the reason."""
    table = ActionTable([Action(action_id="a"), Action(action_id="b")])
    (name, mask), *others = policy.masks(table, Situation(now_s=0.0))
    assert (name, mask.all(), others) == ("no-policy", True, []), why
    assert policy.explain() == ["Everything is refused: the policy is empty."]


def test_policy_example_says_every_rule_in_words() -> None:
    """The file that ships is valid, and nothing of it is silent."""
    policy = GuardrailPolicy.read(EXAMPLE)
    said = policy.explain()
    assert len(policy.rules) >= 20
    assert len(said) == len(policy.rules) + 4
    assert all(sentence.endswith(".") for sentence in said)
    assert "At most 1 by push in any 24 hours." in said
    assert any("20:30 to 08:00" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("version = 1\n", 1, "channels"),
        ("version = 2\n[channels.push]\nper_day = 1\n", 1, "version"),
        ("name = 'x'\n", 1, "version"),
        ("version = true\n", 1, "version"),
        ("version = 1\n[channels]\npush = 3\n", 3, "push"),
        ("version = 1\n[channels.Push]\nper_day = 1\n", 2, "Push"),
        ("version = 1\n\n[channels.push]\nper_session = 1\n", 3, "push"),
        ("version = 1\n[channels.push]\nper_day = 1.5\n", 3, "per_day"),
        ("version = 1\n[channels.push]\nper_day = true\n", 3, "per_day"),
        ("version = 1\n[channels.push]\nper_day = -1\n", 3, "per_day"),
        ("version = 1\n[channels.push]\nper_dya = 1\nper_day = 1\n", 3, "per_dya"),
        ("version = 1\n[channels.push]\nper_day = 1\nopt_in = 'no'\n", 4, "opt_in"),
        (SMALL + "[quiet]\nfrom = '21:00'\n", 4, "quiet"),
        (SMALL + "[quiet_hours]\nfrom = '21:00'\n", 4, "to"),
        (SMALL + "[quiet_hours]\nfrom = '21:00'\nto = '24:00'\n", 6, "to"),
        (SMALL + "[quiet_hours]\nfrom = '21:00'\nto = '21:00'\n", 6, "to"),
        (SMALL + "[quiet_hours]\nfrom = '1:00'\nto = '21:00'\n", 5, "from"),
        (SMALL + "[fatigue]\n", 4, "messages_7_days"),
        (SMALL + "[fatigue]\ndismissed_share = nan\n", 5, "dismissed_share"),
        (SMALL + "[fatigue]\nmessages_7_days = 1\nchannels = ['sms']\n", 6, "channels"),
        (SMALL + "[cool_down]\nexcept_kinds = ['help']\n", 4, "after_complaint_hours"),
        (SMALL + "[bought]\nexcept_kinds = ['Help me']\n", 5, "except_kinds"),
        (SMALL + "[offers]\none_at_a_time = true\n", 4, "active_days"),
        (SMALL + "[offers]\nactive_days = 1\nkinds = []\n", 6, "kinds"),
        (SMALL + "[sensitive]\ntopics = [\n  'a',\n  '',\n]\n", 5, "topics"),
        (SMALL + "[sensitive]\ntopics = ['Debt', 'debt']\n", 5, "topics"),
        (SMALL + "[never]\n", 4, "actions"),
        (SMALL + "[never]\nkinds = ['Offer']\n", 5, "kinds"),
        (SMALL + "[protected]\nallow = ['allergy']\n", 4, "reason"),
        (SMALL + "[protected]\nwho = 'me'\n", 5, "who"),
        (SMALL + "[exploration]\nepsilon = 0.2\n", 5, "epsilon"),
        (SMALL + "[exploration]\ncap = 0.9\n", 5, "cap"),
        (SMALL + "[confidence]\nminimum = 2\n", 5, "minimum"),
        (SMALL + "[confidence]\n# a note\n\nmaximum = 2\n", 7, "maximum"),
        (SMALL + "[review]\nhigh_impact = 1\n", 5, "high_impact"),
        ("fallback = 'x'\n" + SMALL, 1, "fallback"),
        ("fallback = ['x']\nfall = '''\n[channels]\n'''\n" + SMALL, 2, "fall"),
    ],
)
def test_policy_file_malformed_is_one_error_with_line_and_key(
    text: str, line: int, key: str
) -> None:
    """The file, the line, the key, what to do; and no value of it."""
    with pytest.raises(FileMistakeError) as caught:
        GuardrailPolicy.from_toml(text, file="shop.toml")
    message = str(caught.value)
    assert message.startswith(f"shop.toml, line {line}: ")
    assert f"{key}: expected " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"version = 1\nname = \n", 2),
        (b"version = 1\nversion = 1\n", 2),
        (b"\xff", 1),
        (b"\n" * 1_001, 1),
    ],
)
def test_policy_file_not_toml_is_one_error_with_its_line(
    tmp_path: Path, data: bytes, line: int
) -> None:
    """Bytes that are no TOML text, or too many lines."""
    path = tmp_path / "shop.toml"
    path.write_bytes(data)
    with pytest.raises(FileMistakeError, match=rf"^shop\.toml, line {line}: expected"):
        GuardrailPolicy.read(path)


@given(st.text(max_size=200) | st.text("[]=\"'.#\nab1 {},", max_size=80))
def test_policy_file_any_text_gives_a_policy_or_one_error(text: str) -> None:
    """No other error leaves the reader."""
    with contextlib.suppress(FileMistakeError):
        GuardrailPolicy.from_toml(text)


def test_policy_own_rules_refuse_more_and_change_the_hash() -> None:
    """`and_also` adds; two policies that differ in a rule differ in their hash."""
    policy = GuardrailPolicy.from_toml(SMALL)
    more = policy.and_also(Never(actions=frozenset({"a"})))
    assert more.all_rules[:-1] == policy.rules
    assert more.sha256 != policy.sha256
    assert more.explain() != policy.explain()


def test_dry_run_counts_what_each_rule_would_have_refused() -> None:
    """Caps count what the tried policy would have let through, not what was done."""
    policy = GuardrailPolicy.from_toml(SMALL + "[never]\ntopics = ['gambling']\n")
    table = ActionTable(
        [
            Action(action_id="a", channel="push"),
            Action(action_id="b", channel="push", topic="gambling"),
        ]
    )
    questions = [
        Question(
            actions=table,
            situation=Situation(now_s=hour * HOUR_S, opted_in=PUSH),
            done=done,
        )
        for hour, done in ((0, "b"), (1, "a"), (2, "a"), (26, "a"), (27, None))
    ]
    run = dry_run(policy, questions)
    assert (run.questions, run.done, run.still_done) == (5, 4, 2)
    assert run.done_refused == {"never": 1, "cap:push:day": 1}
    assert run.actions_refused == {"never": 5, "cap:push:day": 4}
    assert run.in_words()[0] == (
        "Of 4 actions that were done, 2 would be done again and 2 refused."
    )


def test_dry_run_events_are_folded_without_the_future() -> None:
    """Messages of the past: too many, after a complaint, about what was bought, at night."""
    text = "[cool_down]\nafter_complaint_hours = 5\n[bought]\n"
    policy = GuardrailPolicy.from_toml(SMALL.replace("per_day = 1", "per_day = 9") + text)
    rows: list[tuple[float, str, str | None]] = [
        (1, "message_shown", "tea"),
        (2, "purchase", "tea"),
        (3, "message_shown", "tea"),
        (4, "return", "tea"),
        (5, "message_shown", "tea"),
        (6, "support", None),
        (7, "message_shown", None),
        (12, "message_shown", None),
        (13, "message_dismissed", None),
    ]
    events = [
        Event(kind=kind, time_s=hour * HOUR_S, item_id=item, properties={"topic": "tea"})
        for hour, kind, item in reversed(rows)
    ]
    questions = list(questions_of_events(events, opted_in=PUSH, utc_offset_s=0))
    run = dry_run(policy, questions)
    assert (run.done, run.still_done) == (5, 3)
    assert run.done_refused == {"already-bought": 1, "cool-down:complaint": 1}
    assert [question.situation.dismissed_share for question in questions] == [None, 0, 0, 0, 0]
