"""From learned arrays to a served release: nothing unbooked, nothing unproven."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from aggregator.campaign import TaskRecord
from aggregator.learning import Learned
from aggregator.ledger import Ledger
from aggregator.publishing import (
    CheckedGraph,
    Publisher,
    export_checked_graph,
    guarantee_of,
    ranker_table,
)
from aggregator.registry import ReleaseRegistry
from aggregator.repository import Repository
from client_sdk.installed import install, self_test
from client_sdk.testing import MemoryRelease, sample_catalogue
from client_sdk.wire import (
    CARD_FILE,
    DEFAULT_POLICY,
    TABLE_FILE,
    ReleaseManifest,
    TaskKind,
    packed_length,
)
from client_sdk.wire.table import RankerSettings, RankerTable
from models.card import ModelCard
from models.decoded import DecodedRanker
from privacy.budget import Budget
from privacy.events import AssumedPopulation, MechanismName, NoiseSource, ReleaseEvent
from tests.client_sdk.experience.journeys.conftest import CART

CATALOGUE = sample_catalogue()
N_ITEMS = len(CATALOGUE.items)
RANK = 4
KEY = "ab" * 32


def event(number: int, **changes: object) -> ReleaseEvent:
    """Describe one release of item statistics."""
    values: dict[str, object] = {
        "kind": TaskKind.ITEM_STATISTICS,
        "task_id": f"{number:032x}",
        "population": "town",
        "noise_multiplier": 5.0,
        "clip_norm": 1.0,
        "dimension": packed_length(N_ITEMS),
        "report_goal": 100,
        **changes,
    }
    return ReleaseEvent(**values)  # type: ignore[arg-type]


def learned(*events: ReleaseEvent) -> Learned:
    """Something that rests on those releases."""
    rng = np.random.default_rng(0)
    factors = (rng.standard_normal((N_ITEMS, RANK)) * 0.2).astype(np.float32)
    weight = np.einsum("nr,nr->n", factors, factors).astype(np.float32)
    ranker = DecodedRanker(
        factors=factors,
        self_weight=weight,
        scale=(1 / (1 - weight)).astype(np.float32),
        bias=np.zeros(N_ITEMS, np.float32),
        popularity=np.linspace(0, 1, N_ITEMS).astype(np.float32),
    )
    tasks = [
        TaskRecord(event=each, invited=10, accepted=9, refusals={}, seconds=0.0) for each in events
    ]
    return Learned(ranker=ranker, tasks=tuple(tasks))


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A publisher and the three places that it writes to."""

    publisher: Publisher
    repository: Repository
    registry: ReleaseRegistry
    ledger: Ledger

    def release(self, manifest: ReleaseManifest) -> MemoryRelease:
        """Read a release back, as a device would get it."""
        files = {
            name: (
                self.repository.directory / "targets" / str(manifest.version) / f"{sha256}.{name}"
            ).read_bytes()
            for name, sha256 in manifest.files.items()
        }
        return MemoryRelease(manifest=manifest, files=files)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An empty repository, registry and ledger."""
    url = f"sqlite:///{tmp_path / 'house.db'}"
    ledger = Ledger(url, {"town": Budget(epsilon=8.0, delta=1e-6)})
    registry = ReleaseRegistry(url)
    repository = Repository.init(tmp_path / "repository")
    publisher = Publisher(
        repository=repository,
        registry=registry,
        ledger=ledger,
        aggregator_key=KEY,
        catalogue=CATALOGUE,
        policy=DEFAULT_POLICY,
    )
    yield Desk(publisher=publisher, repository=repository, registry=registry, ledger=ledger)
    ledger.close()
    registry.close()


@pytest.fixture(scope="module")
def graph() -> CheckedGraph:
    """A graph that passed the gate."""
    return export_checked_graph(RANK, batch=32)


def test_publisher_base_release_has_no_model(desk: Desk) -> None:
    """Devices can take part before anything was learned."""
    manifest = desk.publisher.publish_base()

    assert not manifest.has_model
    assert install(desk.release(manifest)).catalogue == CATALOGUE
    assert [each.version for each in desk.registry.releases()] == [1]


def test_publisher_learned_release_loads_and_proves_itself(desk: Desk, graph: CheckedGraph) -> None:
    """What a device reads back is what was learned, and its graph computes it."""
    desk.ledger.commit(desk.ledger.reserve(event(1)), 9)
    desk.ledger.commit(desk.ledger.reserve(event(2)), 9)
    rests_on = learned(event(1), event(2))

    manifest = desk.publisher.publish_learned(
        rests_on, settings=RankerSettings(), graph=graph, delta=1e-6
    )

    release = desk.release(manifest)
    installed = install(release)
    self_test(installed)
    np.testing.assert_array_equal(installed.table.factors, rests_on.ranker.factors)
    card = ModelCard.from_bytes(release.files[CARD_FILE])
    assert card.guarantee.epsilon == pytest.approx(manifest.guarantee["epsilon"])
    assert card.guarantee.delta == 1e-6
    (noted,) = desk.registry.releases()
    assert noted.ledger_rows == (1, 3)
    assert noted.ledger_head == desk.ledger.head()


PARTS = {
    "guardrails.toml": b"version = 1\n[channels.web]\nopt_in = false\nper_day = 9\n"
    b"[channels.sms]\nper_week = 1\n",
    "cart.journey.toml": CART.encode(),
    "cart.content.toml": b"[messages.noted]\nsafe = 'plain'\n"
    b"[[messages.noted.variants]]\nid = 'plain'\ntext = 'It is in your cart.'\n",
}


def test_publisher_experience_goes_along_with_what_was_learned(
    desk: Desk, graph: CheckedGraph
) -> None:
    """Parts change without the model, the model without the parts; the claim stays its own."""
    desk.ledger.commit(desk.ledger.reserve(event(1)), 9)
    first = desk.publisher.publish_learned(
        learned(event(1)), settings=RankerSettings(), graph=graph, delta=1e-6
    )
    with_parts = desk.publisher.publish_experience(PARTS)
    assert with_parts.journeys == ("cart",)
    assert with_parts.guarantee == first.guarantee
    assert with_parts.files[TABLE_FILE] == first.files[TABLE_FILE]
    installed = install(desk.release(with_parts))
    assert [one.name for one in installed.programmes] == ["cart"]
    assert installed.guardrails is not None
    again = desk.publisher.publish_base()
    assert again.journeys == ("cart",)
    assert desk.publisher.publish_experience({}).journeys == ()
    rows = [each.ledger_rows for each in desk.registry.releases()]
    assert rows == [(1,), (1,), (), ()]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cart.journey.toml": CART.replace('to = "bought"', 'to = "x"').encode()}, "line 64: "),
        ({"cart.journey.toml": CART.replace("cap = 2", "cap = 1").encode()},
         "cart.journey.toml, line 2: version: expected above 1"),
        ({"cart.content.toml": b"messages = 3"}, "cart.content.toml, line 1: "),
        ({"guardrails.toml": b""}, "guardrails.toml, line 1: expected rules"),
        ({"cart.journey.toml": b"\xff"}, "save it as UTF-8"),
        ({"model.py": b"print()"}, "expected guardrails.toml, NAME.journey.toml"),
    ],
)  # fmt: skip
def test_publisher_invalid_experience_is_never_published(
    desk: Desk, changes: dict[str, bytes], said: str
) -> None:
    """One error with file, line and remedy; repository and registry stay as they were."""
    served = desk.publisher.publish_experience(PARTS)
    with pytest.raises(ValueError, match="expected") as caught:
        desk.publisher.publish_experience({**PARTS, **changes})
    assert said in str(caught.value)
    assert desk.repository.status().manifest == served
    assert len(desk.registry.releases()) == 1


def test_publisher_journey_of_the_apps_own_feature_needs_its_name(desk: Desk) -> None:
    """What no app has is refused; what this app has, the operator names."""
    asking = CART.replace('fact = "town", is = "Ulm"', 'feature = "petite_views", at_least = 1')
    parts = {**PARTS, "cart.journey.toml": asking.encode()}
    with pytest.raises(ValueError, match="petite_views"):
        desk.publisher.publish_experience(parts)
    knowing = replace(desk.publisher, own_features=("petite_views",))
    assert knowing.publish_experience(parts).journeys == ("cart",)


def test_publisher_unbooked_release_is_refused(desk: Desk, graph: CheckedGraph) -> None:
    """A sum that the ledger has not committed never becomes a release."""
    desk.ledger.reserve(event(1))

    with pytest.raises(ValueError, match="has not committed 1 of the releases"):
        desk.publisher.publish_learned(
            learned(event(1)), settings=RankerSettings(), graph=graph, delta=1e-6
        )

    assert desk.repository.status().manifest is None
    assert desk.registry.releases() == ()


def test_publisher_start_release_claims_nothing(desk: Desk, graph: CheckedGraph) -> None:
    """A random first table states that nothing was learned from anyone."""
    table = RankerTable.from_arrays(factors=np.ones((N_ITEMS, RANK)))

    manifest = desk.publisher.publish_start(table=table, graph=graph)

    assert TABLE_FILE in manifest.files
    assert manifest.guarantee["epsilon"] is None
    assert "nothing was learned" in manifest.guarantee["mechanism"]


def test_guarantee_of_a_forecast_says_what_is_assumed() -> None:
    """A simulation's assumption travels with the claim."""
    assumed = AssumedPopulation(simulated_people=10, people=1000)

    claim = guarantee_of([event(1, assumed=assumed)], delta=1e-6)

    assert "as if 1,000 people" in claim.mechanism


def test_guarantee_without_noise_claims_nothing() -> None:
    """One exact sum among the releases, and there is no ε."""
    exact = replace(
        event(2),
        mechanism=MechanismName.UNSAFE_NO_NOISE,
        noise_source=NoiseSource.NONE,
        noise_multiplier=0.0,
    )

    claim = guarantee_of([event(1), exact], delta=1e-6)

    assert claim.epsilon is None
    assert "no noise" in claim.mechanism


def test_ranker_table_of_a_malformed_ranker_raises() -> None:
    """A table that a device would refuse is refused before it is signed."""
    broken = replace(learned().ranker, scale=np.zeros(N_ITEMS, np.float32))

    with pytest.raises(ValueError, match="scale"):
        ranker_table(broken, RankerSettings())
