"""From something learned to a signed release: table, graph through the parity gate, card, manifest.

Order of steps, so that nothing is published unbooked: the ledger has committed every release that
the ranker was decoded from (`aggregator.strategy`), the parity gate passes, the repository signs
and serves, the registry notes it with the ledger's head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aggregator.learning import Learned
from aggregator.ledger import Ledger
from aggregator.registry import ReleaseRegistry
from aggregator.repository import Repository
from client_sdk.wire import (
    CARD_FILE,
    CATALOGUE_FILE,
    GRAPH_FILE,
    POLICY_FILE,
    TABLE_FILE,
    Catalogue,
    ConsentPolicy,
    ReleaseManifest,
)
from client_sdk.wire.table import RankerSettings, RankerTable
from models.card import Guarantee, ModelCard, ParityReport
from models.decoded import DecodedRanker
from privacy.accounting import epsilon_pld
from privacy.events import ADJACENCY, TRUSTED, ReleaseEvent

GRAPH_BATCH: Final = 512
_PURPOSE: Final = "Sort a shop's items for one person, on that person's device."
_DATA_USED: Final = ("which items a person bought, put in the cart or looked at, and when",)


@dataclass(frozen=True, kw_only=True)
class CheckedGraph:
    """An exported graph that has passed the parity gate, and the proof."""

    data: bytes
    parity: ParityReport


def export_checked_graph(rank: int, *, batch: int = GRAPH_BATCH) -> CheckedGraph:
    """Export the ranker's graph and put it through the parity gate.

    Args:
        rank: The number of factors of an item.
        batch: Rows a call.

    Raises:
        ParityError: the exported file does not compute what its definition says.
    """
    from models.export import export_ranker
    from models.parity import check_parity
    from models.ranker_graph import RankerGraph

    data = export_ranker(rank=rank, batch=batch)
    return CheckedGraph(data=data, parity=check_parity(data, RankerGraph(rank=rank, batch=batch)))


def ranker_table(ranker: DecodedRanker, settings: RankerSettings) -> RankerTable:
    """Put decoded arrays and settings together as a device will read them."""
    return RankerTable(
        factors=ranker.factors,
        self_weight=ranker.self_weight,
        scale=ranker.scale,
        bias=ranker.bias,
        popularity=ranker.popularity,
        settings=settings,
    )


def guarantee_of(events: list[ReleaseEvent], *, delta: float) -> Guarantee:
    """State the claim of everything that a release was decoded from.

    Args:
        events: Every noisy sum that was used.
        delta: At which ε is stated; ε comes from the PLD accountant.
    """
    assumed = sorted({event.assumed.label for event in events if event.assumed is not None})
    noisy = bool(events) and all(event.noise_multiplier > 0 for event in events)
    words = "Gaussian noise on each clipped sum" if noisy else "none: no noise was added"
    return Guarantee(
        epsilon=epsilon_pld(events, delta) if noisy else None,
        delta=delta if noisy else None,
        adjacency=ADJACENCY,
        trust=TRUSTED,
        mechanism="; ".join([words, *assumed]),
    )


def base_files(catalogue: Catalogue, policy: ConsentPolicy) -> dict[str, bytes]:
    """The files of a release with which nothing was learned yet."""
    return {CATALOGUE_FILE: catalogue.to_bytes(), POLICY_FILE: policy.to_bytes()}


def model_files(
    *, table: RankerTable, graph: CheckedGraph, guarantee: Guarantee
) -> dict[str, bytes]:
    """The files of a release that carry a model."""
    card = ModelCard(
        name="homebody ranker",
        purpose=_PURPOSE,
        data_used=_DATA_USED,
        guarantee=guarantee,
        parity=graph.parity,
    )
    return {TABLE_FILE: table.to_bytes(), GRAPH_FILE: graph.data, CARD_FILE: card.to_bytes()}


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Publishes releases of one catalogue and policy.

    Attributes:
        repository: The signed repository that the model server hands out.
        registry: Where publications are noted.
        ledger: Whose head is noted with them.
        aggregator_key: Whose orders devices will obey, public, hexadecimal.
        catalogue: The items.
        policy: The consent text.
    """

    repository: Repository
    registry: ReleaseRegistry
    ledger: Ledger
    aggregator_key: str
    catalogue: Catalogue
    policy: ConsentPolicy

    def publish_base(self) -> ReleaseManifest:
        """Publish catalogue and policy, so that devices can take part before any model."""
        return self._publish(base_files(self.catalogue, self.policy), {}, ())

    def publish_start(self, *, table: RankerTable, graph: CheckedGraph) -> ReleaseManifest:
        """Publish a public first table, from which devices will train."""
        guarantee = Guarantee(
            epsilon=None,
            delta=None,
            adjacency=ADJACENCY,
            trust=TRUSTED,
            mechanism="none: nothing was learned from anyone yet",
        )
        files = base_files(self.catalogue, self.policy) | model_files(
            table=table, graph=graph, guarantee=guarantee
        )
        return self._publish(files, guarantee.to_json(), ())

    def publish_learned(
        self,
        learned: Learned,
        *,
        settings: RankerSettings,
        graph: CheckedGraph,
        delta: float,
    ) -> ReleaseManifest:
        """Publish what was learned.

        Args:
            learned: From `aggregator.learning`; its releases are committed in the ledger.
            settings: The scalars that go with the table.
            graph: A graph of the table's rank that passed the parity gate.
            delta: At which ε is stated.

        Raises:
            ValueError: the ledger has not committed every release it rests on.
        """
        rows = self._rows_of(learned)
        guarantee = guarantee_of(learned.events, delta=delta)
        files = base_files(self.catalogue, self.policy) | model_files(
            table=ranker_table(learned.ranker, settings), graph=graph, guarantee=guarantee
        )
        return self._publish(files, guarantee.to_json(), rows)

    def _rows_of(self, learned: Learned) -> tuple[int, ...]:
        """Find the ledger rows of every event, or refuse."""
        booked = {
            reservation.event.task_id: reservation.row
            for reservation in self.ledger.reservations()
            if reservation.accepted is not None
        }
        missing = [event.task_id for event in learned.events if event.task_id not in booked]
        if missing:
            raise ValueError(f"the ledger has not committed {len(missing)} of the releases")
        return tuple(booked[event.task_id] for event in learned.events)

    def _publish(
        self, files: Mapping[str, bytes], guarantee: Mapping[str, Any], rows: tuple[int, ...]
    ) -> ReleaseManifest:
        manifest = self.repository.publish(
            files=files, aggregator_key=self.aggregator_key, guarantee=guarantee
        )
        self.registry.record(manifest, ledger_rows=rows, ledger_head=self.ledger.head())
        return manifest
