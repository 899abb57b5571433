"""Five hundred real customers, each with a real device and everything that a task may ask about.

A device is the code that answers: an encrypted vault, consent, participations, the task encoders,
the guard (`client_sdk.federation.Participant`). What its app would have collected beside the
history is drawn here with a seed: outcomes of an experiment, evidence of a bandit, cases of a
propensity. The same people are laid out in columns for the kernel engine.

More than 400 lines: people, devices, orders and the comparison are one scenario, set up once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from aggregator.collection import CollectionPlan
from aggregator.consents import ConsentRegistry
from aggregator.errors import QuorumNotReachedError
from aggregator.in_process import InProcessGrid
from aggregator.publishing import CheckedGraph
from aggregator.strategy import BoundedSumStrategy, TaskStrategy
from client_sdk.federation import ConsentCentre, DeviceState, Participant
from client_sdk.federation.encoders import EncoderInput
from client_sdk.federation.flower_device import handle_message
from client_sdk.intelligence import History, ItemCategories
from client_sdk.intelligence.bandit import LinearBandit
from client_sdk.intelligence.litert import LiteRtModel
from client_sdk.intelligence.propensity_steps import LabelledBatch, PropensityCases
from client_sdk.keys import DeviceKey
from client_sdk.signals import Vault
from client_sdk.signals.features import FeatureVector
from client_sdk.testing import FixedClock, MemoryKeyStore
from client_sdk.wire import (
    DEFAULT_POLICY,
    Contribution,
    FrameKind,
    Order,
    Purpose,
    SparseVector,
    TaskKind,
    read_answer,
    read_frame,
    sha256_hex,
)
from client_sdk.wire.bandit import ArmEvidence, arms_payload, contribution_length
from client_sdk.wire.evaluation import layout_of
from client_sdk.wire.outcomes import ExperimentOutcome, OutcomeLayout
from client_sdk.wire.statistics import Binning, Measure, MeasureForm, Question, Survey
from client_sdk.wire.table import RankerSettings, RankerTable
from client_sdk.wire.vectors import packed_length
from models.item_training import initial_state
from models.propensity_training import initial_weights
from privacy.bounded_sum import to_lattice
from privacy.mechanisms import UnsafeNoNoise
from simulations.data.bundled import load_bundled
from simulations.data.interactions import LoadedData
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import Answer, Crowd
from simulations.engines.encoders import KernelOptions, encoder_for
from simulations.engines.holdings import (
    ActiveRelease,
    BanditColumns,
    FeatureColumns,
    Holdings,
    OutcomeColumns,
    PropensityColumns,
)
from simulations.engines.kernel import KernelStrategy
from simulations.engines.pool import Threads
from simulations.evaluation.split import Split, hold_out
from simulations.features import PeopleFeatures, features_of
from simulations.house import UnsafeUnbookedLedger
from simulations.kernel.binding import Status
from simulations.population import SIMULATED_NOW_S, Attitude, draw_attitudes, histories_of

PEOPLE, RANK, BATCH, SEED = 500, 8, 120, 11
TRAINING = {
    "rank": RANK, "negatives": 4, "seed": 2**40 + 9, "steps": 2, "learning_rate": 0.5, "ridge": 0.7,
}  # fmt: skip
EXPERIMENT, UNKNOWN = "ab" * 32, "cd" * 32
ARMS = tuple(f"arm {each}" for each in range(6))
FEATURES, OTHER_FEATURES = 3, 2
KNOWN, HIDDEN, CASES_A_CALL = 5, 3, 4
SETTINGS = RankerSettings(form="ridge", ridge=0.7, weighting="log", half_life_days=30.0)
FAST_DISK = Path("/dev/shm")  # noqa: S108 - a vault waits for the disk, and these are many
_TOGETHER = (Purpose.TRAIN, Purpose.STATISTICS)
_TO_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What all real devices gave to one task."""

    order: Order
    contributors: frozenset[str]
    refusals: Mapping[str, int]
    total: NDArray[np.float64] | None
    vectors: Mapping[int, SparseVector]


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """What is the same for both engines."""

    data: LoadedData
    histories: tuple[History, ...]
    features: PeopleFeatures
    outcomes: tuple[ExperimentOutcome | None, ...]
    evidence: tuple[ArmEvidence | None, ...]
    cases: tuple[LabelledBatch | None, ...]
    categories: ItemCategories
    attitudes: tuple[Attitude, ...]
    silent: NDArray[np.bool_]

    @property
    def holdings(self) -> Holdings:
        """The same people in columns."""
        ordinary = [each for each in self.features.definitions if each.sensitivity == "ordinary"]
        return Holdings(
            histories=HistoryColumns.from_histories(self.histories, now_s=SIMULATED_NOW_S),
            release=ActiveRelease(
                catalogue_sha256=self.data.catalogue.sha256,
                policy_sha256=DEFAULT_POLICY.sha256,
                n_items=len(self.data.catalogue.items),
                settings=SETTINGS,
                rank=RANK,
                batch=BATCH,
                categories=self.categories,
            ),
            features=FeatureColumns(
                names=tuple(each.name for each in self.features.definitions),
                ordinary=frozenset(each.name for each in ordinary),
                values=np.where(self.features.known, self.features.values, np.nan).T.copy(),
            ),
            experiments={EXPERIMENT: OutcomeColumns.from_outcomes(self.outcomes, metrics=2)},
            bandits={"home": BanditColumns.from_evidence(self.evidence, n_features=FEATURES)},
            propensities={
                "buys": PropensityColumns.from_batches(
                    self.cases, n_features=KNOWN, hidden=HIDDEN, batch=CASES_A_CALL
                )
            },
        )


