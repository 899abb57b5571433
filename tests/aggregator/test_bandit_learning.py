"""Bandits learned together: devices, strategy, noise, ledger, signed release, and a new device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aggregator.bandit_learning import BanditTask, learn_bandit_priors
from aggregator.campaign import Campaign, PrivacyTarget
from aggregator.consents import ConsentRegistry
from aggregator.errors import QuorumNotReachedError
from aggregator.in_process import InProcessGrid
from aggregator.ledger import Ledger
from aggregator.publishing import Publisher
from aggregator.registry import ReleaseRegistry
from aggregator.repository import Repository
from aggregator.strategy import BoundedSumStrategy
from client_sdk import Homebody
from client_sdk.federation.flower_device import handle_message
from client_sdk.testing import (
    START_S,
    FakeAggregator,
    FakeReleases,
    FixedClock,
    MemoryKeyStore,
    MemoryRelease,
    sample_catalogue,
)
from client_sdk.wire import BANDITS_FILE, DEFAULT_POLICY
from privacy.accounting import epsilon_pld
from privacy.budget import Budget
from privacy.noise import GaussianNoise

CATALOGUE = sample_catalogue()
N_DEVICES = 24
ARMS = ("morning", "evening")
TASK = BanditTask(name="letter", arms=ARMS, n_features=2)


class Town:
    """Devices whose people answer letters in the evening, an aggregator, and a ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aggregator, self.clock = FakeAggregator(), FixedClock()
        release = self.aggregator.release(CATALOGUE)
        self.homes: dict[int, Homebody] = {}
        rng = np.random.default_rng(0)
        for number in range(1, N_DEVICES + 1):
            home = self.open(f"device-{number}", release)
            home.track("purchase", item="oats")
            bandit = home.models.bandit("letter", n_features=2)
            for _ in range(40):
                x, arm = np.array([1.0, rng.standard_normal()]), str(rng.choice(ARMS))
                chance = 0.8 if arm == "evening" else 0.1
                bandit.update(arm, x, reward=float(rng.random() < chance))
            self.homes[number] = home
        self.ledger = Ledger(
            f"sqlite:///{folder / 'house.db'}", {"town": Budget(epsilon=8.0, delta=1e-6)}
        )
        self.consents = ConsentRegistry(f"sqlite:///{folder / 'consents.db'}")

    def open(self, name: str, release: MemoryRelease) -> Homebody:
        """Open the store of one more person, who says yes to everything."""
        home = Homebody.open(
            self.folder / name,
            key_store=MemoryKeyStore(),
            clock=self.clock,
            releases=FakeReleases(release),
        )
        home.update()
        home.consent.grant("personalise", "train", "statistics")
        return home

    def campaign(self, quorum: int = 1) -> Campaign:
        """Prepare a campaign over every device, at ε = 4."""
        return Campaign(
            strategy=BoundedSumStrategy(
                signer=self.aggregator.key,
                ledger=self.ledger,
                consents=self.consents,
                directory={number: home.device for number, home in self.homes.items()},
                clock=self.clock.now_s,
            ),
            grid=InProcessGrid(
                {
                    number: (lambda message, home=home: handle_message(home.answer, message))
                    for number, home in self.homes.items()
                }
            ),
            population="town",
            n_items=len(CATALOGUE.items),
            catalogue_sha256=CATALOGUE.sha256,
            policy_sha256=DEFAULT_POLICY.sha256,
            report_goal=N_DEVICES,
            quorum=quorum,
            privacy=PrivacyTarget(
                epsilon=4.0,
                delta=1e-6,
                new_noise=lambda: GaussianNoise.from_seed_for_simulation(3),
            ),
            clock=lambda: START_S,
        )

    def close(self) -> None:
        """Close every store."""
        for home in self.homes.values():
            home.close()
        self.ledger.close()
        self.consents.close()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """A town."""
    made = Town(tmp_path)
    yield made
    made.close()


