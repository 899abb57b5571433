"""Consent: the default is no, every answer is signed and kept, and a no counts at once."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from client_sdk import ConsentRequiredError, ConsentState, Homebody, Purpose
from client_sdk.federation import ConsentCentre
from client_sdk.keys import DeviceKey
from client_sdk.signals.vault import Vault
from client_sdk.testing import FakeAggregator, FakeReleases, FixedClock, MemoryKeyStore
from client_sdk.wire import DEFAULT_POLICY, Catalogue, ConsentReceipt

OpenHome = Callable[..., Homebody]


def test_consent_never_asked_is_no(open_home: OpenHome) -> None:
    """Nobody has agreed to anything by installing an app."""
    consent = open_home().consent
    assert {status.state for status in consent.status().values()} == {ConsentState.NEVER_ASKED}
    assert consent.receipt("train") is None
    assert consent.signed_receipt("train") == b""
    with pytest.raises(ConsentRequiredError, match="never asked"):
        consent.require("train")


def test_consent_granted_counts_for_its_purpose_only(
    open_home: OpenHome, clock: FixedClock
) -> None:
    """One yes is one yes, with the times at which it began and ends."""
    consent = open_home().consent
    consent.grant("train")
    status = consent.status()[Purpose.TRAIN]
    assert (status.state, status.answered_at_s) == (ConsentState.GRANTED, int(clock.now_s()))
    assert status.expires_at_s == int(clock.now_s()) + DEFAULT_POLICY.valid_for_s
    consent.require(Purpose.TRAIN)
    assert not consent.allows(Purpose.STATISTICS)


def test_consent_receipt_is_signed_by_the_device_for_the_text_shown(home: Homebody) -> None:
    """Anybody can verify who agreed to which text."""
    signed = home.consent.signed_receipt("train")
    receipt = ConsentReceipt.from_bytes(signed)
    assert receipt == home.consent.receipt("train")
    assert (receipt.device, receipt.granted) == (home.device, True)
    assert receipt.policy_sha256 == DEFAULT_POLICY.sha256
    assert home.consent.history()[1].text == home.consent.text("train")


def test_consent_withdrawn_is_no_at_once_and_stays_after_reopening(open_home: OpenHome) -> None:
    """The withdrawal counts in the next call, and in the next process."""
    home = open_home()
    home.consent.grant("train", "statistics")
    home.consent.withdraw("train")
    assert home.consent.state("train") is ConsentState.WITHDRAWN
    home.close()
    consent = open_home().consent
    assert consent.state("train") is ConsentState.WITHDRAWN
    assert consent.allows("statistics")
    assert [answer.receipt.granted for answer in consent.history()] == [True, True, False]


def test_consent_expires(open_home: OpenHome, clock: FixedClock) -> None:
    """A yes ends by itself."""
    consent = open_home().consent
    consent.grant("train")
    clock.advance(DEFAULT_POLICY.valid_for_s - 1)
    assert consent.allows("train")
    clock.advance(1)
    assert consent.state("train") is ConsentState.EXPIRED


def test_consent_later_answer_has_a_later_time(open_home: OpenHome, clock: FixedClock) -> None:
    """Within one second, and after a clock was set back, the order of answers can be told."""
    consent = open_home().consent
    consent.grant("train")
    consent.withdraw("train")
    clock.advance(-3600)
    consent.grant("train")
    times = [answer.receipt.issued_at_s for answer in consent.history()]
    assert times == sorted(set(times))
    assert len({answer.receipt.receipt_id for answer in consent.history()}) == 3


def test_consent_to_what_leaves_ends_with_the_text(
    open_home: OpenHome, catalogue: Catalogue, aggregator: FakeAggregator
) -> None:
    """A new policy needs a new yes for what leaves; what stays needs one if its text changed."""
    releases = FakeReleases(active=aggregator.release(catalogue))
    home = open_home(releases=releases)
    home.consent.grant("personalise", "train")
    texts = {**DEFAULT_POLICY.texts, Purpose.STATISTICS: "Another text."}
    later = replace(DEFAULT_POLICY, version="2", texts=texts)
    releases.publish(aggregator.release(catalogue, version=2, policy=later))
    home.update()
    assert home.consent.state("train") is ConsentState.TEXT_CHANGED
    assert home.consent.allows("personalise")
    texts = {**texts, Purpose.PERSONALISE: "A third text."}
    releases.publish(aggregator.release(catalogue, version=3, policy=replace(later, texts=texts)))
    home.update()
    assert home.consent.state("personalise") is ConsentState.TEXT_CHANGED
    home.consent.grant("personalise", "train")
    assert home.consent.allows("personalise")
    assert home.consent.allows("train")


def test_consent_to_an_unknown_purpose_raises(home: Homebody) -> None:
    """A typo is not consent, and neither is an empty list."""
    with pytest.raises(ValueError, match="a purpose is one of"):
        home.consent.grant("marketing")
    with pytest.raises(ValueError, match="at least one"):
        home.consent.withdraw()


def test_consent_paused_is_no_until_the_pause_ends(
    tmp_path: Path, keys: MemoryKeyStore, clock: FixedClock
) -> None:
    """A pause stops every use at once, signs nothing, and is no withdrawal."""
    ends_at_s = clock.now_s()
    vault = Vault.open(tmp_path / "vault", keys)
    consent = ConsentCentre(
        vault=vault,
        signer=DeviceKey.generate(),
        policy=DEFAULT_POLICY,
        clock=clock,
        lock=nullcontext(),
        answers=[],
        paused=lambda: clock.now_s() < ends_at_s,
    )
    consent.grant("train")
    granted = consent.status()[Purpose.TRAIN]
    ends_at_s += 60
    assert consent.state("train") is ConsentState.PAUSED
    assert not consent.allows("train")
    with pytest.raises(ConsentRequiredError, match="wait for the end of the pause"):
        consent.require("train")
    assert consent.status()[Purpose.TRAIN].expires_at_s == granted.expires_at_s
    assert len(consent.history()) == 1
    assert consent.state("statistics") is ConsentState.NEVER_ASKED
    consent.withdraw("train")
    assert consent.state("train") is ConsentState.WITHDRAWN
    consent.grant("train")
    clock.advance(60)
    assert consent.status()[Purpose.TRAIN].state is ConsentState.GRANTED
    vault.close()
