"""The four journeys: they play on a real store, and what must never happen does not."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from client_sdk.experience.content import (
    FINANCIAL_PROMISES,
    MEDICAL_CLAIMS,
    PRESSURE,
    Usable,
    content_schema,
)
from client_sdk.experience.content.folding import readings
from client_sdk.experience.decisions import Status
from client_sdk.experience.journeys import (
    Journey,
    JourneyState,
    Runner,
    journey_schema,
    mermaid,
    svg,
)
from client_sdk.signals.events import ITEM_KINDS, Event

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "journeys"
NAMES = ("retail", "saas", "finance", "travel")


def _module() -> ModuleType:
    name = "homebody_journey_examples"
    spec = importlib.util.spec_from_file_location(name, FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


run = _module()


@cache
def stage(name: str) -> Any:
    """One journey and all that it needs."""
    return run.Stage(name)


@cache
def played(name: str) -> Any:
    """What happened in the scripted play."""
    return stage(name).play()


def check_never(name: str, play: Any) -> None:
    """What must never happen, whatever the person does."""
    journey: Journey = stage(name).journey
    for one in play.spoken:
        channel = journey.channels[one.channel]
        assert "personalise" in one.consents, "a message without consent"
        assert one.decision.action is not None, "a message that the decider did not let through"
        assert one.decision.action.action_id == one.action_id
        assert one.replayed, "a decision that does not replay"
        if one.channel in ("email", "push", "sms"):
            assert 7.5 <= one.now_s % 86_400 / 3_600 < 21, "a message in the night"
        if one.channel in ("sales", "agent", "front-desk"):
            assert one.reason == APPROVED, "a note about a person that nobody read"
        assert not channel.opt_in or one.channel in one.opt_ins, f"{one.channel} without opt-in"
        assert "{" not in one.text, "a half-filled text"
        if "location" in one.tags or "km" in one.text:
            assert "location" in one.opt_ins, "location without consent"
        if name == "finance":
            check_no_promise(one.text)
        window = [
            other.now_s
            for other in play.spoken
            if other.channel == one.channel and one.now_s - channel.per_s < other.now_s <= one.now_s
        ]
        assert len(window) <= channel.cap, f"{one.channel} over its cap"
    sales = [place for place, one in enumerate(play.spoken) if one.channel == "sales"]
    asked = [
        place for place, one in enumerate(play.spoken) if one.action_id.endswith("/ask-contact")
    ]
    assert not sales or (asked and asked[0] < sales[0]), "sales before intent"


APPROVED = "Because somebody read the proposal and approved it."


def check_no_promise(text: str) -> None:
    """No promise, no medical claim, no pressure, in any reading; no amount at all."""
    for claim in (*FINANCIAL_PROMISES, *MEDICAL_CLAIMS, *PRESSURE):
        assert not any(claim.found(reading) for reading in readings(text)), claim.name
    assert not any(char.isdigit() or char in "%£€$" for char in text)


@pytest.mark.parametrize("name", NAMES)
def test_example_files_fit_the_published_schemas(name: str) -> None:
    """Checked by a library that is not ours."""
    for suffix, schema in (("", journey_schema()), (".content", content_schema())):
        text = (FOLDER / f"{name}{suffix}.toml").read_text(encoding="utf-8")
        Draft202012Validator(schema).validate(tomllib.loads(text))


@pytest.mark.parametrize("name", NAMES)
def test_example_every_message_is_there_with_the_slots_that_actions_have(name: str) -> None:
    """No action names a message that the library lacks, or lacks a slot that a text needs."""
    library, journey = stage(name).content, stage(name).journey
    for state in journey.states.values():
        for rule in (*state.enter, *state.exit):
            assert library.slots_of(rule.content) <= set(rule.slots)


@pytest.mark.parametrize("name", NAMES)
def test_example_scripted_play_never_does_what_must_not_happen(name: str) -> None:
    """The conversation that the command prints; every message has its reason."""
    play = played(name)
    assert len(play.spoken) >= 4
    assert all(one.reason.startswith("Because ") for one in play.spoken)
    assert len({one.channel for one in play.spoken}) >= 2
    check_never(name, play)


def channels(name: str) -> list[tuple[str, str]]:
    """Channel and action of each message of the play."""
    return [(one.channel, one.action_id.rpartition("/")[2]) for one in played(name).spoken]


def test_retail_play_sends_no_sms_before_and_after_the_opt_in() -> None:
    """One SMS, while it was open; withheld ones before and after it."""
    assert channels("retail") == [
        ("web", "petite-edit"),
        ("email", "new-in"),
        ("web", "thanks"),
        ("sms", "parcel"),
        ("email", "price-note"),
    ]
    assert [one.channel for one in played("retail").withheld] == ["push", "sms", "sms"]


def test_retail_play_decider_refuses_the_note_at_night_and_lets_it_through_by_day() -> None:
    """The journey would have written; the decider said no, with its reason, and it cost no cap."""
    (refused,) = played("retail").refused
    assert refused.proposal.action.action_id.endswith("/price-note")
    assert refused.decision.status is Status.NOTHING
    assert "quiet-hours" in refused.decision.reason
    assert not refused.text
    night = next(state for state in played("retail").states if state.at == "price-minded")
    assert len(night.sent_s["email"]) == 1
    assert channels("retail")[-1] == ("email", "price-note")


@pytest.mark.parametrize(
    ("name", "channel"), [("saas", "sales"), ("finance", "agent"), ("travel", "front-desk")]
)
def test_play_note_about_a_person_waits_until_somebody_reads_it(name: str, channel: str) -> None:
    """Nothing is said while it waits, and nothing at all where nobody approves."""
    (waited,) = played(name).waiting
    assert (waited.proposal.action.channel, waited.text) == (channel, "")
    assert channel in {said for said, _ in channels(name)}
    script = [
        {key: value for key, value in row.items() if key != "approve"}
        for row in stage(name).person["script"]
    ]
    assert channel not in {one.channel for one in stage(name).play(script).spoken}


def test_retail_play_refuses_the_made_up_discount_and_takes_the_true_text() -> None:
    """The guard in use: one text taken, one refused for its facts."""
    by_action = {one.action_id.rpartition("/")[2]: one for one in played("retail").spoken}
    assert by_action["petite-edit"].source == "copywriter"
    note = by_action["price-note"]
    assert note.source == "template"
    assert {"claim", "facts"} <= {one.rule for one in note.objections}
    assert "£45.00" in note.text


def test_retail_play_stands_still_after_consent_is_withdrawn() -> None:
    """The last state stays; the last event was not stored."""
    last = played("retail").states[-1]
    assert last.at == "price-minded"
    assert "not stored: no consent" in played("retail").lines[-1]


def test_saas_play_tells_sales_last_and_once() -> None:
    """Looking at the prices is no intent."""
    said = [channel for channel, _ in channels("saas")]
    assert said.count("sales") == 1
    assert said[-1] == "sales"
    assert ("in-app", "tooltip") in channels("saas")
    assert ("in-app", "checklist") in channels("saas")


def test_finance_play_refuses_the_promise_and_says_the_template() -> None:
    """What a model promised is not said."""
    (pushed,) = [one for one in played("finance").spoken if one.channel == "push"]
    assert "guarantee" in {one.detail for one in pushed.objections}
    assert pushed.text.startswith("Your application is saved.")
    assert ("agent", "agent-summary") in channels("finance")


def test_finance_every_text_of_the_library_makes_no_promise() -> None:
    """Not only what the script happens to say."""
    for variants in stage("finance").content.messages.values():
        for variant in variants:
            check_no_promise(variant.text)


def test_travel_play_uses_no_location_after_it_was_taken_back() -> None:
    """The app still says the distance; the key comes by tap."""
    assert ("in-app", "mobile-key") not in channels("travel")
    assert ("in-app", "key-by-tap") in channels("travel")
    assert ("front-desk", "desk-note") in channels("travel")


def test_travel_location_that_stays_open_gives_the_key_by_itself() -> None:
    """The other way round: the rule does not simply never fire."""
    script = [row for row in stage("travel").person["script"] if "refuse_permission" not in row]
    play = stage("travel").play(script)
    (key,) = [one for one in play.spoken if one.action_id.endswith("/mobile-key")]
    assert key.text.startswith("About 2 km to go")
    check_never("travel", play)


def sources(name: str) -> tuple[list[str], list[str]]:
    """The kinds that move a journey, and what a person may open."""
    journey = stage(name).journey
    kinds = {one.on for one in journey.transitions if one.on} | {"screen"}
    opened = [one.name for one in journey.channels.values() if one.opt_in] + [*journey.opt_ins]
    return sorted(kinds), opened


PROPERTIES: dict[str, list[dict[str, Any]]] = {
    "product_view": [{"petite": True}, {}],
    "checklist_step": [{"area": "automation"}, {"area": "alerts"}],
    "form_error": [{"field": "picture"}],
    "checkout_step": [{"step": "identity"}, {"step": "identity", "completed": True}],
    "screen": [{"topic": "identity"}, {}],
    "arrival_delayed": [{"minutes": 5}, {"minutes": 90}],
}
FACTS = [
    {"distance_km": 1.0, "arrival": "23:45"},
    {"distance_km": 90.0, "seats": 12.0, "document": "passport"},
    {"document": "{guaranteed}", "arrival": "evil.example"},
    {},
]
WAITS = ("1 minute", "11 minutes", "2 hours", "1 day", "3 days", "15 days")


@st.composite
def scripts(draw: st.DrawFn, name: str) -> list[dict[str, Any]]:
    """Any order of events, opt-ins, withdrawals and pauses."""
    kinds, opened = sources(name)
    rows: list[dict[str, Any]] = [{"consent": "personalise"}]
    for _ in range(draw(st.integers(1, 14))):
        row: dict[str, Any] = {"after": draw(st.sampled_from(WAITS))}
        what = draw(
            st.sampled_from(["event"] * 6 + ["allow", "refuse", "approve", "consent", "pause"])
        )
        if what == "event":
            kind = draw(st.sampled_from(kinds))
            row["event"] = kind
            row["properties"] = draw(st.sampled_from(PROPERTIES.get(kind, [{}])))
            if kind in ITEM_KINDS:
                row["item"] = draw(st.sampled_from(["riva-shirt", "riva-trousers", "unknown"]))
                row["price"] = 39.0
            row["facts"] = draw(st.sampled_from(FACTS))
        elif what in ("allow", "refuse"):
            one = draw(st.sampled_from(opened))
            row[f"{what}_permission" if one in stage(name).journey.opt_ins else what] = one
        elif what == "approve":
            row["approve"] = draw(st.sampled_from(["sales", "agent", "front-desk"]))
        elif what == "consent":
            row[draw(st.sampled_from(["consent", "withdraw"]))] = "personalise"
        else:
            row["pause"] = "1 hour"
        rows.append(row)
    return rows


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_example_any_order_on_a_real_store_never_does_what_must_not_happen(
    name: str, data: st.DataObject
) -> None:
    """The real store, features, consent and content; hostile facts among them."""
    check_never(name, stage(name).play(data.draw(scripts(name))))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_example_any_order_of_steps_never_proposes_what_must_not_happen(
    name: str, data: st.DataObject
) -> None:
    """The runner alone, many more orders: opt-ins and consent may change before every step."""
    journey = stage(name).journey
    runner, now_s, asked = Runner(journey), 0.0, False
    kinds, opened = sources(name)
    state = runner.begin(now_s)
    for _ in range(data.draw(st.integers(1, 25))):
        now_s += data.draw(st.sampled_from([60.0, 700.0, 90_000.0, 300_000.0]))
        opt_ins = data.draw(st.frozensets(st.sampled_from(opened)))
        yes = data.draw(st.sampled_from([True, True, True, False]))
        usable = Usable(
            features={"petite_views_30_days": 3.0, "price_sensitivity": 0.9}
            | {"repeated_form_errors_7_days": 2.0},
            favourites={"category_affinity": "linen"},
            facts={"distance_km": 1.0},
            consents=frozenset({"personalise"}) if yes else frozenset(),
            opt_ins=opt_ins,
        )
        event = None
        if data.draw(st.sampled_from([True, True, False])):
            kind = data.draw(st.sampled_from(kinds))
            properties = data.draw(st.sampled_from(PROPERTIES.get(kind, [{}])))
            event = Event(kind=kind, time_s=now_s, item_id="riva-shirt", properties=properties)
            asked |= yes and kind == "demo_request"
        step = runner.step(state, event, usable, now_s)
        for proposal in step.proposals:
            action = proposal.action
            assert yes
            assert not journey.channels[action.channel].opt_in or action.channel in opt_ins
            assert "location" not in action.tags or "location" in opt_ins
            assert action.channel != "sales" or asked
        if "location" not in opt_ins:
            assert "distance_km" not in step.seen.facts
        state = JourneyState.from_json(json.loads(json.dumps(step.state.to_json())))


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the example as a newcomer does."""
    return subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_command_all_prints_four_conversations_the_same_each_time() -> None:
    """One command; each message with its reason."""
    first, second = command("--all"), command("--all")
    assert first.returncode == 0
    assert first.stdout == second.stdout
    for name in NAMES:
        assert stage(name).journey.title in first.stdout
    plays = [played(name) for name in NAMES]
    assert first.stdout.count("why: Because ") == sum(
        len(play.spoken) + len(play.waiting) for play in plays
    )
    for one in (message for play in plays for message in play.spoken):
        assert f"decided: chosen (decision {one.decision.decision_id[:8]}): " in first.stdout
    assert first.stdout.count(": refused (decision ") == sum(len(play.refused) for play in plays)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("retial",),
        ("retail", "--all"),
        ("retail", "--nonsense"),
        ("retail", "--diagram", "x.png"),
        ("--all", "--diagram", "x.svg"),
    ],
)
def test_command_bad_words_exit_2_with_one_line(words: tuple[str, ...]) -> None:
    """No traceback, no page of usage."""
    done = command(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("run.py: ")


def test_command_draws_and_explains(tmp_path: Path) -> None:
    """The pictures are those of the library; the words too."""
    for suffix, draw in (("svg", svg), ("mmd", mermaid)):
        path = tmp_path / f"travel.{suffix}"
        assert command("travel", "--diagram", str(path)).returncode == 0
        assert path.read_text(encoding="utf-8") == draw(stage("travel").journey)
    assert command("saas", "--explain").stdout.splitlines() == stage("saas").journey.explain()
    assert "python examples/journeys/run.py retail" in command("--help").stdout


def test_simulate_bundled_purchases_say_what_would_be_sent() -> None:
    """798 real customers: each buys, so each is thanked; nobody is over a cap."""
    catalogue, histories = run.bundled_histories()
    report = run.simulate(
        stage("retail").journey,
        histories[:60],
        catalogue=catalogue,
        features=stage("retail").features,
        opt_ins=["sms"],
    )
    assert report.people == report.entered == report.reached["bought"] == 60
    assert report.messages["sms"] > 60
    assert report.busiest_week == 2
