"""Journey files: what is wrong is said once, with file, line and remedy; the schema agrees."""

import contextlib
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import client_sdk.experience.journeys as room
from client_sdk.experience.content import FileMistakeError
from client_sdk.experience.journeys import Journey, explain, journey_schema, mistakes_in

SCHEMA = Draft202012Validator(journey_schema())

# What is changed in the file, the line of the error, and what it has to say.
MALFORMED = {
    "no TOML": ('version = 1\n', "version = \n", 2, "expected TOML"),
    "unknown key": ('title = "A cart"', 'titel = "A cart"', 3, "write 'title'"),
    "missing key": ('title = "A cart"\n', "", 1, "title: expected text of 1 to 120"),
    "wrong type": ("version = 1", 'version = "1"', 2, "a whole number from 1"),
    "truth value as number": ("version = 1", "version = true", 2, "got true"),
    "bad name": ('journey = "cart"', 'journey = "My cart"', 1, "a small letter"),
    "no duration": ('after = "2 days"', 'after = "soon"', 58, 'such as "2 days"'),
    "no trigger": ('after = "2 days"\n', "", 55, "exactly one of ['on', 'after']"),
    "two triggers": ('after = "2 days"', 'after = "2 days"\non = "cart"', 55, "keep one of them"),
    "uncapped channel": ("cap = 1, per", "per", 9, "channels.sms.cap: expected a whole number"),
    "cap of zero": ("cap = 1, per", "cap = 0, per", 9, "from 1 to 64"),
    "slot without consent": (
        'town = { from = "fact:town", consent = "personalise" }',
        'town = { from = "fact:town" }',
        21,
        "slots.town.consent: expected one of",
    ),
    "slot without source": (
        'from = "fact:town", consent', "consent", 21, "slots.town.from: expected text"
    ),
    "slot of another kind": ('"fact:town"', '"secret:town"', 21, "write feature:NAME"),
    "two tests": ('is = "Ulm"', 'is = "Ulm", is_not = "Bonn"', 78, "exactly one of"),
    "unknown subject": ('fact = "town"', 'fakt = "town"', 78, "write 'fact'"),
    "number as text": ('is = "Ulm"', 'at_least = "Ulm"', 78, "expected a number"),
    "state is no table": ("[states.new]\nmeaning", "states.new = 3\n[states.neu]\nmeaning", 23, ""),
}  # fmt: skip
INVALID = {
    "unreachable state": ('[states.bought]', '[states.lost]\nmeaning = "Lost."\n\n[states.bought]',
                          45, "unreachable"),
    "dead end": ("terminal = true\n", "", 45, "dead end"),
    "way out of an end": ('"Nothing yet."', '"Nothing yet."\nterminal = true',
                          4, "not terminal"),
    "unknown channel": ('channel = "sms"', 'channel = "smss"', 42, "write 'sms'"),
    "no guard": ('when = [{ opt_in = "sms" }]\n', "", 40, "needs an opt-in"),
    "guard turned round": ('{ opt_in = "sms" }', '{ opt_in = "sms", is = false }', 43, "guard"),
    "guard of another channel": ('{ opt_in = "sms" }', '{ opt_in = "location" }', 43, "guard"),
    "sms without opt-in": ('"7 days", opt_in = true', '"7 days", opt_in = false', 9, "unasked"),
    "window too long": ('per = "7 days"', 'per = "40 days"', 9, "at most 31 days"),
    "slot not declared": ('slots = ["area"]', 'slots = ["areas"]', 32, "write 'area'"),
    "slot of an unknown map": ("category_affinity", "category_love", 20, "declared favourite"),
    "fact not declared": ('fact = "town"', 'fact = "city"', 78, "a known fact"),
    "opt-in not declared": ('opt_in = "location"', 'opt_in = "place"', 14, "an opt-in"),
    "source as a channel": ("[channels]\nweb", "[channels]\nlocation", 8, "permission opens"),
    "unknown fallback": ('fallback = "new"', 'fallback = "old"', 5, "fallback: expected a state"),
    "unknown target": ('to = "bought"', 'to = "bougth"', 64, "write 'bought'"),
    "event in a timer": ('because = "the cart waits"',
                         'when = [{ event = "item", is = "x" }]\nbecause = "the cart waits"', 60,
                         "only with 'on'"),
    "event in an action": ('when = [{ opt_in = "sms" }]',
                           'when = [{ opt_in = "sms" }, { event = "item", is = "x" }]', 43,
                           "only with 'on'"),
    "without beside on": ('on = "purchase"', 'on = "purchase"\nwithout = ["cart"]', 66, "'after'"),
    "action twice": ('id = "left"', 'id = "noted"', 29, "rename one"),
}  # fmt: skip

CONFLICT = """
[[transitions]]
from = "carted"
to = "new"
on = "purchase"
{more}
because = "of a test"
"""