@dataclass(kw_only=True)
class Town:
    """Five hundred real devices, asked one task after the other."""

    people: People
    participants: list[Participant]
    consents: list[ConsentCentre]
    names: tuple[str, ...]
    strategy: BoundedSumStrategy
    vectors: dict[int, SparseVector] = field(default_factory=dict)

    def ask(self, order: Order) -> Asked:
        """Run one task on every device."""
        for consent, attitude in zip(self.consents, self.people.attitudes, strict=True):
            if attitude is not Attitude.REFUSES and not consent.allows(Purpose.TRAIN):
                consent.grant(*_TOGETHER)
        self.vectors = {}
        nodes = {each + 1: partial(self._node, each) for each in range(PEOPLE)}
        found = collect(self.strategy, InProcessGrid(nodes), order)
        return replace(found, vectors=dict(self.vectors))

    def _node(self, person: int, message: Message) -> Message | None:
        if self.people.silent[person]:
            return None
        return handle_message(partial(self._answer, person), message)

    def _answer(self, person: int, frame: bytes) -> bytes:
        read = read_frame(frame)
        asked_for_model = read.kind is FrameKind.ORDER and (
            Order.from_frame(read).kind is not TaskKind.ITEM_COUNTS
        )
        if asked_for_model and self.people.attitudes[person] is Attitude.WITHDRAWS_MIDWAY:
            self.consents[person].withdraw(*_TOGETHER)
        reply = self.participants[person].answer(frame)
        answer = read_answer(read_frame(reply))
        if isinstance(answer, Contribution):
            self.vectors[person] = answer.vector
        return reply


def collect(strategy: TaskStrategy, grid: InProcessGrid, order: Order) -> Asked:
    """Run one task on an engine; who is too few is counted all the same."""
    try:
        found = strategy.collect(
            grid, CollectionPlan(order=order, quorum=1), node_ids=range(1, PEOPLE + 1)
        )
    except QuorumNotReachedError as error:
        return Asked(
            order=order,
            contributors=frozenset(),
            refusals=dict(error.refusals),
            total=None,
            vectors={},
        )
    return Asked(
        order=order,
        contributors=found.contributors,
        refusals={reason.value: count for reason, count in found.refusals.items()},
        total=found.total.release(UnsafeNoNoise()),
        vectors={},
    )


