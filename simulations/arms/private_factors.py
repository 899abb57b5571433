"""Central DP-SGD matrix factorisation with Opacus: a trusted server, a private model.

Guarantee: everything that this file's `learn_factors` returns about others (item factors and noisy
counts) is (ε, δ)-differentially private for a **person**: one example is one person's whole
history, its gradient is clipped as one, so the unit of privacy is the one of the federated arms.
The person's own vector is solved from their own history and serves that person alone (billboard
model: Hsu et al. 2014, "Private Matchings and Allocations", lemma 3).

Neighbouring relation: add or remove one person; sums are divided by expected batch sizes, which are
public. ε relies on Poisson sampling, which a central server can do honestly, as it holds the data.

Whom one must trust: the central server, which sees every raw history.

Rules a reader can check line by line:

1. Two mechanisms share the budget. First one Gaussian release of item counts (each person's
   unit-norm history): it chooses the top K and ranks the rest. Then T steps of DP-SGD on a K × d
   table (Abadi et al. 2016, arXiv 1607.00133), by Opacus' `PrivacyEngine` with ghost clipping.
2. In each step the vector of each sampled person is solved exactly against the current table (as
   in iALS), without gradient; the table then moves along the clipped, noised gradient of
   ``Σ_j w_j (s_j - x_j)² / length^half``, w = 1 where x_j = 1, else ``zero_weight``.
3. ε is the upper bound of Opacus' PRV accountant over both mechanisms.
4. "As if ten times the people" divides the noise on both sums by ten; sampling rate and ε stay.
5. Noise and sampling are drawn from a seed, for repeatable experiments: a forecast, no release.

| case | outcome |
|---|---|
| a person with nothing | no gradient; in the sample like any other |
| a person with everything | one example, clipped to the norm |
| fewer than two people | `ValueError` |
| ε that no noise multiplier below 10⁴ reaches | `ValueError` |

Opacus brings torch and takes 10 s to import: on use only. Test:
tests/simulations/arms/test_private_factors.py.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from models.item_statistics import select_top_items
from privacy.gaussian import noise_multiplier_for
from simulations.arms.errors import LibraryMissingError
from simulations.arms.matrices import Matrix
from simulations.data.interactions import FloatArray, IntArray

MECHANISM: Final = (
    "Gaussian item counts, then DP-SGD over persons (Opacus, Poisson sampling, flat clipping); "
    "ε is the upper bound of Opacus' PRV accountant"
)
_LEAST_MULTIPLIER: Final = 0.3
_MOST_MULTIPLIER: Final = 1e4
_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class FactorSettings:
    """How the table is learned; the defaults were chosen by ``python -m benchmarks.arms --tune``.

    Attributes:
        top_items: K, how many items have factors; at least 1.
        rank: d, at least 1.
        steps: T, at least 1.
        sampling_rate: Chance of a person to be in a step, in (0, 1]; rounded to one over a whole
            number of batches.
        learning_rate: Of plain SGD on the mean over the expected batch.
        clip_norm: Largest norm of a person's gradient, above 0.
        zero_weight: w of what a person has not, in (0, 1].
        ridge: Penalty on a person's vector, above 0.
        counts_share: Of the Gaussian ρ that ε alone would give, what the counts take; in (0, 1).
        popularity_weight: How far noisy counts order what the table leaves, >= 0.
    """

    top_items: int = 400
    rank: int = 8
    steps: int = 200
    sampling_rate: float = 0.1
    learning_rate: float = 300.0
    clip_norm: float = 0.1
    zero_weight: float = 0.3
    ridge: float = 0.1
    counts_share: float = 0.1
    popularity_weight: float = 0.001

    def __post_init__(self) -> None:
        if min(self.top_items, self.rank, self.steps) < 1:
            raise ValueError("top_items, rank and steps must be at least 1")
        if not (0.0 < self.sampling_rate <= 1.0 and 0.0 < self.zero_weight <= 1.0):
            raise ValueError("sampling_rate and zero_weight must be in (0, 1]")
        if not (0.0 < self.counts_share < 1.0 and self.popularity_weight >= 0.0):
            raise ValueError("counts_share must be in (0, 1), popularity_weight >= 0")
        if not min(self.learning_rate, self.clip_norm, self.ridge) > 0.0:
            raise ValueError("learning_rate, clip_norm and ridge must be above 0")


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What the two mechanisms are, and so what they cost.

    Attributes:
        counts_multiplier: Noise on the counts over their sensitivity.
        step_multiplier: Noise on each step's sum over the clip norm.
        sampling_rate: Of each step.
        steps: How many.
    """

    counts_multiplier: float
    step_multiplier: float
    sampling_rate: float
    steps: int

    def epsilon(self, delta: float) -> float:
        """Give ε at δ, the upper bound of Opacus' PRV accountant over both mechanisms."""
        opacus = _opacus()
        accountant = opacus.accountants.PRVAccountant()
        accountant.history = [
            (self.counts_multiplier, 1.0, 1),
            (self.step_multiplier, self.sampling_rate, self.steps),
        ]
        return _epsilon(accountant, delta)


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivateFactors:
    """What was learned and may be shown to everybody.

    Attributes:
        top_items: int32[K], strictly increasing.
        factors: float64[K, d].
        popularity: float64[items], noisy counts over the largest.
        settings: How a person's vector is solved against it.
        engine_multipliers: What `PrivacyEngine` really recorded: (noise multiplier, sampling rate,
            steps), the counts first. Equal to what was planned unless a larger population was
            assumed.
    """

    top_items: IntArray
    factors: FloatArray
    popularity: FloatArray
    settings: FactorSettings
    engine_multipliers: tuple[tuple[float, float, int], ...]

    def scores(self, held: Matrix) -> FloatArray:
        """Score for some people: float64[people, items] from their rows of ones."""
        found = np.tile(self.settings.popularity_weight * self.popularity, (held.shape[0], 1))
        own = solve_people(held[:, self.top_items], self.factors, self.settings)
        found[:, self.top_items] += own @ self.factors.T
        return found


