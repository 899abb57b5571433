"""Identity: one row of the precedence is one row here; identifiers are kept as keyed hashes."""

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from client_sdk.signals.identity import (
    Action,
    IdentifierKind,
    Merge,
    Profile,
    Standing,
    account_hash,
    decide,
    normalised,
)

KEY = bytes(range(32))


def standing(
    profile_id: str, account: str | None, *, yes: bool = True, paused: bool = False
) -> Standing:
    """A profile as `decide` sees it."""
    profile = Profile(profile_id=profile_id, account=account, created_at_s=0.0, last_used_at_s=0.0)
    return Standing(profile=profile, personalises=yes, paused=paused)


ANONYMOUS = standing("p1", None)
ACCOUNT = standing("p2", "a2")
OTHER = standing("p3", "a3")


@pytest.mark.parametrize(
    ("current", "account", "action", "copies", "why"),
    [
        (ACCOUNT, ACCOUNT, Action.STAY, False, "already"),
        (ANONYMOUS, None, Action.ADOPT, False, "new here"),
        (standing("p1", None, yes=False, paused=True), None, Action.ADOPT, False, "new here"),
        (OTHER, None, Action.CREATE, False, "never merged"),
        (OTHER, ACCOUNT, Action.SWITCH, False, "never merged"),
        (standing("p1", None, paused=True), ACCOUNT, Action.SWITCH, False, "pause"),
        (ANONYMOUS, standing("p2", "a2", paused=True), Action.SWITCH, False, "pause"),
        (ANONYMOUS, ACCOUNT, Action.MERGE, True, "both profiles have consent"),
        (standing("p1", None, yes=False), ACCOUNT, Action.MERGE, False, "before the sign-in."),
        (ANONYMOUS, standing("p2", "a2", yes=False), Action.MERGE, False, "in the account's"),
        (
            standing("p1", None, yes=False),
            standing("p2", "a2", yes=False),
            Action.MERGE,
            False,
            "before the sign-in and the account's",
        ),
    ],
)
def test_decide_follows_the_stated_precedence(
    current: Standing, account: Standing | None, action: Action, copies: bool, why: str
) -> None:
    """One row of the module's table, or a case of it, is one row here."""
    plan = decide(current, account)
    assert (plan.action, plan.copies) == (action, copies)
    assert why in plan.reason


standings = st.builds(
    standing,
    st.sampled_from(["p1", "p2"]),
    st.none() | st.sampled_from(["a1", "a2"]),
    yes=st.booleans(),
    paused=st.booleans(),
)


@given(standings, st.none() | standings)
def test_decide_copies_only_from_nobody_with_two_yes(
    current: Standing, account: Standing | None
) -> None:
    """Whatever stands where: no account's events are copied, and none without both consents."""
    assume(account is None or account.profile.account is not None)
    plan = decide(current, account)
    if plan.action is Action.MERGE:
        assert current.profile.anonymous
    if plan.copies:
        assert plan.action is Action.MERGE
        assert account is not None
        assert current.personalises
        assert account.personalises
        assert not current.paused
        assert not account.paused


@pytest.mark.parametrize(
    ("identifier", "kind", "expected"),
    [
        (" Ada@Example.ORG\n", "email", "ada@example.org"),
        ("\uff41da@example.org", "email", "ada@example.org"),
        ("STRASSE@example.org", "email", "strasse@example.org"),
        ("straße@example.org", "email", "strasse@example.org"),
        ("+44 (20) 7946-0000", "phone", "442079460000"),
        ("\uff10\uff11\uff12\uff13", "phone", "0123"),
        (" User 7 ", "account", " User 7 "),
    ],
)
def test_normalised_gives_one_form(identifier: str, kind: str, expected: str) -> None:
    """Two spellings of one address are one account; an account's id is taken as it is."""
    assert normalised(identifier, kind) == expected


@pytest.mark.parametrize(
    ("identifier", "kind"),
    [
        ("secret.example.org", "email"),
        ("secret@", "email"),
        ("@secret", "email"),
        ("secret@a@b", "email"),
        ("sec ret@b", "email"),
        ("sec\x00ret@b", "email"),
        ("", "email"),
        ("  ", "account"),
        ("secret" * 50, "account"),
        ("secret\ud800", "account"),
        ("secret", "phone"),
        ("123", "phone"),
        ("1" * 16, "phone"),
        ("12345 secret", "phone"),
        ("secret", "telegram"),
        (5, "email"),
        (None, "account"),
    ],
)
def test_normalised_refuses_without_the_text(identifier: Any, kind: str) -> None:
    """A bad identifier is refused in words that do not hold it."""
    with pytest.raises(ValueError, match="expected") as caught:
        normalised(identifier, kind)
    assert "secret" not in str(caught.value)
    assert "1111" not in str(caught.value)


@given(st.text(min_size=1, max_size=40), st.sampled_from(IdentifierKind))
def test_normalised_twice_is_normalised_once(text: str, kind: IdentifierKind) -> None:
    """The form is final, whatever text comes."""
    for identifier in (text, f"{text}@{text}"):
        try:
            once = normalised(identifier, kind)
        except ValueError:
            continue
        assert normalised(once, kind) == once


def test_account_hash_is_hmac_sha256_of_kind_and_form() -> None:
    """The hash is the textbook one, and depends on key, kind and form."""
    value = account_hash(KEY, " Ada@example.org", "email")
    expected = hmac.new(KEY, b"email\0ada@example.org", hashlib.sha256).hexdigest()
    assert value == expected == account_hash(KEY, "ADA@EXAMPLE.ORG", "email")
    assert value != account_hash(KEY, "ada@example.org", "account")
    assert value != account_hash(bytes(32), "ada@example.org", "email")
    with pytest.raises(ValueError, match="32 bytes"):
        account_hash(b"", "ada@example.org", "email")
    with pytest.raises(ValueError, match="kind: expected"):
        account_hash(KEY, "ada@example.org", "telegram")


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, 5])
def test_profile_with_a_bad_name_raises(name: Any) -> None:
    """A name is a text of bounded size, or none."""
    with pytest.raises(ValueError, match="name: expected"):
        Profile(profile_id="p", name=name, created_at_s=0.0, last_used_at_s=0.0)


def test_merge_says_what_happened() -> None:
    """In words, with the counts; what did not happen is not said."""
    plain = Merge(time_s=0.0, source="p1", target="p2", copied=3, reason="Why.")
    assert plain.sentence() == (
        "1970-01-01 00:00 UTC: 3 event(s) copied, 0 there already. Why. "
        "The profile from before was erased."
    )
    merge = Merge(
        time_s=1_800_000_000.0,
        source="p1",
        target="p2",
        copied=3,
        duplicates=1,
        left_out=2,
        reason="Why.",
    )
    assert merge.sentence() == (
        "2027-01-15 08:00 UTC: 3 event(s) copied, 1 there already, 2 could not be stored. Why. "
        "The profile from before was erased."
    )