def test_bandit_learned_with_noise_helps_a_new_device_through_a_signed_release(
    town: Town, tmp_path: Path
) -> None:
    """From what devices saw to what somebody new is shown, with noise, booked and published."""
    learned = learn_bandit_priors(town.campaign(), [TASK])

    assert learned.tasks[0].accepted == N_DEVICES
    assert learned.tasks[0].event.noise_multiplier > 1.0
    assert epsilon_pld(learned.events, 1e-6) == pytest.approx(4.0, abs=4e-3)

    registry = ReleaseRegistry(f"sqlite:///{tmp_path / 'house.db'}")
    repository = Repository.init(tmp_path / "repository")
    manifest = Publisher(
        repository=repository,
        registry=registry,
        ledger=town.ledger,
        aggregator_key=town.aggregator.key.public_key_hex,
        catalogue=CATALOGUE,
        policy=DEFAULT_POLICY,
    ).publish_bandits(learned, delta=1e-6)
    registry.close()
    assert manifest.guarantee["epsilon"] == pytest.approx(4.0, abs=4e-3)
    targets = repository.directory / "targets" / "1"
    files = {
        name: (targets / f"{sha256}.{name}").read_bytes() for name, sha256 in manifest.files.items()
    }
    assert BANDITS_FILE in files

    x = np.array([1.0, 0.0])
    newcomer = town.open("newcomer", MemoryRelease(manifest=manifest, files=files))
    morning, evening = newcomer.models.bandit("letter", n_features=2).estimate(ARMS, x).mean
    newcomer.close()
    assert morning < 0.4
    assert evening > morning + 0.3


def test_bandit_contributions_of_who_said_no_or_saw_nothing_are_not_in_the_sum(
    town: Town,
) -> None:
    """Training needs its own yes, and the bandit of another name is another's."""
    for number in range(1, 5):
        town.homes[number].consent.withdraw("train")

    learned = learn_bandit_priors(town.campaign(), [TASK])
    assert learned.tasks[0].accepted == N_DEVICES - 4

    other = BanditTask(name="banner", arms=ARMS, n_features=2)
    with pytest.raises(QuorumNotReachedError) as caught:
        learn_bandit_priors(town.campaign(), [other])
    assert caught.value.refusals["too-little-data"] == N_DEVICES - 4


def test_bandit_contribution_is_said_in_plain_words_and_bounded(town: Town) -> None:
    """The person reads what was learned from them; the vector that left kept the clip norm."""
    learn_bandit_priors(town.campaign(), [TASK])
    entry = town.homes[1].transparency()[-1]
    assert entry.sent == "contribution"
    assert entry.norm is not None
    assert 0.99 < entry.norm <= 1.0
    assert "which messages and offers are welcome, and when" in entry.sentence()


def test_bandit_tasks_that_are_none_ask_nobody(town: Town) -> None:
    """No bandit, or one twice, is the caller's mistake."""
    for tasks in ([], [TASK, TASK]):
        with pytest.raises(ValueError, match="each once"):
            learn_bandit_priors(town.campaign(), tasks)
    assert not town.homes[1].transparency()


def test_bandits_share_the_price_of_a_campaign(town: Town) -> None:
    """Two bandits together cost what one would."""
    for home in town.homes.values():
        home.models.bandit("banner", n_features=1).update("red", np.ones(1), reward=1.0)
    other = BanditTask(name="banner", arms=["red"], n_features=1)
    learned = learn_bandit_priors(town.campaign(), [TASK, other])
    assert set(learned.priors) == {"letter", "banner"}
    assert epsilon_pld(learned.events, 1e-6) == pytest.approx(4.0, abs=4e-3)


def test_publisher_of_priors_that_nobody_booked_refuses(town: Town, tmp_path: Path) -> None:
    """Priors from a sum that the ledger has not committed never become a release."""
    learned = learn_bandit_priors(town.campaign(), [TASK])
    url = f"sqlite:///{tmp_path / 'other.db'}"
    other = Ledger(url, {"town": Budget(epsilon=8.0, delta=1e-6)})
    registry = ReleaseRegistry(url)
    repository = Repository.init(tmp_path / "repository")
    publisher = Publisher(
        repository=repository,
        registry=registry,
        ledger=other,
        aggregator_key=town.aggregator.key.public_key_hex,
        catalogue=CATALOGUE,
        policy=DEFAULT_POLICY,
    )
    with pytest.raises(ValueError, match="has not committed 1 of the releases"):
        publisher.publish_bandits(learned, delta=1e-6)
    assert repository.status().manifest is None
    other.close()
    registry.close()
