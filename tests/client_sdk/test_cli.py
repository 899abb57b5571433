"""``homebody device``: a store on disk, looked into, taken along, changed and erased."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client_sdk import Homebody
from client_sdk.cli import main
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.household import Household
from client_sdk.signals.kinds import CustomKind
from client_sdk.signals.signals import SignalRules
from client_sdk.signals.taxonomy import Taxonomy
from client_sdk.signals.vault import DATABASE_FILE
from client_sdk.testing import sample_catalogue
from client_sdk.wire import DEFAULT_POLICY

Run = Callable[..., tuple[int, str, str]]

KINDS = """
[kinds.tasting_booked]
meaning = "A tasting was booked."
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with default keys: five events, one refused, two consents, a wish."""
    place = tmp_path / "ada"
    with Homebody.open(place, catalogue=sample_catalogue()) as home:
        home.consent.grant("personalise", "train")
        for item in ("mug", "green-tea", "mug"):
            home.track("purchase", item=item, price=3.0)
        home.track("product_view", item="kettle")
        home.track("search", query="teapot")
        home.track_many([{"event": "cart", "timestamp": 0}], quarantine=True)
        home.preferences.more("kitchen")
    return place


def run(*words: object) -> tuple[int, str, str]:
    """Run a command; give the exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    code = main(["device", *map(str, words)], stdout=out, stderr=err)
    return code, out.getvalue(), err.getvalue()


def answer(*words: object) -> Any:
    """Run a command that answers with JSON."""
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_device_show_says_what_is_known_and_what_was_refused(store: Path) -> None:
    """Counts, consent, preferences and sentences; and the same as JSON."""
    code, out, err = run("show", store)
    assert (code, err) == (0, "")
    for line in (
        "Events: 5",
        "  purchase: 3",
        "  train: granted, answered",
        "  statistics: never asked",
        "  Show more of: kitchen.",
        "  You made 3 purchases in all.",
        "  1 event was refused: something that is needed was missing.",
        "What left this device: 0 message(s)",
    ):
        assert line in out
    value = answer("show", store)
    assert value["events"] == {"product_view": 1, "purchase": 3, "search": 1}
    assert value["consent"]["train"]["state"] == "granted"
    assert value["quality"]["rejected"] == {"missing": 1}


def test_device_features_lists_value_window_and_meaning(store: Path) -> None:
    """What is not known says so."""
    value = answer("features", store)
    by_name = {row["name"]: row for row in value["features"]}
    assert by_name["purchases_ever"]["value"] == 3
    assert by_name["days_since_last_offer"]["value"] is None
    assert all(row["meaning"] and row["window"] for row in value["features"])
    code, out, _ = run("features", store)
    assert code == 0
    assert "days_since_last_offer" in out
    assert "not known" in out


def test_device_consent_is_given_and_taken_back(store: Path) -> None:
    """The answer counts for the app too; nothing is read after a withdrawal."""
    code, out, _ = run("consent", store, "--grant", "statistics", "--withdraw", "personalise")
    assert code == 0
    assert "  personalise: withdrawn" in out
    assert DEFAULT_POLICY.texts[next(iter(DEFAULT_POLICY.texts))] in out
    assert answer("show", store)["known"] == [
        "Nothing is read: there is no consent to personalise now."
    ]
    code, _, err = run("features", store)
    assert (code, err.count("\n")) == (1, 1)
    assert "consent to 'personalise' is needed" in err
    with Homebody.open(store) as home:
        assert home.consent.allows("statistics")
        assert not home.consent.allows("personalise")
    (record, *_) = answer("consent", store, "--records")["records"]
    assert record


def test_device_consent_uses_the_text_that_the_app_showed(store: Path) -> None:
    """An app's own policy stands when somebody looks without the app."""
    own = replace(DEFAULT_POLICY, version="app-7", valid_for_s=3600)
    with Homebody.open(store, policy=own) as home:
        home.consent.grant("train")
    _, out, _ = run("consent", store)
    assert out.startswith("Policy app-7\n")
    assert answer("consent", store)["consent"]["train"]["state"] == "granted"