def differences(
    asked: Asked,
    people: People,
    names: tuple[str, ...],
    *,
    options: KernelOptions,
    order: Order | None = None,
    each_person: bool = True,
) -> Iterator[str]:
    """Hold the kernel engine against the devices; nothing where it is their equal.

    Args:
        asked: What the devices gave.
        people: The same people.
        names: Their public keys.
        options: How the kernel computes.
        order: What the kernel is asked; by default what the devices were.
        each_person: Whether to look at every contribution, or at the sum alone.

    Yields:
        What differs: who was accepted, why others were not, the sum, then person by person.
    """
    order = order or asked.order
    said_no = np.array([each is Attitude.REFUSES for each in people.attitudes])
    crowd = Crowd(
        holdings=people.holdings,
        answers=np.where(said_no, Answer.NOT_ASKED, Answer.GRANTED).astype(np.uint8),
        withdraws_midway=np.array([each is Attitude.WITHDRAWS_MIDWAY for each in people.attitudes]),
        silent=people.silent,
        now_s=SIMULATED_NOW_S,
        names=names,
    )
    strategy = KernelStrategy(
        ledger=UnsafeUnbookedLedger(),
        crowd=crowd,
        clock=lambda: SIMULATED_NOW_S,
        pool=Threads(options=options),
    )
    try:
        ours = collect(strategy, InProcessGrid({}), order)
    except ValueError as error:
        yield f"no sum: {error}"
        return
    if ours.contributors != asked.contributors:
        yield "another set was accepted"
    if ours.refusals != asked.refusals:
        yield f"refusals: {ours.refusals} and {asked.refusals}"
    if ours.total is None or asked.total is None:
        if ours.total is not asked.total:
            yield "one engine has a sum, the other none"
        return
    if _far(ours.total, asked.total):
        yield "the sums differ"
    if not each_person:
        return
    encode = encoder_for(order, crowd.holdings, options)
    for person, vector in asked.vectors.items():
        steps = np.zeros(order.dimension, np.int64)
        status = encode(np.array([person]), steps).status
        theirs = np.zeros(order.dimension, np.int64)
        theirs[vector.indices] = to_lattice(vector.values, clip_norm=asked.order.clip_norm)
        if status.tolist() != [Status.DONE] or _far(steps, theirs):
            yield f"person {person} differs"


