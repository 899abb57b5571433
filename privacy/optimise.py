"""The best factorisation of a kind for one run: what `Factorisation` holds is found here.

Guarantee: none; whatever comes out is validated by `Factorisation`, whose sensitivity and errors
are derived from the numbers themselves. A worse optimum costs accuracy, never privacy.

What is minimised is log(sensitivity² · mean prefix error), the squared `prefix_rmse`. For two
buffers that is a problem of four numbers (the decays of C and of C⁻¹, interlaced, which keeps all
weights above 0); for bands, one of b - 1 numbers (the falls between neighbouring coefficients)
with its gradient by fast Fourier transforms.

| case | outcome |
|---|---|
| 1 round, or blt with so few rounds that nothing is to gain | still a valid factorisation |
| bands above the number of rounds | as many as there are rounds |
| no bands given | min_separation of them, at most 256 |

Sources: Dvijotham et al. 2024, arXiv 2404.16706 (BLT); McMahan et al. 2024, arXiv 2408.08868
(BLT under participation); Choquette-Choo et al. 2023, arXiv 2306.08153 (banded). Test:
tests/privacy/test_optimise.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from privacy.factorisation import MAX_BUFFERS, Factorisation, FactorisationName

_MAX_BANDS: Final = 256
_LEAST_GAP: Final = 1e-9
_REFUSED: Final = 1e6
# Decays are 1 - 10^x at the start of the search, for the slow and for the fast end of a buffer.
_STARTS: Final = ((-0.35, -2.2), (-0.2, -1.4), (-0.5, -3.0))


@lru_cache(maxsize=256)
def factorisation_for(
    name: FactorisationName, *, rounds: int, min_separation: int, max_participations: int
) -> Factorisation:
    """Return the best strategy of this name for a run, found once and remembered.

    Args:
        name: The strategy; `FactorisationName.BLT` has two buffers.
        rounds: n.
        min_separation: b, difference of round indices.
        max_participations: k.

    Raises:
        ValueError: numbers that are no run.

    >>> factorisation_for(FactorisationName.TREE, rounds=8, min_separation=4,
    ...     max_participations=2).participations
    2
    """
    plain = Factorisation(
        name=FactorisationName.INDEPENDENT_ROUNDS,
        rounds=rounds,
        min_separation=min_separation,
        max_participations=max_participations,
    )
    if name is FactorisationName.BLT:
        return optimise_blt(
            rounds=rounds, min_separation=min_separation, max_participations=max_participations
        )
    if name is FactorisationName.BANDED_TOEPLITZ:
        return optimise_banded(
            rounds=rounds, min_separation=min_separation, max_participations=max_participations
        )
    return Factorisation(
        name=name,
        rounds=plain.rounds,
        min_separation=plain.min_separation,
        max_participations=plain.max_participations,
    )


def optimise_blt(
    *, rounds: int, min_separation: int, max_participations: int, buffers: int = 2
) -> Factorisation:
    """Find the decays and weights of a buffered linear Toeplitz strategy (BLT).

    Args:
        rounds: n.
        min_separation: b.
        max_participations: k.
        buffers: How many; two are enough wherever a person takes part more than once.

    Raises:
        ValueError: numbers that are no run, or no such number of buffers.

    >>> blt = optimise_blt(rounds=500, min_separation=50, max_participations=10)
    >>> round(blt.sensitivity(), 2), round(blt.prefix_rmse(), 2)
    (5.97, 11.5)
    """
    if not 1 <= buffers <= MAX_BUFFERS:
        raise ValueError(f"buffers must lie in 1 to {MAX_BUFFERS}; got {buffers}")
    run = _Run(rounds=rounds, separation=min_separation, participations=max_participations)
    best: tuple[float, NDArray[np.float64]] | None = None
    for fast, slow in _STARTS:
        # 1 - decay, from fast to slow, of C and of C⁻¹ in turn: the cuts of a stick.
        falls = np.logspace(slow, fast, 2 * buffers)[::-1]
        start = _to_logits(np.sort(1.0 - falls)[::-1])
        coarse = minimize(run.blt_loss, start, method="L-BFGS-B")
        fine = minimize(
            run.blt_loss,
            coarse.x,
            method="Nelder-Mead",
            options={"xatol": 1e-7, "fatol": 1e-12, "maxfev": 400 * buffers},
        )
        if best is None or fine.fun < best[0] - 1e-12:
            best = (float(fine.fun), fine.x)
    if best is None:
        raise AssertionError("there is a start")
    decays, inverse_decays = _from_logits(best[1])
    weights = _weights(decays, inverse_decays)
    return Factorisation(
        name=FactorisationName.BLT,
        rounds=rounds,
        min_separation=min_separation,
        max_participations=max_participations,
        decays=tuple(float(value) for value in decays),
        weights=tuple(float(value) for value in weights),
    )


def optimise_banded(
    *, rounds: int, min_separation: int, max_participations: int, bands: int | None = None
) -> Factorisation:
    """Find the coefficients of a banded Toeplitz strategy.

    Args:
        rounds: n.
        min_separation: b.
        max_participations: k.
        bands: How many coefficients; each costs the server one model in memory. Left out:
            ``min_separation``, at most 256.

    Raises:
        ValueError: numbers that are no run, or fewer than one band.
    """
    run = _Run(rounds=rounds, separation=min_separation, participations=max_participations)
    wanted = min(min_separation, _MAX_BANDS) if bands is None else bands
    if wanted < 1:
        raise ValueError(f"bands must be at least 1; got {bands}")
    count = min(wanted, rounds)
    # The optimum without a limit on bands is 1, 1/2, 3/8, …: the square root of prefix sums.
    ages = np.arange(1, count)
    start = np.concatenate([[1.0], np.cumprod((2 * ages - 1) / (2 * ages))])
    falls = np.concatenate([start[:-1] - start[1:], start[-1:]])[1:]
    if count > 1:
        found = minimize(
            run.banded_loss,
            falls,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, 1.0)] * (count - 1),
            options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-9},
        )
        falls = np.asarray(found.x)
    column = _column_of_falls(falls)
    column = np.minimum.accumulate(np.concatenate([[1.0], np.maximum(column, 0.0)]))
    return Factorisation(
        name=FactorisationName.BANDED_TOEPLITZ,
        rounds=rounds,
        min_separation=min_separation,
        max_participations=max_participations,
        coefficients=tuple(float(value) for value in column),
    )


class _Run:
    """The loss of a strategy for one run."""

    def __init__(self, *, rounds: int, separation: int, participations: int) -> None:
        checked = Factorisation(
            name=FactorisationName.INDEPENDENT_ROUNDS,
            rounds=rounds,
            min_separation=separation,
            max_participations=participations,
        )
        self._rounds = rounds
        self._shifts = [turn * separation for turn in range(checked.participations)]
        self._ages = np.arange(max(rounds - 1, 0), dtype=np.float64)
        self._left = np.arange(rounds, 0, -1, dtype=np.float64)
        self._size = 1 << (2 * rounds - 1).bit_length()

    def blt_loss(self, logits: NDArray[np.float64]) -> float:
        decays, inverse_decays = _from_logits(logits)
        ordered = np.ravel(np.column_stack([decays, inverse_decays]))
        if np.diff(ordered).max() > -_LEAST_GAP or ordered[-1] <= 0.0 or ordered[0] >= 1.0:
            return _REFUSED
        column = np.ones(self._rounds)
        inverse = np.ones(self._rounds)
        with np.errstate(under="ignore"):
            column[1:] = _weights(decays, inverse_decays) @ (decays[:, None] ** self._ages)
            inverse[1:] = _weights(inverse_decays, decays) @ (inverse_decays[:, None] ** self._ages)
        moved = self._moved(column)
        prefix = np.cumsum(inverse)
        error = self._left @ np.square(prefix)
        return float(np.log(moved @ moved) + np.log(error / self._rounds))

    def banded_loss(self, falls: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        if falls.sum() > 1.0:
            return _REFUSED, np.ones_like(falls)
        column = np.zeros(self._rounds)
        column[0] = 1.0
        bands = falls.size + 1
        column[1:bands] = _column_of_falls(falls)
        inverse = self._inverse(column)
        prefix = np.cumsum(inverse)
        moved = self._moved(column)
        squared = float(moved @ moved)
        error = float(self._left @ np.square(prefix))
        # d(prefix) / d(c_m) = -shift(inverse * prefix, m), hence a correlation.
        turned = self._convolve(inverse, prefix)
        by_error = -2.0 * self._correlate(self._left * prefix, turned)[1:bands]
        by_moved = np.zeros(bands - 1)
        for shift in self._shifts:
            part = moved[shift + 1 : shift + bands]
            by_moved[: part.size] += 2.0 * part
        by_column = by_moved / squared + by_error / error
        # c_m is the sum of the falls from m on, so a fall moves every c up to its own.
        gradient = np.cumsum(by_column)
        return float(np.log(squared) + np.log(error / self._rounds)), gradient

    def _moved(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = column.copy()
        for shift in self._shifts[1:]:
            moved[shift:] += column[: self._rounds - shift]
        return moved

    def _inverse(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the power series 1 / column, by Newton's doubling."""
        inverse = np.ones(1)
        while inverse.size < self._rounds:
            length = min(2 * inverse.size, self._rounds)
            size = 1 << (2 * length - 1).bit_length()
            known = np.fft.rfft(inverse, size)
            product = np.fft.irfft(known * np.fft.rfft(column[:length], size), size)[:length]
            product *= -1.0
            product[0] += 2.0
            inverse = np.fft.irfft(known * np.fft.rfft(product, size), size)[:length]
        return inverse

    def _convolve(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        both = np.fft.rfft(a, self._size) * np.fft.rfft(b, self._size)
        return np.fft.irfft(both, self._size)[: self._rounds]

    def _correlate(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Σ_j a[j] b[j - m] for each m."""
        both = np.fft.rfft(a, self._size) * np.conj(np.fft.rfft(b, self._size))
        return np.fft.irfft(both, self._size)[: self._rounds]


def _column_of_falls(falls: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return c₁, … from the falls c₁ - c₂, …, c_last, each at least 0."""
    return np.cumsum(falls[::-1])[::-1]


def _to_logits(decays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn 1 > d₀ > d₁ > … > 0 into unbounded numbers: the logit of each over the one before."""
    before = np.concatenate([[1.0], decays[:-1]])
    return np.log(decays / (before - decays))


def _from_logits(
    logits: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the decays of C and of C⁻¹, interlaced."""
    ratios = 1.0 / (1.0 + np.exp(-np.clip(logits, -40.0, 40.0)))
    falling: NDArray[np.float64] = np.cumprod(ratios).astype(np.float64)
    return falling[::2], falling[1::2]


def _weights(
    decays: NDArray[np.float64], inverse_decays: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ωᵢ = Π_j(θᵢ - θ̂_j) / Π_{j≠i}(θᵢ - θ_j); with the arguments swapped, those of C⁻¹."""
    differences = decays[:, None] - decays[None, :]
    np.fill_diagonal(differences, 1.0)
    over = decays[:, None] - inverse_decays[None, :]
    return np.asarray(over.prod(axis=1) / differences.prod(axis=1))
