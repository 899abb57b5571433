"""From a log to the aggregator: one bounded vector, after consent, said in plain words."""

from pathlib import Path
from threading import RLock

import numpy as np
import pytest

from client_sdk.experience.experiments import Experiment, ExperimentLog
from client_sdk.federation.consent import ConsentCentre
from client_sdk.federation.encoders import EncoderInput
from client_sdk.federation.participant import DeviceState, Participant
from client_sdk.federation.transparency import TRANSPARENCY_STREAM, TransparencyEntry
from client_sdk.intelligence import History
from client_sdk.keys import DeviceKey, MemoryKeyStore
from client_sdk.signals.events import Event
from client_sdk.signals.vault import Vault
from client_sdk.testing import FakeAggregator, FixedClock
from client_sdk.wire import (
    DEFAULT_POLICY,
    Answer,
    Catalogue,
    Contribution,
    Declined,
    Purpose,
    Refusal,
    TaskKind,
    read_answer,
    read_frame,
)
from client_sdk.wire.outcomes import OutcomeLayout
from tests.client_sdk.experience.experiments.conftest import DAY_S, START_S, MakeExperiment


class Device:
    """A participant whose person is in one experiment."""

    def __init__(self, folder: Path, catalogue: Catalogue, experiment: Experiment) -> None:
        self.clock, self.lock, signer = FixedClock(START_S), RLock(), DeviceKey.generate()
        self.vault = Vault.open(folder, MemoryKeyStore())
        self.aggregator, self.catalogue, self.experiment = FakeAggregator(), catalogue, experiment
        self.log = ExperimentLog.empty(experiment)
        self.consent = ConsentCentre(
            vault=self.vault,
            signer=signer,
            policy=DEFAULT_POLICY,
            clock=self.clock,
            lock=self.lock,
            answers=[],
        )
        self.consent.grant(*Purpose)
        state = DeviceState(
            aggregator_key=self.aggregator.key.public_key_hex,
            catalogue_sha256=catalogue.sha256,
            given=self.given,
        )
        self.participant = Participant(
            vault=self.vault,
            consent=self.consent,
            signer=signer,
            clock=self.clock,
            lock=self.lock,
            device_state=lambda: state,
        )

    def given(self, _: Purpose) -> EncoderInput:
        """Show an encoder a history, and what came of the experiment once that stands."""
        outcome = self.log.outcome(self.experiment, now_s=self.clock.now_s())
        return EncoderInput(
            history=History.from_events(items=[1], times_s=[0.0], now_s=1.0),
            n_items=len(self.catalogue.items),
            experiments={} if outcome is None else {self.experiment.sha256: outcome},
        )

    def ask(self, clip_norm: float = 1.0) -> Answer:
        """Order the outcomes of the experiment; give the verified answer."""
        layout = self.layout(clip_norm)
        order = self.aggregator.order(
            TaskKind.EXPERIMENT_OUTCOMES,
            self.catalogue,
            parameters=self.experiment.parameters(),
            dimension=layout.dimension,
            clip_norm=clip_norm,
            closes_at_s=int(self.clock.now_s()) + 60,
        )
        return read_answer(read_frame(self.participant.answer(self.aggregator.ask(order))))

    def layout(self, clip_norm: float) -> OutcomeLayout:
        """The places of this experiment's vector."""
        return OutcomeLayout(groups=2, metrics=2, clip_norm=clip_norm)


@pytest.fixture
def device(tmp_path: Path, catalogue: Catalogue, make: MakeExperiment) -> Device:
    """A device whose person saw the second arm and spent a fifth of the bound."""
    device = Device(tmp_path / "device", catalogue, make())
    device.log = device.log.exposed(device.experiment, group=1, time_s=START_S).told(
        device.experiment,
        Event(kind="purchase", item_id="mug", price=10.0, time_s=START_S + 1),
        now_s=START_S + 1,
    )
    return device


def reason(answer: Answer) -> Refusal:
    """Give the reason of a refusal."""
    assert isinstance(answer, Declined)
    return answer.reason


def test_contribution_leaves_only_once_the_outcome_stands(device: Device) -> None:
    """Before its windows are over nothing is sent; then one vector, within the clip norm."""
    device.clock.advance(16 * DAY_S - 1)
    assert reason(device.ask()) is Refusal.TOO_LITTLE_DATA
    device.clock.advance(1)
    answer = device.ask(clip_norm=3.0)
    assert isinstance(answer, Contribution)
    assert answer.vector.norm() <= 3.0
    counts, sums, _ = device.layout(3.0).unpack(answer.vector.to_dense().astype(np.float64))
    assert counts == pytest.approx([0, 1], abs=1e-6)
    assert sums == pytest.approx(np.array([[0, 0], [1, 0.2]]), abs=1e-6)


def test_contribution_without_consent_to_statistics_is_refused(device: Device) -> None:
    """Training or personalising is another purpose."""
    device.clock.advance(20 * DAY_S)
    device.consent.withdraw(Purpose.STATISTICS)
    assert reason(device.ask()) is Refusal.CONSENT_WITHDRAWN


def test_contribution_is_in_the_transparency_log_in_plain_words(device: Device) -> None:
    """The person reads what was learned from them, and under which promise."""
    device.clock.advance(20 * DAY_S)
    device.ask()
    entries = [
        TransparencyEntry.from_json(record.value)
        for record in device.vault.records(TRANSPARENCY_STREAM)
    ]
    words = entries[-1].sentence()
    assert "which of several ways of doing something works better" in words
    assert "ε = 2.0" in words
    assert entries[-1].purpose == "statistics"


def test_order_of_another_definition_finds_nothing(device: Device, make: MakeExperiment) -> None:
    """Nobody answers about an experiment that they were not in."""
    device.clock.advance(20 * DAY_S)
    outcome = device.given(Purpose.STATISTICS).experiments
    assert list(outcome) == [device.experiment.sha256]
    device.experiment = make(late_s=0.0)
    device.log = ExperimentLog.empty(device.experiment)
    assert reason(device.ask()) is Refusal.TOO_LITTLE_DATA


def test_log_written_to_a_vault_reads_back(device: Device) -> None:
    """The record of an experiment is found by its definition."""
    record = device.log.to_record()
    device.vault.write(record)
    kept = device.vault.read(record.stream, device.experiment.sha256)
    assert kept is not None
    assert ExperimentLog.from_json(kept) == device.log


def test_contribution_to_one_experiment_leaves_once(device: Device) -> None:
    """A second task about the same experiment is answered with a refusal."""
    device.clock.advance(20 * DAY_S)
    assert isinstance(device.ask(), Contribution)
    assert reason(device.ask()) is Refusal.ALREADY_CONTRIBUTED