def _far(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    apart = float(np.linalg.norm((ours - theirs).astype(np.float64)))
    return apart > _TO_TOLERANCE * float(np.linalg.norm(theirs.astype(np.float64)))


def people_of_town() -> People:
    """Draw what the devices hold beside their real histories."""
    loaded = load_bundled()
    rows = loaded.interactions
    kept = rows.users < PEOPLE
    columns = {
        name: getattr(rows, name)[kept]
        for name in ("users", "items", "times_s", "quantities", "prices", "kinds", "occasions")
    }
    data = replace(loaded, interactions=replace(rows, n_people=PEOPLE, **columns))
    split: Split = hold_out(data.interactions)
    rng = np.random.default_rng(SEED)
    return People(
        data=data,
        histories=tuple(
            _first_item(each) if person % 25 == 3 else each
            for person, each in enumerate(histories_of(split, data.catalogue))
        ),
        features=features_of(split.train, data.catalogue, now_s=split.now_s),
        outcomes=tuple(_outcome(rng) for _ in range(PEOPLE)),
        evidence=tuple(_evidence(rng) for _ in range(PEOPLE)),
        cases=tuple(_cases(rng) for _ in range(PEOPLE)),
        categories=ItemCategories.from_names([each.category for each in data.catalogue.items]),
        attitudes=tuple(draw_attitudes(PEOPLE, seed=SEED)),
        silent=np.isin(np.arange(PEOPLE), range(0, PEOPLE, 41)),
    )


def _first_item(history: History) -> History:
    """Leave somebody who has too little to hold anything out."""
    return History(
        items=history.items[:1],
        counts=history.counts[:1],
        last_time_s=history.last_time_s[:1],
        now_s=history.now_s,
    )


def _outcome(rng: np.random.Generator) -> ExperimentOutcome | None:
    """A group (one that the order will not name, too), and outcomes that reach both bounds."""
    if rng.random() < 0.2:
        return None
    outcomes = np.clip(rng.normal(0.5, 0.6, 2), 0.0, 1.0)
    return ExperimentOutcome(group=int(rng.integers(0, 4)), outcomes=tuple(outcomes.tolist()))


def _evidence(rng: np.random.Generator) -> ArmEvidence | None:
    """What a real bandit kept: none, of other features, of arms that are not asked, of many."""
    if rng.random() < 0.15:
        return None
    features = OTHER_FEATURES if rng.random() < 0.1 else FEATURES
    bandit = LinearBandit(n_features=features)
    for _ in range(int(rng.integers(0, 7))):
        moment = rng.standard_normal(features)
        moment *= rng.random() / np.linalg.norm(moment)
        bandit.update(str(rng.choice(ARMS)), moment, reward=float(rng.random()))
    return bandit.evidence()


def _cases(rng: np.random.Generator) -> LabelledBatch | None:
    """Cases that a propensity kept: none, of no weight, fewer and more than a call of the graph."""
    if rng.random() < 0.15:
        return None
    n = int(rng.integers(0, 3 * CASES_A_CALL))
    return LabelledBatch(
        features=rng.standard_normal((n, KNOWN)) * [1.0, 50.0, 0.01, 1.0, 1e6],
        labels=rng.random(n) < 0.4,
        weights=rng.random(n) * (rng.random(n) < 0.7),
    )


@lru_cache(maxsize=1)
def propensity_graph() -> LiteRtModel:
    """The graph that all devices have; loads TensorFlow."""
    from models.propensity_graph import export_propensity

    return LiteRtModel(export_propensity(features=KNOWN, hidden=HIDDEN, batch=CASES_A_CALL)[0])


@contextmanager
def open_town(people: People, graph: CheckedGraph) -> Iterator[Town]:
    """Open the devices."""
    disk = FAST_DISK if os.access(FAST_DISK, os.W_OK) else None
    aggregator, clock = DeviceKey.generate(), FixedClock(SIMULATED_NOW_S)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=disk)))
        participants, consents, keys = [], [], []
        for person in range(PEOPLE):
            vault, lock = Vault.open(folder / f"{person}", MemoryKeyStore()), RLock()
            stack.callback(vault.close)
            signer = DeviceKey.generate()
            consent = ConsentCentre(
                vault=vault, signer=signer, policy=DEFAULT_POLICY, clock=clock, lock=lock,
                answers=[],
            )  # fmt: skip
            consent.grant(Purpose.PERSONALISE)
            state = DeviceState(
                aggregator_key=aggregator.public_key_hex,
                catalogue_sha256=people.data.catalogue.sha256,
                given=partial(_given, people, graph, person),
            )
            participants.append(
                Participant(
                    vault=vault, consent=consent, signer=signer, clock=clock, lock=lock,
                    device_state=partial(_same, state),
                )
            )  # fmt: skip
            consents.append(consent)
            keys.append(signer.public_key_hex)
        strategy = BoundedSumStrategy(
            signer=aggregator,
            ledger=UnsafeUnbookedLedger(),
            consents=ConsentRegistry(f"sqlite:///{folder / 'consents.db'}"),
            directory={person + 1: key for person, key in enumerate(keys)},
            clock=lambda: SIMULATED_NOW_S,
        )
        yield Town(
            people=people,
            participants=participants,
            consents=consents,
            names=tuple(keys),
            strategy=strategy,
        )


def _same(state: DeviceState) -> DeviceState:
    return state


