"""What models learned is kept: sealed, whole, gone with the yes, and never a reason to fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk import ConsentRequiredError, Homebody
from client_sdk.doctor import examine
from client_sdk.intelligence.bandit import LinearBandit
from client_sdk.intelligence.litert import LiteRtModel
from client_sdk.intelligence.propensity import LabelledBatch
from client_sdk.keys import FileKeyStore, MemoryKeyStore
from client_sdk.learned_models import MODEL_STREAM
from client_sdk.signals.signals import SignalRules
from client_sdk.signals.vault import Record, Vault
from client_sdk.testing import FakeAggregator, FakeReleases, FixedClock, sample_catalogue
from client_sdk.wire import Catalogue
from client_sdk.wire.bandit import ArmEvidence, write_priors

OpenHome = Callable[..., Homebody]
X = np.array([1.0, 0.0])


def teach(home: Homebody, n: int = 5) -> LinearBandit:
    """Let somebody like tea."""
    bandit = home.models.bandit("letter", n_features=2)
    for _ in range(n):
        bandit.update("tea", X, reward=1.0)
    return bandit


def liked(home: Homebody) -> float:
    """How much the home believes that they like tea."""
    return float(home.models.bandit("letter", n_features=2).estimate(["tea"], X).mean[0])


def test_bandit_goes_on_where_it_was_after_a_restart(home: Homebody, open_home: OpenHome) -> None:
    """Closing keeps what was learned; the same question gets the same answer."""
    teach(home)
    before = liked(home)
    assert before == pytest.approx(5 / 6)
    home.close()
    again = open_home()
    # Solved at once now, and step by step then.
    assert liked(again) == pytest.approx(before, abs=1e-12)
    assert again.models.bandit("letter", n_features=2).answers("tea") == 5


def test_uplift_goes_on_where_it_was_after_a_restart(home: Homebody, open_home: OpenHome) -> None:
    """The sums come back to the bit."""
    rng = np.random.default_rng(0)
    model = home.models.uplift("voucher", n_features=2)
    treated = rng.random(100) < 0.5
    model.update(
        rng.standard_normal((100, 2)),
        treated=treated,
        outcomes=rng.random(100),
        propensities=0.5,
    )
    state = model.to_bytes()
    home.close()
    assert open_home().models.uplift("voucher", n_features=2).to_bytes() == state


def test_propensity_goes_on_where_it_was_after_a_restart(
    home: Homebody, open_home: OpenHome
) -> None:
    """A propensity trained through LiteRT predicts the same after a restart."""
    export = pytest.importorskip("models.propensity_graph").export_propensity
    graph = LiteRtModel(export(features=2, hidden=0, batch=8)[0])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 2)).astype(np.float32)
    model = home.models.propensity("buys", graph)
    model.train(LabelledBatch(features=x, labels=(x[:, 0] > 0).astype(np.float32)))
    before = model.predict(x)
    assert before.std() > 0
    home.close()
    assert np.array_equal(open_home().models.propensity("buys", graph).predict(x), before)


def test_keep_writes_only_what_changed(home: Homebody) -> None:
    """A model that learned nothing is not written; one that did, once."""
    home.models.uplift("voucher", n_features=2)
    assert home.models.keep() == 0
    teach(home)
    assert home.models.keep() == 1
    assert home.models.keep() == 0
    [kept] = home.models.kept()
    assert (kept.name, kept.kind) == ("letter", "bandit")
    assert kept.n_bytes > 100


def test_models_without_consent_are_not_handed_out_nor_kept(
    open_home: OpenHome,
) -> None:
    """Nobody is learned about without a yes, nor in a pause; a pause loses nothing."""
    home = open_home()
    with pytest.raises(ConsentRequiredError):
        home.models.bandit("letter", n_features=2)
    home.consent.grant("personalise")
    teach(home)
    home.preferences.pause(for_s=3_600.0)
    assert home.models.keep() == 0
    with pytest.raises(ConsentRequiredError):
        liked(home)
    home.preferences.resume()
    assert liked(home) == pytest.approx(5 / 6)


def test_withdrawal_deletes_what_was_learned(home: Homebody, open_home: OpenHome) -> None:
    """Gone from memory and store before the call returns; another purpose deletes nothing."""
    teach(home)
    home.models.keep()
    home.consent.withdraw("train", "statistics")
    assert len(home.models.kept()) == 1
    home.consent.withdraw("personalise")
    assert home.models.kept() == ()
    assert home.models.evidence() == {}
    home.consent.grant("personalise")
    assert liked(home) == 0.0
    home.close()
    assert liked(open_home()) == 0.0


def test_withdrawal_that_a_kill_cut_short_is_finished_when_the_store_opens(
    home: Homebody, open_home: OpenHome, tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """A state that outlived the yes does not outlive the next opening."""
    teach(home)
    home.models.keep()
    home.close()
    vault = Vault.open(tmp_path / "home", keys)
    [record] = vault.records(MODEL_STREAM)
    vault.close()
    again = open_home()
    again.consent.withdraw("personalise")
    again.close()
    vault = Vault.open(tmp_path / "home", keys)
    vault.write(record)  # as if the deletion had not come about
    vault.close()
    assert open_home().models.kept() == ()


def test_kill_loses_nothing_that_was_kept(
    home: Homebody, tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """What was not kept is gone; what was, is whole."""
    teach(home)
    home.models.keep()
    vault = home._vault  # what a kill leaves: no close, no keep
    teach(home)
    vault.close()
    fresh = Homebody.open(tmp_path / "home", key_store=keys, clock=FixedClock())
    with fresh:
        assert fresh.models.bandit("letter", n_features=2).answers("tea") == 5


def damaged(value: dict[str, Any], how: str) -> dict[str, Any]:
    """Spoil a record."""
    state = value["state"]
    return {
        "cut": {**value, "state": state[: len(state) // 8 * 4]},
        "changed": {**value, "state": "AAAA" + state[4:]},
        "no base64": {**value, "state": "?"},
        "no state": {"version": 1, "kind": "bandit", "kept_s": 0.0},
        "no text": {**value, "state": 7},
        "newer": {**value, "version": 2},
    }[how]


@pytest.mark.parametrize("how", ["cut", "changed", "no base64", "no state", "no text", "newer"])
def test_damaged_state_is_dropped_counted_and_fails_nobody(
    how: str, tmp_path: Path, clock: FixedClock
) -> None:
    """The model starts anew, the app goes on, and the doctor tells."""
    folder, keys = tmp_path / "ada", FileKeyStore(tmp_path / "ada.keys")

    def opened() -> Homebody:
        return Homebody.open(folder, key_store=keys, clock=clock, catalogue=sample_catalogue())

    with opened() as home:
        home.consent.grant("personalise")
        teach(home)
    vault = Vault.open(folder, keys)
    [record] = vault.records(MODEL_STREAM)
    vault.write(Record(stream=MODEL_STREAM, key="letter", value=damaged(dict(record.value), how)))
    vault.close()
    with opened() as home:
        assert home.models.evidence() == {} or how == "newer"
        assert liked(home) == 0.0
        assert home.models.dropped == 1
        teach(home)
    with opened() as home:
        assert liked(home) == pytest.approx(5 / 6)
        assert home.models.dropped == 1
    texts = [finding.text for finding in examine(folder, keys, SignalRules())]
    assert any("1 could not be read at some time, and began anew" in text for text in texts)


def test_state_of_other_features_is_dropped(home: Homebody, open_home: OpenHome) -> None:
    """An app that describes moments otherwise now starts anew, and does not fail."""
    teach(home)
    home.close()
    again = open_home()
    assert again.models.bandit("letter", n_features=3).answers("tea") == 0
    assert again.models.dropped == 1


def test_name_of_another_kind_is_refused_and_nothing_is_lost(
    home: Homebody, open_home: OpenHome
) -> None:
    """A slip of the app costs no state, before and after a restart."""
    teach(home)
    for one in (home, None):
        opened = one or open_home()
        with pytest.raises(ValueError, match="rename it"):
            opened.models.uplift("letter", n_features=2)
        assert liked(opened) == pytest.approx(5 / 6)
        opened.close()
    with pytest.raises(ValueError, match="1 to 128"):
        open_home().models.bandit("", n_features=2)


def test_priors_of_a_release_are_used_and_not_kept(
    aggregator: FakeAggregator, catalogue: Catalogue, open_home: OpenHome
) -> None:
    """A prior moves the belief; a newer one takes its place; own answers stay own."""

    def priors(response: float, n_features: int = 2) -> bytes:
        start = ArmEvidence(
            arms=("tea",),
            precision=10.0 * np.eye(n_features)[None],
            response=np.full((1, n_features), response),
        )
        return write_priors({"letter": start})

    releases = FakeReleases(
        aggregator.release(catalogue, version=2, bandits=priors(9.0)),
        aggregator.release(catalogue, version=3, bandits=priors(1.0, n_features=5)),
        active=aggregator.release(catalogue, version=1, bandits=priors(1.0)),
    )
    home = open_home(releases=releases)
    home.consent.grant("personalise")
    assert liked(home) == pytest.approx(1 / 11)
    teach(home, 2)
    assert liked(home) == pytest.approx(3 / 13)
    home.update()
    assert liked(home) == pytest.approx(11 / 13)
    evidence = home.models.evidence()["letter"]
    assert evidence.precision[0, 0, 0] == 2.0
    home.update()  # priors of other features are nothing to start from
    assert liked(home) == pytest.approx(2 / 3)


def test_evidence_has_bandits_that_nobody_asked_for_yet(
    home: Homebody, open_home: OpenHome
) -> None:
    """A federated task finds what was kept, before the app has opened its model."""
    teach(home)
    home.close()
    again = open_home()
    assert again.models.evidence()["letter"].precision[0].tolist() == [[5.0, 0.0], [0.0, 0.0]]


def test_export_has_what_was_learned_and_the_import_leaves_it(
    home: Homebody, open_home: OpenHome, tmp_path: Path
) -> None:
    """The person sees it whole, also where it takes several lines; another device learns anew."""
    bandit = home.models.bandit("large", n_features=64)
    for number in range(4):
        bandit.update(f"arm {number}", np.ones(64), reward=1.0)
    home.models.keep()
    home.export(tmp_path / "export.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "export.jsonl").read_text().splitlines()]
    models = [line for line in lines if line["type"] == "model"]
    assert [line["part"] for line in models] == list(range(1, len(models) + 1))
    assert len(models) == models[0]["parts"] > 1
    other = open_home("other")
    other.consent.grant("personalise")
    done = other.import_from(tmp_path / "export.jsonl")
    assert done.left_behind["model"] == len(models)
    assert other.models.kept() == ()


def test_forget_and_erase_leave_nothing(home: Homebody, tmp_path: Path) -> None:
    """One model can be forgotten; erasing the home leaves no file of any."""
    teach(home)
    home.models.keep()
    assert home.models.forget("letter", "no such") == 1
    assert liked(home) == 0.0
    teach(home)
    home.models.keep()
    home.erase()
    assert not list((tmp_path / "home").glob("*.db*"))
