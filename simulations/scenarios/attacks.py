"""What hostile devices send: the arithmetic for the kernel, and the message of a real device.

| attack | what the device sends | what the aggregator does |
|---|---|---|
| label flipping | the opposite of its honest, clipped update | adds it: nobody can see it |
| boosting | its update, ``factor`` times | clips it again: at most the clip norm, its direction |
| not a number | NaN | refuses it (`NOT_FINITE`) |
| sybils | honest work on a made-up history, from many enrolled keys | adds each: all have consent |

So the harm of n such devices is a vector of norm at most n times the clip norm (twice that beside
what they would have sent), whatever they send. Where the clipping counts who fitted, a flipped
update leaves its count as it is, and a boosted one counts as what it claims to be.

Rules a reader can check line by line:

1. Sums are linear: the flipped part is the honest sum of those people, subtracted. Truncation to
   the lattice is toward zero, the same for a vector and its opposite: not a step is off.
2. A boosted update on the lattice of clip norm C is ``clip(f v, C) 2^30 / C``, which is the honest
   update on the lattice of clip norm C / f: so the kernel is asked with C / f, and its steps are
   read as steps of C.
3. Sybils hold one and the same history, and a contribution is a function of order and history
   alone: it is computed once and taken as often as there are sybils.
4. Nothing but the inner pool computes a contribution: its workers, blocks and kernels are its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from client_sdk.federation.guard import guard
from client_sdk.wire import (
    ClippingTerms,
    Contribution,
    Order,
    Refusal,
    Signer,
    WireFormatError,
    read_answer,
    read_frame,
)
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import WILLING, code_of
from simulations.engines.holdings import Holdings
from simulations.engines.pool import Pool, ShardSum

_PIECE: Final = 1 << 22


class Attack(IntEnum):
    """What a device does, as a number in an array; the order of `Hostile.shares`."""

    NONE = 0
    LABEL_FLIPPING = 1
    BOOSTING = 2
    NOT_A_NUMBER = 3
    SYBIL = 4


class Attackers(Protocol):
    """Says who attacks; `simulations.scenarios.conditions.Conditions` is one."""

    def attacks(self, people: NDArray[np.int64], *, round_number: int) -> NDArray[np.int8]:
        """Give int8[m], an `Attack` for each person."""
        ...


@dataclass(frozen=True, kw_only=True)
class HostilePool:
    """A pool in which some people attack; the others' part is the inner pool's.

    Attributes:
        inner: Who adds up.
        attackers: Who attacks in which round.
        boost_factor: How many times a boosted update is sent, at least 1.
        profile: What each sybil holds; needed where there are sybils.

    Raises:
        ValueError: a factor below 1.
    """

    inner: Pool
    attackers: Attackers
    boost_factor: float = 100.0
    profile: HistoryColumns | None = None

    def __post_init__(self) -> None:
        if not self.boost_factor >= 1.0:
            raise ValueError(f"boost_factor must be at least 1; got {self.boost_factor}")

    def add_up(self, order: Order, holdings: Holdings, people: NDArray[np.int64]) -> ShardSum:
        """Add up the contributions of these people, hostile ones included, in their order.

        Raises:
            ValueError: there are sybils, and no profile.
        """
        attack = self.attackers.attacks(people, round_number=order.round)
        outcome = np.full(len(people), WILLING, np.int8)

        def added(who: NDArray[np.bool_], asked: Order) -> NDArray[np.int64]:
            done = self.inner.add_up(asked, holdings, people[who])
            outcome[who] = done.outcome
            return done.steps

        total = added(attack == Attack.NONE, order)
        flips, boosts = attack == Attack.LABEL_FLIPPING, attack == Attack.BOOSTING
        if flips.any():
            steps = added(flips, order).copy()
            steps[: order.dimension - order.clipping.extra_entries] *= -1
            total = total + steps
        if boosts.any():
            asked = replace(order, clip_norm=order.clip_norm / self.boost_factor)
            total = total + added(boosts, asked)
        sybils = attack == Attack.SYBIL
        if sybils.any():
            if self.profile is None:
                raise ValueError("sybils need a profile: what each of them claims to hold")
            held = Holdings(release=holdings.release, histories=self.profile)
            one = self.inner.add_up(order, held, np.zeros(1, np.int64))
            outcome[sybils] = one.outcome[0]
            total = total + one.steps * np.int64(np.count_nonzero(sybils))
        outcome[attack == Attack.NOT_A_NUMBER] = code_of(Refusal.NOT_FINITE)
        return ShardSum(steps=total, outcome=outcome)


def sybil_profile(histories: HistoryColumns, *, n_items: int, items: int) -> HistoryColumns:
    """Make the history that one actor's devices claim to have: the least sold items, each once.

    Args:
        histories: What people really hold; read in pieces.
        n_items: Length of the catalogue.
        items: How many to promote, at least 1 and at most the catalogue.

    Returns:
        Columns of one person.

    Raises:
        ValueError: more items than there are.
    """
    if not 1 <= items <= n_items:
        raise ValueError(f"sybil_items must be from 1 to {n_items}; got {items}")
    sold = np.zeros(n_items, np.int64)
    for start in range(0, len(histories.items), _PIECE):
        sold += np.bincount(histories.items[start : start + _PIECE], minlength=n_items)
    chosen = np.sort(np.argsort(sold, kind="stable")[:items]).astype(np.int32)
    return HistoryColumns(
        offsets=np.array([0, items], np.int64),
        items=chosen,
        counts=np.ones(items, np.float32),
        last_time_s=np.full(items, histories.now_s),
        now_s=histories.now_s,
    )


def tampered(frame: bytes, attack: Attack, *, order: Order, factor: float, signer: Signer) -> bytes:
    """Turn a real device's honest contribution into the attack's, signed with the device's key.

    Args:
        frame: The contribution.
        attack: What to do; `SYBIL` changes nothing here: its history was made up.
        order: What was asked.
        factor: How many times a boosted update is sent.
        signer: The device's key.

    Raises:
        WireFormatError: the frame is something else.
    """
    if attack in (Attack.NONE, Attack.SYBIL):
        return frame
    sent = read_answer(read_frame(frame))
    if not isinstance(sent, Contribution):
        raise WireFormatError("expected a contribution to tamper with; got another answer")
    values = sent.vector.values.copy()
    extra = order.clipping.extra_entries
    update = slice(0, len(values) - extra)
    if attack is Attack.LABEL_FLIPPING:
        values[update] *= -1.0
    elif attack is Attack.NOT_A_NUMBER:
        values[:1] = np.nan
    elif not extra:
        values *= np.float32(factor)
    else:
        # Undone as far as it can be, and guarded again as if the update had been so large.
        share = order.clipping.count_share
        raw = replace(
            sent.vector,
            dimension=order.dimension - extra,
            indices=sent.vector.indices[update],
            values=(values[update] * (factor / np.sqrt(1.0 - share))).astype(np.float32),
        )
        vector = guard(
            raw,
            dimension=order.dimension,
            clip_norm=order.clip_norm,
            clipping=ClippingTerms(count_share=share),
        )
        return replace(sent, vector=vector).to_bytes(signer)
    return replace(sent, vector=replace(sent.vector, values=values)).to_bytes(signer)