def _given(people: People, graph: CheckedGraph, person: int, purpose: Purpose) -> EncoderInput:
    del purpose
    outcome, evidence = people.outcomes[person], people.evidence[person]
    cases = people.cases[person]
    features = people.features
    return EncoderInput(
        history=people.histories[person],
        n_items=len(people.data.catalogue.items),
        graph=graph.data,
        settings=SETTINGS,
        experiments={} if outcome is None else {EXPERIMENT: outcome},
        bandits={} if evidence is None else {"home": evidence},
        propensities=(
            {}
            if cases is None
            else {"buys": PropensityCases(graph=propensity_graph(), batch=cases)}
        ),
        features=lambda: FeatureVector(
            definitions=features.definitions,
            values=features.values[person].copy(),
            known=features.known[person].copy(),
            maps={},
        ),
        categories=lambda: people.categories,
    )


def survey() -> Survey:
    """A histogram, a mean, a share by segment, and fine bins for quantiles."""
    bought = Measure(feature="purchases_ever", low=1.0, high=40.0)
    often = Measure(feature="purchases_30_days", low=2.0, high=1e6, form=MeasureForm.SHARE)
    recency = Binning(feature="days_since_last_purchase", edges=(0.0, 7.0, 30.0, 90.0))
    twentieths = tuple(each / 20 for each in range(21))
    fine = Binning(feature="top_category_share", edges=twentieths)
    return Survey(
        name="basics",
        questions=(
            Question(name="recency", by=recency),
            Question(name="bought", measures=(bought,)),
            Question(name="often by recency", by=recency, measures=(often, bought)),
            Question(name="quantiles", by=fine),
        ),
    )


def tables(people: People) -> tuple[RankerTable, RankerTable]:
    """A ranker that solves for the person, and one that projects and has popularity and ties.

    They know these very histories, so that many of the items that are held out are found.
    """
    n_items = len(people.data.catalogue.items)
    had = np.zeros((PEOPLE, n_items))
    for person, history in enumerate(people.histories):
        had[person, history.items] = 1.0 / np.sqrt(len(history))
    factors = np.linalg.svd(had, full_matrices=False)[2][:RANK].T.astype(np.float32)
    factors[::7] = 0.0
    squares = np.minimum(np.einsum("nr,nr->n", factors, factors), 0.9)
    counts = (had > 0).sum(axis=0)
    solving = RankerTable.from_arrays(
        factors=factors, settings=replace(SETTINGS, ridge=0.01, category_weight=0.1)
    )
    projecting = RankerTable.from_arrays(
        factors=factors[:, :5],
        self_weight=squares,
        scale=1.0 / (1.0 - squares),
        popularity=counts / counts.max(),
        settings=RankerSettings(popularity_weight=0.1, category_weight=0.2),
    )
    return solving, projecting