def plan_spending(
    *, epsilon: float, delta: float, people: int, settings: FactorSettings
) -> Spending:
    """Find the least noise (from 0.3 on) with which both mechanisms stay inside a budget.

    Args:
        epsilon: ε > 0 of both together.
        delta: δ in (0, 1).
        people: How many there are, at least 2; only the number of batches depends on it.
        settings: Steps, sampling rate and the share of the counts.

    Raises:
        ValueError: out of range, or not reachable.
        LibraryMissingError: Opacus is not installed.
    """
    alone = noise_multiplier_for(epsilon=epsilon, delta=delta)
    return _least_noise(
        epsilon,
        delta,
        counts_multiplier=alone / math.sqrt(settings.counts_share),
        sampling_rate=1.0 / len(_batch_starts(people, settings)),
        steps=settings.steps,
    )


@lru_cache(maxsize=64)
def _least_noise(
    epsilon: float, delta: float, *, counts_multiplier: float, sampling_rate: float, steps: int
) -> Spending:
    """Bisect the noise of a step; every seed and every other setting asks for the same."""

    def spending(multiplier: float) -> Spending:
        return Spending(
            counts_multiplier=counts_multiplier,
            step_multiplier=multiplier,
            sampling_rate=sampling_rate,
            steps=steps,
        )

    low, high = _LEAST_MULTIPLIER, 1.0
    while spending(high).epsilon(delta) > epsilon:
        low, high = high, 2.0 * high
        if high > _MOST_MULTIPLIER:
            raise ValueError(f"no noise multiplier below {_MOST_MULTIPLIER:g} gives ε {epsilon:g}")
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2.0
        if spending(middle).epsilon(delta) <= epsilon:
            high = middle
        else:
            low = middle
    return spending(high)


def learn_factors(
    held: Matrix, spending: Spending, settings: FactorSettings, *, seed: int, scale: float = 1.0
) -> PrivateFactors:
    """Run both mechanisms.

    Args:
        held: float64[people, items] of ones.
        spending: The noise, from `plan_spending` for as many people.
        settings: The rest.
        seed: >= 0, of first factors, sampling and noise.
        scale: Factor on the noise of both sums, in (0, 1]: simulated over assumed people.

    Raises:
        ValueError: a plan for another number of people, or a scale out of range.
        LibraryMissingError: Opacus is not installed.
    """
    if not 0.0 < scale <= 1.0:
        raise ValueError(f"scale must be in (0, 1], got {scale}")
    people, n_items = held.shape
    if abs(1.0 / len(_batch_starts(people, settings)) - spending.sampling_rate) > 1e-12:
        raise ValueError("the spending was planned for another number of people or sampling rate")
    rng = np.random.default_rng(seed)
    lengths = np.maximum(np.diff(held.indptr), 1)
    counts = np.asarray(held.multiply(1.0 / np.sqrt(lengths)[:, None]).sum(axis=0)).ravel()
    counts += rng.standard_normal(n_items) * (spending.counts_multiplier * scale)
    top = select_top_items(counts, min(settings.top_items, n_items))
    factors, recorded = _descend(
        held[:, top], spending, settings, seed=int(rng.integers(2**62)), scale=scale
    )
    return PrivateFactors(
        top_items=top,
        factors=factors,
        popularity=counts / max(float(np.abs(counts).max(initial=0.0)), 1e-12),
        settings=settings,
        engine_multipliers=recorded,
    )