@pytest.mark.parametrize("name", [*MALFORMED, *INVALID])
def test_journey_mistake_in_a_file_is_one_error_with_line_and_remedy(
    tmp_path: Path, cart_text: str, name: str
) -> None:
    """File, line, what was expected; the same first message from `mistakes_in`."""
    old, new, line, said = {**MALFORMED, **INVALID}[name]
    assert old in cart_text
    path = tmp_path / "cart.toml"
    path.write_text(cart_text.replace(old, new), encoding="utf-8")
    with pytest.raises(FileMistakeError) as caught:
        Journey.from_toml(path)
    assert said in str(caught.value)
    assert caught.value.file == "cart.toml"
    assert caught.value.line == line
    assert "\n" not in str(caught.value)
    assert mistakes_in(path)[0] == str(caught.value)


@pytest.mark.parametrize("name", MALFORMED)
def test_schema_refuses_what_the_reader_refuses(cart_text: str, name: str) -> None:
    """Whatever has the wrong shape is refused by both; what one test means, a schema can't say."""
    if name in ("no TOML", "two tests", "number as text", "slot of another kind"):
        return
    old, new, *_ = MALFORMED[name]
    assert not SCHEMA.is_valid(tomllib.loads(cart_text.replace(old, new)))


def test_journey_good_file_is_read_and_its_schema_agrees(cart_text: str) -> None:
    """The file that all others are made from has no mistake."""
    assert mistakes_in(cart_text) == ()
    SCHEMA.validate(tomllib.loads(cart_text))
    assert len(Journey.from_toml(cart_text).transitions) == 5


@pytest.mark.parametrize(
    ("more", "conflicts"),
    [
        ("", True),
        ("priority = 1", False),
        ('when = [{ feature = "events_7_days", at_least = 3 }]', True),
    ],
)
def test_validate_two_triggers_of_one_event_conflict_without_priority(
    cart_text: str, more: str, conflicts: bool
) -> None:
    """A condition on one side alone excludes nothing."""
    found = mistakes_in(cart_text + CONFLICT.format(more=more))
    assert any("conflicts with the transition #3" in one for one in found) == conflicts


@pytest.mark.parametrize(
    ("one", "other", "conflicts"),
    [
        ("at_least = 3", "at_most = 2", False),
        ("at_least = 3", "at_most = 3", True),
        ("is = 3", "is = 4", False),
        ("is = 3", "is_not = 3", False),
        ("is = 3", "at_least = 4", False),
        ("is = 3", "at_least = 3", True),
        ("is_not = 3", "is_not = 4", True),
    ],
)
def test_validate_conditions_that_exclude_each_other_do_not_conflict(
    cart_text: str, one: str, other: str, conflicts: bool
) -> None:
    """Only what can surely never hold together is no conflict."""
    when = 'priority = 2\nwhen = [{{ feature = "events_7_days", {} }}]'
    text = cart_text + "".join(CONFLICT.format(more=when.format(test)) for test in (one, other))
    assert any("conflicts" in found for found in mistakes_in(text)) == conflicts


def test_validate_two_timers_of_one_state_conflict_without_priority(cart_text: str) -> None:
    """Both may be due when the device wakes up."""
    timer = CONFLICT.format(more="").replace('on = "purchase"', 'after = "5 days"')
    assert "conflicts" in mistakes_in(cart_text + timer)[0]


@given(data=st.data())
def test_journey_cut_or_changed_text_is_a_mistake_or_a_journey(data: st.DataObject) -> None:
    """Nothing but `FileMistakeError` comes out of a broken file."""
    text = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8").split('"""')[3]
    lines = text.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(lines) - 1))
        what = data.draw(st.sampled_from(["drop", "twice", "cut", "swap"]))
        if what == "drop":
            lines[where] = ""
        elif what == "twice":
            lines.insert(where, lines[where])
        elif what == "cut":
            lines[where] = lines[where][: data.draw(st.integers(0, len(lines[where])))]
        else:
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[where], lines[other] = lines[other], lines[where]
    with contextlib.suppress(FileMistakeError):
        Journey.from_toml("\n".join(lines))


def test_schema_file_is_what_the_code_gives() -> None:
    """The published schema never lags behind."""
    kept = Path(room.__path__[0], "journey.schema.json").read_text(encoding="utf-8")
    assert json.loads(kept) == journey_schema()
    Draft202012Validator.check_schema(journey_schema())


def test_explain_says_channels_triggers_guards_and_ends(cart: Journey) -> None:
    """A colleague who never saw the file learns what it does."""
    said = "\n".join(explain(cart))
    for words in (
        "By 'sms': at most 1 in 7 days, and only where the person opened it.",
        "After 2 days without cart or screen, go to 'reminded'.",
        "if 'sms' is open",
        "'bought': Bought. The journey ends here.",
        "The app may say 'town', with a yes to 'personalise', and 'location' open.",
    ):
        assert words in said
    assert cart.explain() == explain(cart)