def orders(people: People) -> dict[str, Order]:
    """Every task once, and what devices refuse."""
    n_items, asked = len(people.data.catalogue.items), survey()
    parts = [table.to_bytes() for table in tables(people)]
    top = np.arange(0, n_items, 16, dtype="<i4")
    factors = initial_state(n_items=n_items, rank=RANK, seed=SEED).factors
    secret = Survey(
        name="secret", questions=(Question(name="q", measures=(
            Measure(feature="no such feature", low=0.0, high=1.0),)),)
    )  # fmt: skip
    bandit = {"bandit": "home", "arms": 4, "features": FEATURES}
    bandit_length = contribution_length(n_arms=4, n_features=FEATURES)
    start = initial_weights(
        centre=np.array([0.1, 0.0, 0.0, -0.5, 0.0]), scale=np.array([1.0, 0.02, 100.0, 0.0, 1.0]),
        hidden=HIDDEN, seed=SEED,
    )  # fmt: skip
    propensity = {
        "propensity": "buys", "features": KNOWN, "hidden": HIDDEN, "learning_rate": 0.3,
        "memory": 0.5, "passes": 2,
    }  # fmt: skip
    layout = OutcomeLayout(groups=3, metrics=2, clip_norm=0.8)
    outcomes = {"experiment": EXPERIMENT, "groups": 3, "metrics": 2}
    compared = {"models": 2, "first_bytes": len(parts[0])}
    make = partial(_order, people)
    found = [
        make("item-counts", TaskKind.ITEM_COUNTS, n_items, clip_norm=0.6),
        make(
            "item-statistics", TaskKind.ITEM_STATISTICS, packed_length(len(top)), clip_norm=0.5,
            parameters={"top_items": len(top)}, payload=top.tobytes(),
        ),
        make(
            "item-training", TaskKind.ITEM_TRAINING, n_items * RANK, clip_norm=0.05,
            parameters=TRAINING, payload=factors.astype("<f4").tobytes(),
        ),
        make(
            "experiment-outcomes", TaskKind.EXPERIMENT_OUTCOMES, layout.dimension, clip_norm=0.8,
            parameters=outcomes,
        ),
        make(
            "bandit-statistics", TaskKind.BANDIT_STATISTICS, bandit_length, clip_norm=0.7,
            parameters=bandit, payload=arms_payload(["arm 4", "arm 0", "new", "arm 1"]),
        ),
        make(
            "propensity-training", TaskKind.PROPENSITY_TRAINING, start.parameters.size,
            clip_norm=0.25, parameters=propensity, payload=start.to_payload(),
        ),
        make(
            "survey", TaskKind.SURVEY, asked.dimension, clip_norm=1.3,
            parameters={"entries": asked.dimension}, payload=asked.to_bytes(),
        ),
        make(
            "model-evaluation", TaskKind.MODEL_EVALUATION,
            layout_of(2, clip_norm=0.9).dimension, clip_norm=0.9,
            parameters=compared, payload=b"".join(parts),
        ),
        make(
            "outcomes of an unknown experiment", TaskKind.EXPERIMENT_OUTCOMES, layout.dimension,
            clip_norm=0.8, parameters={**outcomes, "experiment": UNKNOWN},
        ),
        make(
            "weights that are not finite", TaskKind.PROPENSITY_TRAINING, start.parameters.size,
            clip_norm=0.25, parameters=propensity,
            payload=np.full(2 * KNOWN + start.parameters.size, np.nan, "<f4").tobytes(),
        ),
        make(
            "units that no device has", TaskKind.PROPENSITY_TRAINING, KNOWN + 1, clip_norm=0.25,
            parameters={**propensity, "hidden": 0}, payload=bytes(4 * (3 * KNOWN + 1)),
        ),
        make(
            "arms that are too few", TaskKind.BANDIT_STATISTICS, bandit_length, clip_norm=0.7,
            parameters=bandit, payload=arms_payload(["arm 4"]),
        ),
        make(
            "a survey of what nobody tells", TaskKind.SURVEY, secret.dimension, clip_norm=1.0,
            parameters={"entries": secret.dimension}, payload=secret.to_bytes(),
        ),
        make(
            "a table that is none", TaskKind.MODEL_EVALUATION,
            layout_of(1, clip_norm=1.0).dimension, clip_norm=1.0,
            parameters={"models": 1, "first_bytes": 7}, payload=b"garbage",
        ),
    ]  # fmt: skip
    return {each.population: each for each in found}


def _order(
    people: People,
    name: str,
    kind: TaskKind,
    dimension: int,
    *,
    clip_norm: float,
    parameters: Mapping[str, Any] | None = None,
    payload: bytes = b"",
) -> Order:
    return Order(
        task_id=sha256_hex(name.encode())[:32],
        kind=kind,
        population=name,
        round=0,
        policy_sha256=DEFAULT_POLICY.sha256,
        catalogue_sha256=people.data.catalogue.sha256,
        dimension=dimension,
        clip_norm=clip_norm,
        closes_at_s=int(SIMULATED_NOW_S) + 600,
        promise={},
        parameters=parameters or {},
        payload_sha256=sha256_hex(payload),
        payload=payload,
    )
