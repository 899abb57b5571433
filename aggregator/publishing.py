"""From something learned to a signed release: table, graph through the parity gate, card, manifest.

Order of steps, so that nothing is published unbooked: the ledger has committed every release that
the ranker was decoded from (`aggregator.strategy`), the parity gate passes, the repository signs
and serves, the registry notes it with the ledger's head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aggregator.bandit_learning import LearnedBandits
from aggregator.experience_parts import experience_files
from aggregator.learning import Learned
from aggregator.ledger import Ledger
from aggregator.registry import ReleaseRegistry
from aggregator.repository import Repository
from client_sdk.wire import (
    BANDITS_FILE,
    CARD_FILE,
    CATALOGUE_FILE,
    GRAPH_FILE,
    POLICY_FILE,
    TABLE_FILE,
    Catalogue,
    ConsentPolicy,
    ReleaseManifest,
    is_experience_file,
)
from client_sdk.wire.bandit import write_priors
from client_sdk.wire.table import RankerSettings, RankerTable
from models.card import Guarantee, ModelCard, ParityReport
from models.decoded import DecodedRanker
from privacy.accounting import epsilon_pld
from privacy.events import ADJACENCY, TRUSTED, ReleaseEvent
from privacy.factorisation import Factorisation

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
    runs = [_run_words(event.factorisation) for event in events if event.factorisation is not None]
    return Guarantee(
        epsilon=epsilon_pld(events, delta) if noisy else None,
        delta=delta if noisy else None,
        adjacency=ADJACENCY,
        trust=TRUSTED,
        mechanism="; ".join([words, *runs, *assumed]),
    )


def _run_words(run: Factorisation) -> str:
    return (
        f"one run of {run.rounds} rounds, noise by {run.name.value}, nobody in more than "
        f"{run.participations} rounds or in two less than {run.min_separation} apart"
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
        own_features: The app's own features that journeys may ask for.
    """

    repository: Repository
    registry: ReleaseRegistry
    ledger: Ledger
    aggregator_key: str
    catalogue: Catalogue
    policy: ConsentPolicy
    own_features: tuple[str, ...] = ()

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
        bandits: LearnedBandits | None = None,
    ) -> ReleaseManifest:
        """Publish what was learned.

        Args:
            learned: From `aggregator.learning`; its releases are committed in the ledger.
            settings: The scalars that go with the table.
            graph: A graph of the table's rank that passed the parity gate.
            delta: At which ε is stated.
            bandits: Priors to publish with it.

        Raises:
            ValueError: the ledger has not committed every release it rests on.
        """
        events = [*learned.events, *(bandits.events if bandits else ())]
        rows = self._rows_of(events)
        guarantee = guarantee_of(events, delta=delta)
        files = base_files(self.catalogue, self.policy) | model_files(
            table=ranker_table(learned.ranker, settings), graph=graph, guarantee=guarantee
        )
        if bandits is not None:
            files[BANDITS_FILE] = write_priors(bandits.priors)
        return self._publish(files, guarantee.to_json(), rows)

    def publish_bandits(self, bandits: LearnedBandits, *, delta: float) -> ReleaseManifest:
        """Publish catalogue, policy and the priors of bandits, before any ranker was learned.

        Args:
            bandits: From `aggregator.bandit_learning`; its releases are committed in the ledger.
            delta: At which ε is stated.

        Raises:
            ValueError: the ledger has not committed every release they rest on.
        """
        rows = self._rows_of(bandits.events)
        files = base_files(self.catalogue, self.policy)
        files[BANDITS_FILE] = write_priors(bandits.priors)
        guarantee = guarantee_of(bandits.events, delta=delta)
        return self._publish(files, guarantee.to_json(), rows)

    def publish_experience(self, parts: Mapping[str, bytes]) -> ReleaseManifest:
        """Publish other guardrails, journeys and contents; what was learned stays as it is served.

        They go along with every later release, until they are published anew.

        Args:
            parts: ``guardrails.toml``, and for each journey ``NAME.journey.toml`` and
                ``NAME.content.toml``: all that shall be served. None of them takes all back.

        Raises:
            ValueError: another file, or the first mistake in one, with file, line and remedy;
                nothing was published.
        """
        unknown = sorted(set(parts) - set(experience_files(parts)))
        if unknown:
            raise ValueError(
                f"parts: expected guardrails.toml, NAME.journey.toml and NAME.content.toml; got "
                f"{unknown}: rename or remove them"
            )
        served = self.repository.status().manifest
        if served is None:
            files = base_files(self.catalogue, self.policy)
            return self._publish(files, {}, (), experience=parts)
        kept = self.repository.files_of(served, of=lambda name: not is_experience_file(name))
        rows = next(
            (one.ledger_rows for one in self.registry.releases() if one.version == served.version),
            (),
        )
        return self._publish(kept, served.guarantee, tuple(rows), experience=parts)

    def _rows_of(self, events: Sequence[ReleaseEvent]) -> tuple[int, ...]:
        """Find the ledger rows of every event, or refuse."""
        booked = {
            reservation.event.task_id: reservation.row
            for reservation in self.ledger.reservations()
            if reservation.accepted is not None
        }
        missing = [event.task_id for event in events if event.task_id not in booked]
        if missing:
            raise ValueError(f"the ledger has not committed {len(missing)} of the releases")
        return tuple(booked[event.task_id] for event in events)

    def _publish(
        self,
        files: Mapping[str, bytes],
        guarantee: Mapping[str, Any],
        rows: tuple[int, ...],
        *,
        experience: Mapping[str, bytes] | None = None,
    ) -> ReleaseManifest:
        """Sign, serve and note a release; the parts of the served one go along by default."""
        served = self.repository.status().manifest
        if experience is None:
            experience = (
                {} if served is None else self.repository.files_of(served, of=is_experience_file)
            )
        manifest = self.repository.publish(
            files={**files, **experience},
            aggregator_key=self.aggregator_key,
            guarantee=guarantee,
            own_features=self.own_features,
        )
        self.registry.record(manifest, ledger_rows=rows, ledger_head=self.ledger.head())
        return manifest
