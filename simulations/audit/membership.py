"""A second look: can a published model tell who was in it?

Half of the bundled shoppers learn item statistics together, on the shipped encoders, guard,
strategy, mechanism and ledger; the other half, drawn by coin, are people like them who were not
there. The attacker has what is published (the decoded factors, and nothing else) and one person's
full history, and scores how far the model prefers what this person had.

An attack that fails proves nothing; one that beats what the claim allows refutes it. That is the
look `membership` of a verdict. Without noise the same attack reaches an AUC of about 0.73: the test
sees a leak where there is one.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aggregator.learning import Learned, learn_item_statistics
from client_sdk.federation import guard
from client_sdk.federation.encoders import ENCODERS, EncoderInput
from client_sdk.federation.flower_device import handle_message
from client_sdk.intelligence import History
from client_sdk.intelligence.history import statistics_vector
from client_sdk.keys import DeviceKey
from client_sdk.wire import FrameKind, Order, SparseVector, read_frame
from client_sdk.wire.table import RankerSettings
from models.decoded import DecodedRanker
from privacy.gaussian import composed_noise_multiplier
from privacy.membership import Interval, auc, most_auc, most_true_positives, true_positives_at
from simulations.audit.aggregation import Aggregation, Claim, Ports
from simulations.audit.canaries import Floats
from simulations.audit.devices import bystander
from simulations.audit.verdict import CONFIDENCE, FALSE_ALARM, LOOKS, Look
from simulations.scripted import ScriptedDevice

TOP_ITEMS: Final = 200
FALSE_POSITIVE_RATE: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class MembershipResult:
    """How well the attack did.

    Attributes:
        auc: With `CONFIDENCE` limits, one-sided.
        most_auc: What the booked releases allow.
        true_positives: At `FALSE_POSITIVE_RATE` at most.
        false_positives: What was reached of that rate.
        most_true_positives: What the booked releases allow at the upper limit of that rate.
        members: People who were in.
        others: People who were not.
        contradicts: Whether the AUC is above what is allowed, beyond its share of false alarms.
    """

    auc: Interval
    most_auc: float
    true_positives: Interval
    false_positives: Interval
    most_true_positives: float
    members: int
    others: int
    contradicts: bool

    @property
    def look(self) -> Look:
        """What the verdict says about it."""
        return Look(
            name="membership",
            found=self.auc.value,
            allowed=self.most_auc,
            p_value=0.0 if self.contradicts else 1.0,
            contradicts=self.contradicts,
            says=(
                f"AUC {self.auc.value:.3f} ({self.auc.low:.3f} to {self.auc.high:.3f}); "
                f"{self.true_positives.value:.1%} of members found at "
                f"{self.false_positives.value:.1%} false alarms"
            ),
        )

    def to_values(self) -> dict[str, Any]:
        """Give what JSON holds."""
        return {
            **vars(self),
            **{
                name: vars(getattr(self, name))
                for name in ("auc", "true_positives", "false_positives")
            },
        }


def audit_membership(
    claim: Claim | None,
    *,
    histories: tuple[History, ...],
    n_items: int,
    seed: int,
    ports: Ports | None = None,
) -> MembershipResult:
    """Learn from half of the people, attack, and compare.

    Args:
        claim: What the learning may cost; None for no noise at all, where nothing is promised.
        histories: Of everybody, by catalogue row.
        n_items: Size of the catalogue.
        seed: Of who is a member.
        ports: What the pipeline is built from.
    """
    inside = np.random.default_rng(seed).random(len(histories)) < 0.5
    members = [each for each, coin in zip(histories, inside, strict=True) if coin]
    with tempfile.TemporaryDirectory(prefix="homebody-audit-") as folder, ExitStack() as stack:
        learned = _learn(
            claim,
            members,
            n_items=n_items,
            directory=Path(folder),
            ports=ports or Ports(),
            stack=stack,
        )
    if learned.top_items is None:
        raise ValueError("item statistics always choose their top items")
    scores = np.array([_score(each, learned.ranker, learned.top_items) for each in histories])
    mu = 1e3
    if claim is not None:
        mu = 1.0 / composed_noise_multiplier(each.noise_multiplier for each in learned.events)
    return compare(scores[inside], scores[~inside], mu=mu)


def audit_bundled_membership(claim: Claim | None, *, seed: int) -> MembershipResult:
    """Do it with the bundled shoppers."""
    from simulations.data.bundled import load_bundled
    from simulations.evaluation.split import hold_out
    from simulations.population import histories_of

    data = load_bundled()
    histories = histories_of(hold_out(data.interactions), data.catalogue)
    return audit_membership(
        claim, histories=tuple(histories), n_items=len(data.catalogue.items), seed=seed
    )


def compare(members: Floats, others: Floats, *, mu: float) -> MembershipResult:
    """Compare scores with what a separation ``mu`` allows; pure."""
    allowed = most_auc(mu)
    strict = auc(members, others, confidence=1.0 - FALSE_ALARM / LOOKS)
    found, wrong = true_positives_at(
        members, others, false_positive_rate=FALSE_POSITIVE_RATE, confidence=CONFIDENCE
    )
    return MembershipResult(
        auc=auc(members, others, confidence=CONFIDENCE),
        most_auc=allowed,
        true_positives=found,
        false_positives=wrong,
        most_true_positives=most_true_positives(wrong.high, mu),
        members=members.size,
        others=others.size,
        contradicts=strict.low > allowed,
    )


def _learn(
    claim: Claim | None,
    members: list[History],
    *,
    n_items: int,
    directory: Path,
    ports: Ports,
    stack: ExitStack,
) -> Learned:
    people = [_Person(history=history, n_items=n_items) for history in members]
    numbered = dict(enumerate(people, start=1))
    aggregation = Aggregation(
        claim,
        signer=DeviceKey.generate(),
        nodes={node: partial(handle_message, each.answer) for node, each in numbered.items()},
        keys={node: each.device.public_key_hex for node, each in numbered.items()},
        n_items=n_items,
        people=len(people),
        directory=directory,
        ports=ports,
        stack=stack,
    )
    return learn_item_statistics(aggregation.campaign, top_items=min(TOP_ITEMS, n_items))


class _Person:
    """A device with the shipped encoder and guard; its protocol is scripted."""

    def __init__(self, *, history: History, n_items: int) -> None:
        self._given = EncoderInput(history=history, n_items=n_items)
        nothing = SparseVector.from_dense(np.zeros(1, np.float32))
        self.device: ScriptedDevice = bystander(nothing)

    def answer(self, frame: bytes) -> bytes | None:
        asked = read_frame(frame)
        if asked.kind is FrameKind.INVITATION:
            return self.device.answer(frame)
        order = Order.from_frame(asked)
        try:
            vector = ENCODERS[order.kind](order, self._given)
        except ValueError:  # nothing of the top items in the history: no contribution
            return None
        kept = guard(vector, dimension=order.dimension, clip_norm=order.clip_norm)
        return replace(self.device, vector=kept).answer(frame)


def _score(history: History, ranker: DecodedRanker, top_items: NDArray[np.int32]) -> float:
    """Say how far the model prefers what the person had, each item judged by the others."""
    settings = RankerSettings()
    at, values = statistics_vector(
        history,
        weighting=settings.weighting,
        half_life_days=settings.half_life_days,
        within=top_items,
    )
    if not at.size:
        return 0.0
    factors = ranker.factors[top_items].astype(np.float64)
    weights = values.astype(np.float64)
    taste = weights @ factors[at]
    own = np.square(factors).sum(axis=1)
    scores = factors @ taste
    scores[at] -= weights * own[at]
    scores *= ranker.scale[top_items] / (1.0 - own)
    return float(weights @ scores[at] - weights.sum() * scores.mean())