def test_device_export_comes_back_in_another_store(store: Path, tmp_path: Path) -> None:
    """Events and wishes come along, consent does not; a second import adds nothing."""
    file = tmp_path / "ada.jsonl"
    code, out, _ = run("export", store, file)
    assert (code, "readable by you only" in out) == (0, True)
    other = tmp_path / "other"
    Homebody.open(other).close()
    code, _, err = run("import", other, file)
    assert (code, err.count("\n")) == (1, 1)
    assert run("consent", other, "--grant", "personalise")[0] == 0
    done = answer("import", other, file)
    assert (done["events"], done["duplicates"]) == (5, 0)
    assert done["left_behind"] == {"consent": 2, "device": 1, "quarantined": 1}
    assert answer("import", other, file)["duplicates"] == 5
    assert answer("show", other)["preferences"]["liked"] == ["kitchen"]
    assert answer("features", other)["features"] != []


def test_device_import_of_own_kinds_needs_their_file(tmp_path: Path) -> None:
    """A kind that nobody declared is refused by its line; declared in a file, it is taken."""
    rules = SignalRules(taxonomy=Taxonomy([CustomKind(name="tasting_booked", meaning="Booked.")]))
    with Homebody.open(tmp_path / "ada", rules=rules) as home:
        home.consent.grant("personalise")
        home.track("tasting_booked")
        home.export(tmp_path / "ada.jsonl")
    with Homebody.open(tmp_path / "other") as home:
        home.consent.grant("personalise")
    code, _, err = run("import", tmp_path / "other", tmp_path / "ada.jsonl")
    assert code == 1
    assert "ada.jsonl, line 3: kind" in err
    (tmp_path / "kinds.toml").write_text(KINDS)
    done = answer(
        "import", tmp_path / "other", tmp_path / "ada.jsonl", "--kinds", tmp_path / "kinds.toml"
    )
    assert done["events"] == 1


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ("", "a line of type 'device'"),
        ('{"type": "device"}\n{"type": "event"', "line 2: expected a whole line"),
        ('{"type": "device"}\nnonsense\n', "line 2: expected JSON"),
        ('{"type": "device"}\n[]\n', "line 2: expected a JSON object"),
        ('{"type": "device"}\n{"type": "code"}\n', "line 2: expected a type"),
        ('{"type": "device"}\n{"type": "preferences"}\n', "line 2: "),
        ('{"type": "device"}\n{"type": "event", "event": "cart"}\n', "line 2: timestamp"),
        ('{"type": "device"}\n{"type": "event", "x": "' + "y" * 70_000 + '"}\n', "line 2: "),
        ('{"type": "device"}\n' + "[" * 50_000 + "\n", "line 2: expected JSON"),
    ],
)
def test_device_import_of_nonsense_names_the_line_and_takes_nothing(
    store: Path, tmp_path: Path, lines: str, where: str
) -> None:
    """One clear line, exit code 1, and the store is as it was."""
    file = tmp_path / "bad.jsonl"
    good = '{"type": "event", "event": "search", "timestamp": 1790000000, "event_id": "n"}\n'
    file.write_text(lines.replace("\n", "\n" + good, 1) if lines else good)
    before = answer("show", store)["events"]
    code, out, err = run("import", store, file)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert where.replace("line 2", "line 3") in err
    assert "bad.jsonl" in err
    assert answer("show", store)["events"] == before


def test_device_decisions_and_why_replay_what_was_decided(store: Path, tmp_path: Path) -> None:
    """The log is listed; one decision is told, decided again, and found the same."""
    assert run("decisions", store)[1] == "Nothing was decided yet.\n"
    assert run("why", store)[0] == 2
    policy = GuardrailPolicy.from_toml(
        'version = 1\nname = "small"\n[channels.in-app]\nopt_in = false\nper_day = 9\n'
        "[bought]\nwithin_days = 30\n"
    )
    actions = [
        Action(action_id="kettle-tip", item_id="kettle", topic="kitchen"),
        Action(action_id="mug-tip", item_id="mug", topic="kitchen"),
    ]
    with Homebody.open(store) as home:
        decision = home.decider(policy).decide(Moment(name="home"), actions, seed=1)
        home.export(tmp_path / "ada.jsonl")
    assert '"type": "decision"' in (tmp_path / "ada.jsonl").read_text()
    code, out, _ = run("decisions", store)
    assert (code, out.count("\n")) == (0, 1)
    assert "home: kettle-tip." in out
    code, out, _ = run("why", store, decision.decision_id[:8])
    assert code == 0
    assert out.startswith("We suggested kettle-tip")
    assert "We left out mug-tip: you have it already.\n" in out
    assert "deciding again from what was noted gives the same" in out
    # Stages are for machines.
    assert "eligibility" not in out
    told = answer("why", store)
    assert told["same"]
    assert told["refused"] == {"mug-tip": ["already-bought"]}
    assert told["decision"]["stages"][0][0] == "eligibility"
    code, _, err = run("why", store, "no-such")
    assert (code, err.count("\n")) == (2, 1)


