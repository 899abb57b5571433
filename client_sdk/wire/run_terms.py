"""What an order says about the run that it belongs to, and about how its vector is clipped.

Both are signed with the order. A device holds the run's terms against its own memory of the run
(`client_sdk.federation.participations`); it clips as the clipping terms say, and the aggregator
clips again. They came with version 2 of orders and invitations: a device that cannot keep them does
not read such an order, and refuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from client_sdk.wire.frame import Fields, WireFormatError

MAX_ROUNDS: Final = 1_000_000
MAX_LAYERS: Final = 1_024
_SQUARES_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class RunTerms:
    """Which training run a round belongs to, and how often a person may be in it.

    Attributes:
        run_id: 32 hexadecimal digits, the ledger's name of the whole run.
        started_at_s: When the run started, seconds since 1970 (UTC), the same in all its orders.
        rounds: How many rounds the run has, at least 1.
        min_separation: Smallest difference of the numbers of two rounds that one person is in, at
            least 1.
        max_participations: In how many rounds one person may be, at least 1.

    >>> terms = RunTerms(run_id="ab" * 16, started_at_s=0, rounds=9, min_separation=3,
    ...     max_participations=2)
    >>> RunTerms.from_values(terms.to_values()) == terms
    True
    """

    run_id: str
    started_at_s: int
    rounds: int
    min_separation: int
    max_participations: int

    def __post_init__(self) -> None:
        for name in ("rounds", "min_separation", "max_participations"):
            if not 1 <= getattr(self, name) <= MAX_ROUNDS:
                raise ValueError(f"{name} must be from 1 to {MAX_ROUNDS:,}")

    def to_values(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return dict(vars(self))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> RunTerms:
        """Read what `to_values` wrote.

        Raises:
            WireFormatError: anything else.
        """
        fields = Fields(values)
        read: dict[str, Any] = {
            "run_id": fields.take_hex("run_id", 32),
            "started_at_s": fields.take("started_at_s", int),
            "rounds": fields.take("rounds", int),
            "min_separation": fields.take("min_separation", int),
            "max_participations": fields.take("max_participations", int),
        }
        fields.done()
        try:
            return cls(**read)
        except ValueError as error:
            raise WireFormatError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A run of entries that is clipped on its own.

    Attributes:
        entries: How many, at least 1.
        share: Its clip over the order's clip norm, in (0, 1].
    """

    entries: int
    share: float


@dataclass(frozen=True, kw_only=True)
class ClippingTerms:
    """How a vector is brought below the clip norm; without layers and count: by its whole norm.

    Attributes:
        layers: Their lengths and shares, in the vector's order; the squares of the shares sum to
            1, so that the whole norm is the clip norm.
        count_share: q in (0, 1): one more entry says whether the update was clipped. It has the
            absolute value ``√q · clip``, and the update is clipped to ``√(1 - q) · clip``, so that
            both together still have the clip norm. 0: no such entry.

    >>> ClippingTerms(layers=(Layer(entries=3, share=0.6), Layer(entries=1, share=0.8))).entries
    4
    >>> ClippingTerms(count_share=0.01).extra_entries
    1
    """

    layers: tuple[Layer, ...] = ()
    count_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.count_share < 1.0:
            raise ValueError(f"count_share must lie in [0, 1); got {self.count_share}")
        if not self.layers:
            return
        if self.count_share:
            raise ValueError("layers and a clipped count do not go together")
        if len(self.layers) > MAX_LAYERS:
            raise ValueError(f"at most {MAX_LAYERS} layers; got {len(self.layers)}")
        if any(layer.entries < 1 or not 0.0 < layer.share <= 1.0 for layer in self.layers):
            raise ValueError("a layer has at least one entry and a share in (0, 1]")
        squares = math.fsum(layer.share**2 for layer in self.layers)
        if abs(squares - 1.0) > _SQUARES_TOLERANCE:
            raise ValueError(f"the squares of the layers' shares must sum to 1; got {squares}")

    @property
    def entries(self) -> int | None:
        """How many entries the layers have together; None where they do not say."""
        return sum(layer.entries for layer in self.layers) if self.layers else None

    @property
    def extra_entries(self) -> int:
        """How many entries the vector has beyond those of its task."""
        return 1 if self.count_share else 0

    def to_values(self) -> dict[str, Any]:
        """Give plain JSON values; nothing for a flat clip."""
        values: dict[str, Any] = {}
        if self.layers:
            values["layers"] = [[layer.entries, layer.share] for layer in self.layers]
        if self.count_share:
            values["count_share"] = self.count_share
        return values

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ClippingTerms:
        """Read what `to_values` wrote.

        Raises:
            WireFormatError: anything else.
        """
        fields = Fields(values)
        count_share = fields.take("count_share", float) if "count_share" in values else 0.0
        pairs = fields.take("layers", list) if "layers" in values else []
        fields.done()
        try:
            return cls(layers=tuple(_layer(pair) for pair in pairs), count_share=count_share)
        except ValueError as error:
            raise WireFormatError(str(error)) from error


FLAT: Final = ClippingTerms()


def _layer(pair: object) -> Layer:
    if not isinstance(pair, list) or len(pair) != 2:
        raise WireFormatError("a layer is its length and its share")
    entries, share = pair
    if type(entries) is not int or type(share) not in (int, float):
        raise WireFormatError("a layer is a whole number and a number")
    return Layer(entries=entries, share=float(share))