def solve_people(held: Matrix, factors: FloatArray, settings: FactorSettings) -> FloatArray:
    """Solve each person's vector against the table, from that person's row alone.

    Args:
        held: float64[people, K] of ones.
        factors: float64[K, d].
        settings: The weights.

    Returns:
        float64[people, d], u of ``(w V'V + (1 - w) Σ_own v v' + ridge I) u = Σ_own v``.
    """
    rank = factors.shape[1]
    outer = (factors[:, :, None] * factors[:, None, :]).reshape(len(factors), rank * rank)
    everywhere = settings.zero_weight * (factors.T @ factors) + settings.ridge * np.eye(rank)
    own = np.asarray(held @ outer).reshape(-1, rank, rank)
    left = everywhere + (1.0 - settings.zero_weight) * own
    solved: FloatArray = np.linalg.solve(left, np.asarray(held @ factors)[:, :, None])[:, :, 0]
    return solved


def _descend(
    held: Matrix, spending: Spending, settings: FactorSettings, *, seed: int, scale: float
) -> tuple[FloatArray, tuple[tuple[float, float, int], ...]]:
    """Take the steps of DP-SGD; give the table, and what the engine's accountant recorded."""
    opacus = _opacus()
    import torch

    generator = torch.Generator().manual_seed(seed)
    with _one_thread(), warnings.catch_warnings():
        # Opacus says that seeded noise is not for production (rule 5), and torch that hooks fire.
        warnings.simplefilter("ignore")
        table = torch.nn.Linear(settings.rank, held.shape[1], bias=False)
        torch.nn.init.normal_(table.weight, std=settings.rank**-0.5, generator=generator)
        numbers = torch.utils.data.TensorDataset(torch.arange(held.shape[0]))
        starts = _batch_starts(held.shape[0], settings)
        engine = opacus.PrivacyEngine(accountant="prv")
        engine.accountant.step(noise_multiplier=spending.counts_multiplier * scale, sample_rate=1.0)
        model, optimizer, criterion, loader = engine.make_private(
            module=table,
            optimizer=torch.optim.SGD(table.parameters(), lr=settings.learning_rate),
            criterion=_WeightedSquares(settings.zero_weight),
            data_loader=torch.utils.data.DataLoader(
                numbers, batch_size=starts.step, generator=generator
            ),
            noise_multiplier=spending.step_multiplier * scale,
            max_grad_norm=settings.clip_norm,
            noise_generator=generator,
            grad_sample_mode="ghost",
        )
        for people in _batches(loader, spending.steps):
            rows = held[people]
            now = table.weight.detach().numpy().astype(np.float64)
            own = solve_people(rows, now, settings).astype(np.float32)
            ones = torch.from_numpy(rows.toarray().astype(np.float32))
            loss = criterion(model(torch.from_numpy(own)), ones)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    recorded = tuple((float(s), float(q), int(n)) for s, q, n in engine.accountant.history)
    return table.weight.detach().numpy().astype(np.float64), recorded


class _WeightedSquares:
    """Each person's loss, as rule 2 says; Opacus switches ``reduction`` to get one a person."""

    def __init__(self, zero_weight: float) -> None:
        self.zero_weight = zero_weight
        self.reduction = "mean"

    def __call__(self, scores: Any, ones: Any) -> Any:
        weights = self.zero_weight + (1.0 - self.zero_weight) * ones
        lengths = ones.sum(dim=1).clamp(min=1.0)
        losses = (weights * (scores - ones) ** 2).sum(dim=1) / lengths.sqrt()
        return losses if self.reduction == "none" else losses.mean()


def _batches(loader: Any, steps: int) -> Iterator[IntArray]:
    """Draw that many Poisson samples of people."""
    taken = 0
    while taken < steps:
        for (people,) in loader:
            if taken == steps:
                return
            taken += 1
            yield people.numpy()


def _batch_starts(people: int, settings: FactorSettings) -> range:
    """Cut people into batches of the expected size; one over their number is the sampling rate."""
    if people < 2:
        raise ValueError(f"there must be at least two people, got {people}")
    return range(0, people, math.ceil(people / round(1.0 / settings.sampling_rate)))


def _epsilon(accountant: Any, delta: float) -> float:
    """Ask an accountant of Opacus."""
    # It evaluates logarithms of 0, unused, at sampling rate 1, and warns of them.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread, so that a seed gives the same bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _opacus() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import opacus
            import opacus.accountants
    except ImportError as error:
        raise LibraryMissingError("DP-SGD", library="opacus", extra="prv") from error
    return opacus
