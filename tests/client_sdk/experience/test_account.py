"""A decision told in friendly words: true, in whole sentences, translatable."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk import Homebody
from client_sdk.experience.account import Teller
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.decisions import Decision, Stage, Status
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.person import NO_CONSENT, NOTHING_BETTER, NOTHING_KNOWN
from client_sdk.experience.phrases import CAUSES, ENGLISH, check_translation, gaps

SHOES = Action(action_id="shoes", rule="your shelf")


def decision(**changes: Any) -> Decision:
    """A choice with a reason."""
    given: dict[str, Any] = {
        "decision_id": "d", "time_s": 0.0, "moment": Moment(name="home"), "action": SHOES,
        "status": Status.CHOSEN, "reason": "Because you looked at it.", "model": "prior",
        "policy": "p", "confidence": 0.6, "propensity": 0.9, "stages": (), **changes,
    }  # fmt: skip
    return Decision(**given)


def test_tell_says_what_why_and_what_was_left_out() -> None:
    """The whole account of a choice."""
    refused = {
        "letter": ("opt-in", "quiet-hours"),
        "sms": ("quiet-hours",),
        "mug": ("already-bought", "less-of-this"),
        "push": ("cap:push:day",),
        "pop-up": ("cap:in-app:session",),
    }
    assert Teller(name=str.upper).tell(decision(), refused=refused, same=True) == [
        "We suggested SHOES because you looked at it.",
        "The idea came from your shelf.",
        "We are fairly sure that it is for you.",
        "We left out MUG: you asked for less of it.",
        "We left out LETTER: you have not said yes to the way in which it would reach you.",
        "We left out SMS: it is your quiet time now, or your time of day is not known.",
        "We left out 2 suggestions (PUSH, POP-UP): you got enough of these for now.",
        "We checked this account: deciding again from what was noted gives the same.",
    ]


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"reason": NOTHING_KNOWN}, "We suggested shoes."),
        (
            {"status": Status.WAITING, "action": None, "proposed": SHOES},
            "We may suggest shoes, but a person has to say yes to it first.",
        ),
        (
            {"status": Status.FALLBACK, "reason": NO_CONSENT, "confidence": None},
            (
                "We showed shoes, as everybody gets it: without your yes to personal suggestions "
                "nothing about you was read."
            ),
        ),
        (
            {"status": Status.FALLBACK, "reason": NOTHING_BETTER},
            (
                "We showed shoes, as everybody gets it: nothing that we could choose for you was "
                "allowed or sure enough."
            ),
        ),
        ({"status": Status.NOTHING, "action": None}, "We suggested nothing."),
        (
            {
                "status": Status.NOTHING,
                "action": None,
                "stages": (Stage(name="guardrails", left=0, refused={"cap:push:day": 9}),),
            },
            "We suggested nothing: you got enough of these for now.",
        ),
    ],
)
def test_tell_begins_with_what_was_done(changes: dict[str, Any], first: str) -> None:
    """Each ending of a decision has its sentence."""
    assert Teller().tell(decision(**changes))[0] == first


def test_tell_is_honest_about_doubt_and_chance() -> None:
    """How sure, by chance, not noted, not the same: each is said."""
    said = Teller().tell(decision(confidence=0.2, propensity=0.03, logged=False), same=False)
    assert "We are not very sure that it is for you, and will learn from what you do." in said
    assert "Chance had a part in it, so that we learn: 3 in 100 for this one." in said
    assert "Without your yes nothing of this was noted." in said
    assert said[-1].startswith("Careful: deciding again from what was noted does NOT give")
    assert "We are quite sure that it is for you." in Teller().tell(decision(confidence=0.9))


def test_tell_of_many_names_three() -> None:
    """A hundred names are no explanation."""
    refused = {f"tip {n}": ("sold-out",) for n in range(100)}
    unsure = (Stage(name="confidence", left=1, refused={"minimum-confidence": 4}),)
    said = Teller().tell(decision(stages=unsure), refused=refused)
    left = [one for one in said if one.startswith("We left out")]
    assert left == [
        "We left out 100 suggestions (tip 0, tip 1, tip 2 and 97 more): it is sold out.",
        "We left out 4 more: we were not sure enough that you would like it.",
    ]


@given(
    refused=st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.lists(st.sampled_from([*CAUSES, "cap:a:day", "own-rule"]), min_size=1, max_size=3),
        max_size=8,
    ),
    status=st.sampled_from(Status),
    confidence=st.none() | st.floats(0, 1),
    propensity=st.none() | st.floats(0.001, 1),
    known=st.booleans(),
)
def test_tell_of_any_decision_is_whole_sentences_without_names_of_code(
    refused: dict[str, list[str]],
    status: Status,
    confidence: float | None,
    propensity: float | None,
    known: bool,
) -> None:
    """No stage, no rule, no gap that was not filled; each left-out action is counted once."""
    action = None if status is Status.NOTHING else SHOES
    made = decision(
        status=status, action=action, confidence=confidence, propensity=propensity, logged=known
    )
    said = Teller(name=lambda _: "this").tell(made, refused=refused, same=known)
    for one in said:
        assert re.fullmatch(r"[A-Z][^{}_]*[.]", one), one
        assert not re.search(r"guardrails|eligibility|opt-in|own-rule|cap:", one)
    counts = [re.match(r"We left out (\d+|this)", one) for one in said]
    assert sum(1 if c[1] == "this" else int(c[1]) for c in counts if c) == len(refused)


def test_translation_is_used_and_english_where_it_is_silent() -> None:
    """Another language is another mapping."""
    german = {"chosen because": "Wir haben {what} vorgeschlagen, denn: {cause}."}
    said = Teller(phrases=german).tell(decision())
    assert said[0] == "Wir haben shoes vorgeschlagen, denn: you looked at it."
    assert said[1] == "The idea came from your shelf."


@pytest.mark.parametrize(
    "phrases", [{"no such": "x"}, {"chosen": "{who}"}, {"chosen": "{"}, {"chosen": "{what} {}"}]
)
def test_translation_that_is_none_is_refused(phrases: dict[str, str]) -> None:
    """An unknown phrase or gap is found before anybody reads it."""
    with pytest.raises(ValueError, match="phrases"):
        Teller(phrases=phrases)


def test_phrases_name_every_rule_of_a_policy() -> None:
    """A guardrail that is added needs a cause in plain words."""
    policy = GuardrailPolicy.from_toml(
        'version = 1\nname = "all"\n[channels.in-app]\nopt_in = false\nper_day = 9\n'
        '[quiet_hours]\nfrom = "20:30"\nto = "08:00"\nchannels = ["in-app"]\n'
        '[fatigue]\nmessages_7_days = 6\nchannels = ["in-app"]\n[bought]\nwithin_days = 30\n'
        '[sensitive]\ntopics = ["debt"]\n[never]\ntopics = ["gambling"]\n'
    )
    names = {rule.name.partition(":")[0] for rule in policy.all_rules}
    assert len(names) > 5
    assert names <= set(CAUSES)
    check_translation(ENGLISH)
    assert gaps(ENGLISH["left out some"]) == {"count", "what", "cause"}


def test_decision_of_a_home_is_told(home: Homebody) -> None:
    """From a real log: the choice, the cause, what was left out."""
    policy = GuardrailPolicy.from_toml(
        'version = 1\nname = "small"\n[channels.in-app]\nopt_in = false\nper_day = 9\n'
        "[bought]\nwithin_days = 30\n"
    )
    home.track("product_view", item="teapot")
    decider = home.decider(policy)
    actions = [Action(action_id=item, item_id=item) for item in ("teapot", "mug")]
    why = decider.why(decider.decide(Moment(name="home"), actions, seed=1).decision_id)
    said = Teller().tell(why.decision, refused=why.refused, same=why.same)
    assert said[0] == "We suggested teapot because you looked at it."
    assert "We left out mug: you have it already." in said
