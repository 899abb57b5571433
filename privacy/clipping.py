"""How updates are clipped, and what follows for sensitivity: flat, per layer, or adaptive.

Guarantee: whatever the policy, one contribution has at most the L2 norm `ClipState.clip_norm` that
its order names, because the device clips to it and `privacy.bounded_sum` clips again. The
sensitivity of a round is that clip norm and no other: the sum's lattice is made from the order's
clip norm, and a reply that answers an older order, hence an older clip, is refused
(`aggregator.admission`, rule 5).

Per layer: each layer has the clip ``share · C``, the squares of the shares sum to 1, and so the
whole norm is at most C. It changes what is kept of an update, never what is paid.

Adaptive (Andrew, Thakkar, McMahan and Ramaswamy 2021, arXiv 1905.03871): the clip follows a
quantile γ of the updates' norms, ``C ← C · exp(-η (f - γ))``, where f is the noisy fraction of
updates that fitted. Too many clipped: f < γ, and the clip *rises*. The count is not free, and is
not a query of its own: each vector has one more entry of ±√q·C beside an update that is clipped to
√(1-q)·C, so that ‖(update, entry)‖² ≤ (1-q)·C² + q·C² = C². One vector, one sensitivity C, one
event. What it costs is accuracy: of ρ, the share 1-q is left for the update, whose noise is larger
by 1/√(1-q), and the share q pays for the count (`count_rho`, `update_noise_factor`).

A run's noise is counted in units of the clip in force, so that the whole release keeps one noise
multiplier while the clip moves; adaptively chosen scales are covered as every round's query is
(Denisov et al. 2022, arXiv 2202.08312, theorem 2.1).

Neighbouring relation: `privacy.events.ADJACENCY`.

Edge cases:

| input | outcome | test |
|---|---|---|
| an update of norm exactly the clip | fitted, kept | `test_guard_counts_clipped` |
| every update clipped | the clip rises, at most by exp(η γ) | `test_adaptive_…_rises` |
| no update clipped | the clip falls, at most by exp(-η (1-γ)) | `test_adaptive_…_falls` |
| fraction outside [0, 1] by noise | taken as 0 or 1 | `test_adaptive_noise_is_bounded` |
| a clip beyond its bounds | stays at the bound | `test_adaptive_stays_in_bounds` |
| fewer contributions than the report goal | counts as half fitted | `test_adaptive_missing_…` |
| zero, NaN or infinite clip, share, quantile or rate | `ValueError` | `test_policy_refuses` |
| a noisy sum of another length, or not finite | `ValueError` | `test_split_refuses` |

Test: tests/privacy/test_clipping.py, tests/client_sdk/federation/test_guard.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import FLAT, ClippingTerms

MAX_CLIP_NORM: Final = 10.0
"""What a device accepts (`client_sdk.federation.participant`)."""


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """How an adaptive clip moves.

    Attributes:
        quantile: γ in (0, 1), the fraction of updates that should fit.
        learning_rate: η > 0.
        count_share: q in (0, 1), the share of ρ that pays for the count.
        least: Smallest clip norm, above 0.
        most: Largest clip norm, at most `MAX_CLIP_NORM`.
    """

    quantile: float = 0.5
    learning_rate: float = 0.2
    count_share: float = 0.01
    least: float = 1e-3
    most: float = MAX_CLIP_NORM

    def __post_init__(self) -> None:
        if not 0.0 < self.quantile < 1.0 or not 0.0 < self.count_share < 1.0:
            raise ValueError("quantile and count_share must lie strictly between 0 and 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0.0):
            raise ValueError("learning_rate must be finite and above 0")
        if not 0.0 < self.least <= self.most <= MAX_CLIP_NORM:
            raise ValueError(f"expected 0 < least <= most <= {MAX_CLIP_NORM:g}")


@dataclass(frozen=True, kw_only=True)
class ClippingPolicy:
    """What is fixed before a run.

    Attributes:
        clip_norm: Of the first round, in (0, `MAX_CLIP_NORM`].
        terms: What every order says about clipping; flat by default.
        adaptation: How the clip moves; None keeps it. Its count share is that of the terms.

    >>> ClippingPolicy.adaptive(clip_norm=1.0).terms.extra_entries
    1
    """

    clip_norm: float
    terms: ClippingTerms = FLAT
    adaptation: Adaptation | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.clip_norm <= MAX_CLIP_NORM:
            raise ValueError(f"clip_norm must lie in (0, {MAX_CLIP_NORM:g}]; got {self.clip_norm}")
        counted = 0.0 if self.adaptation is None else self.adaptation.count_share
        if counted != self.terms.count_share:
            raise ValueError("the terms must count exactly where the clip adapts, at one share")

    @classmethod
    def adaptive(cls, *, clip_norm: float, adaptation: Adaptation | None = None) -> ClippingPolicy:
        """Follow a quantile of the updates' norms, from a first clip norm."""
        chosen = adaptation or Adaptation()
        terms = ClippingTerms(count_share=chosen.count_share)
        return cls(clip_norm=clip_norm, terms=terms, adaptation=chosen)

    def start(self) -> ClipState:
        """Give the state before the first round."""
        return ClipState(policy=self, clip_norm=self.clip_norm)

    @property
    def update_noise_factor(self) -> float:
        """By how much the count makes the update's noise larger: 1/√(1-q)."""
        return 1.0 / math.sqrt(1.0 - self.terms.count_share)

    def count_rho(self, noise_multiplier: float) -> float:
        """Give what the counts cost of a release's ρ = 1/(2σ²); it is inside that ρ, not on top."""
        return 0.5 * self.terms.count_share / noise_multiplier**2

    def to_values(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "clip_norm": self.clip_norm,
            "terms": self.terms.to_values(),
            "adaptation": None if self.adaptation is None else dict(vars(self.adaptation)),
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ClippingPolicy:
        """Read what `to_values` wrote.

        Raises:
            ValueError: anything else.
        """
        adaptation = values["adaptation"]
        return cls(
            clip_norm=values["clip_norm"],
            terms=ClippingTerms.from_values(values["terms"]),
            adaptation=None if adaptation is None else Adaptation(**adaptation),
        )


@dataclass(frozen=True, kw_only=True)
class ClipState:
    """The clip in force.

    Attributes:
        policy: What was fixed before the run.
        clip_norm: C of the present round: the sensitivity of what is clipped by it.
    """

    policy: ClippingPolicy
    clip_norm: float

    @property
    def sensitivity(self) -> float:
        """Largest L2 change of this round's sum by one person; derived, never given."""
        return self.clip_norm

    def split(self, noisy_sum: NDArray[np.float64]) -> tuple[NDArray[np.float64], float | None]:
        """Part a round's noisy sum into the update's, rescaled, and the count's entry.

        Args:
            noisy_sum: float64[d], or float64[d + 1] where fits are counted; finite.

        Returns:
            float64[d], as if the updates had been clipped to ``clip_norm`` and nothing counted;
            and (fitted - clipped), noisy, or None where nothing is counted.

        Raises:
            ValueError: too short, or not finite.
        """
        if not np.isfinite(noisy_sum).all() or noisy_sum.size <= self.policy.terms.extra_entries:
            raise ValueError("expected a finite noisy sum with at least one entry of the update")
        share = self.policy.terms.count_share
        if not share:
            return noisy_sum, None
        balance = float(noisy_sum[-1]) / (math.sqrt(share) * self.clip_norm)
        return noisy_sum[:-1] * self.policy.update_noise_factor, balance

    def after(self, balance: float | None, *, report_goal: int) -> ClipState:
        """Move the clip for the next round; post-processing of the noisy sum.

        Args:
            balance: (fitted - clipped), as `split` gives it.
            report_goal: The fixed denominator, in people.
        """
        adaptation = self.policy.adaptation
        if adaptation is None or balance is None:
            return self
        fitted = min(1.0, max(0.0, 0.5 + 0.5 * balance / report_goal))
        factor = math.exp(-adaptation.learning_rate * (fitted - adaptation.quantile))
        moved = min(adaptation.most, max(adaptation.least, self.clip_norm * factor))
        return replace(self, clip_norm=moved)