def test_device_erase_asks_first_and_then_leaves_nothing(store: Path) -> None:
    """Without --yes nothing happens; with it neither key nor store is there."""
    code, _, err = run("erase", store)
    assert code == 2
    assert "--yes" in err
    assert run("erase", store, "--yes")[0] == 0
    assert not (store / DATABASE_FILE).exists()
    assert not list(store.with_name("ada.keys").glob("*"))
    code, _, err = run("show", store)
    assert code == 2
    assert "expected the folder of a store" in err


def test_device_doctor_finds_a_sound_store_sound(store: Path) -> None:
    """Each thing that was looked at is named."""
    code, out, _ = run("doctor", store)
    assert (code, "PROBLEM" in out) == (0, False)
    assert "the features equal a recomputation from every event" in out
    assert out.endswith("The store is sound.\n")


def test_device_doctor_says_what_is_wrong_and_what_to_do(store: Path) -> None:
    """Open permissions, a damaged page, a lost key: a problem each, exit code 1."""
    store.chmod(0o755)
    code, out, _ = run("doctor", store)
    assert code == 1
    assert "PROBLEM" in out
    store.chmod(0o700)
    with Homebody.open(store) as home:
        home.consent.withdraw("train")
        code, out, _ = run("doctor", store)
        assert code == 1
        assert "already open" in out
    damaged = bytearray((store / DATABASE_FILE).read_bytes())
    damaged[-2000:] = bytes(2000)
    (store / DATABASE_FILE).write_bytes(damaged)
    assert run("doctor", store)[0] == 1
    shutil.rmtree(store.with_name("ada.keys"))
    code, out, _ = run("doctor", store, "--json")
    assert code == 1
    (finding,) = json.loads(out)["findings"]
    assert "restore the key" in finding["text"]
    assert not finding["sound"]


def test_device_profile_of_a_household_is_found(tmp_path: Path) -> None:
    """The current person by default, another by id."""
    place = tmp_path / "family"
    with Household.open(place) as household:
        first = household.profile.profile_id
        household.current.consent.grant("personalise")
        household.current.track("search", query="tea")
        second = household.add("Kim").profile_id
        household.switch(second)
    assert answer("show", place)["events"] == {}
    assert answer("show", place, "--profile", first)["events"] == {"search": 1}
    code, _, err = run("show", place, "--profile", "nobody")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = run("show", place / "profiles" / second, "--profile", first)
    assert code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["show"],
        ["shoe", "x"],
        ["show", "nowhere"],
        ["show", "nowhere", "--keys", "a", "--keyring"],
        ["export", "nowhere"],
        ["consent", "nowhere", "--grant"],
    ],
)
def test_device_words_that_cannot_be_used_are_one_line_and_code_2(words: list[str]) -> None:
    """No traceback, no usage page."""
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("homebody: error: ")


def test_device_unknown_purpose_and_unreadable_files_are_told(store: Path, tmp_path: Path) -> None:
    """A wrong purpose is the caller's mistake; a missing file is named."""
    code, _, err = run("consent", store, "--grant", "everything")
    assert (code, "a purpose is one of" in err) == (2, True)
    code, _, err = run("import", store, tmp_path / "no-such.jsonl")
    assert (code, "no-such.jsonl: no such file" in err) == (1, True)
    (tmp_path / "kinds.toml").write_text("[[[")
    code, _, err = run("import", store, tmp_path / "x", "--kinds", tmp_path / "kinds.toml")
    assert (code, "--kinds: " in err, err.count("\n")) == (2, True, 1)


def test_device_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """The page has examples, and says where keys lie."""
    assert main(["device", "--help"]) == 0
    page = capsys.readouterr().out
    assert "homebody device doctor ada/" in page
    assert "--keyring" in page
