"""The server half of one-shot item statistics: from a noisy sum of x x' to an item table.

Each device sends x x' of its unit-norm history over the top-K items, packed so that its L2 norm is
|x|^2 <= 1 (`client_sdk.wire.vectors.pack_outer_product`); the aggregator adds Gaussian noise of one
deviation to each packed entry. Rules a reader can check line by line:

1. Noise of deviation s on the packed sum is s on the diagonal and s / sqrt(2) off it. The spectrum
   of such a matrix ends at the edge 2 (s / sqrt(2)) sqrt(K) (Wigner 1958). What lies below cannot
   be told from noise and is dropped.
2. An eigenvalue e above the edge is inflated by noise; with v = K s^2 / 2 the value below it is
   t = (e + sqrt(e^2 - 4 v)) / 2 (Benaych-Georges, Nadakuditi 2011), and its eigenvector points at
   the truth with squared cosine 1 - v / t^2: the eigenvalue is shrunk to t (1 - v / t^2)
   (Gavish, Donoho 2017).
3. EASE (Steck 2019, arXiv 1905.03375) with ridge l: for G = V diag(d) V' and w = d / (d + l), its
   weights are B_ij = f_i f_j / (1 - |f_j|^2) for i != j, with F = V sqrt(w). So a table of rank r
   carries them.
4. Where the attributes of the catalogue are given, `models.item_prior` takes the place of rules 1
   and 2. Nothing but noisy sums, public attributes and settings is used: this is post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.vectors import unpack_symmetric
from models.decoded import DecodedRanker, popularity_from_counts
from models.item_prior import ItemPrior, strength_of

__all__ = [
    "CleanSpectrum",
    "DecodedRanker",
    "StatisticsSettings",
    "decode_item_statistics",
    "denoise_gram",
    "noise_edge",
    "select_top_items",
    "suggest_top_items",
    "unpack_gram",
]

_LARGEST_SELF_WEIGHT = 0.999


@dataclass(frozen=True, kw_only=True)
class StatisticsSettings:
    """How a noisy sum becomes a table.

    The defaults were chosen on validation by ``python -m simulations.tune``.

    Attributes:
        rank: the number of factors of an item, >= 1; fewer are filled where noise hides the rest.
        ridge_edges: the part of the ridge that follows the noise, in noise edges, >= 0. Large where
            the device has other things to say (words, own taste) and noise must not outshout
            them; around 0.3 where the table is the only voice (``benchmarks/movielens.py``).
        ridge_mean: the part that follows the data, in mean eigenvalues (trace / K), >= 0.
        popularity_power: how far items are brought to one size before EASE, in [0, 1]: each is
            divided by its own strength to half this power, and multiplied back for its score.
        diagonal_power: 1 is EASE, 0 a ridge regression in which an item may explain itself; in
            [0, 1]. A little less than 1 pays where there is little noise (Steck 2020, "Autoencoders
            that don't overfit towards the identity").
    """

    rank: int = 128
    ridge_edges: float = 10.0
    ridge_mean: float = 32.0
    popularity_power: float = 0.0
    diagonal_power: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what can't be a setting."""
        if self.rank < 1:
            raise ValueError(f"rank must be >= 1, got {self.rank}")
        if not (self.ridge_edges >= 0 and self.ridge_mean >= 0):
            raise ValueError("ridge_edges and ridge_mean must be >= 0")
        if self.ridge_edges + self.ridge_mean == 0:
            raise ValueError("one of ridge_edges and ridge_mean must be > 0")
        if not 0 <= self.popularity_power <= 1:
            raise ValueError(f"popularity_power must be in [0, 1], got {self.popularity_power}")
        if not 0 <= self.diagonal_power <= 1:
            raise ValueError(f"diagonal_power must be in [0, 1], got {self.diagonal_power}")


@dataclass(frozen=True, kw_only=True, eq=False)
class CleanSpectrum:
    """What a noisy Gram matrix says beyond its noise.

    Attributes:
        values: float64[m] > 0, descending.
        vectors: float64[K, m], orthonormal columns.
        edge: the noise edge, 0 without noise.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    edge: float


def unpack_gram(packed: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Undo the isometric packing: float64[size (size + 1) / 2] to float64[size, size].

    Raises:
        ValueError: when the length does not fit the size, or a value is not finite.
    """
    if not np.all(np.isfinite(packed)):
        raise ValueError("the packed sum must be finite")
    return unpack_symmetric(np.asarray(packed, np.float64), size)


def noise_edge(noise_std: float, size: int) -> float:
    """Give the largest eigenvalue that pure noise has, for noise_std on each packed entry.

    Example:
        >>> round(noise_edge(1.0, 200), 3)
        20.0
    """
    return float(2.0 * noise_std * np.sqrt(size / 2.0))


def denoise_gram(gram: NDArray[np.float64], noise_std: float) -> CleanSpectrum:
    """Keep the eigenvalues above the noise edge and shrink them to what lay below the noise.

    Args:
        gram: float64[K, K], symmetric, the unpacked noisy sum.
        noise_std: deviation of the noise on each packed entry of the sum, >= 0.

    Returns:
        The clean spectrum; without noise, all positive eigenvalues as they are.
    """
    if not noise_std >= 0:
        raise ValueError(f"noise_std must be >= 0, got {noise_std}")
    size = len(gram)
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]
    edge = noise_edge(noise_std, size)
    # Rounding leaves eigenvalues of a singular matrix near, not at, zero.
    floor = max(edge, 1e-10 * max(float(values[0]), 0.0)) if size else 0.0
    kept = int(np.count_nonzero(values > floor))
    values, vectors = values[:kept], vectors[:, :kept]
    variance = edge * edge / 4.0
    below = (values + np.sqrt(np.maximum(values * values - 4.0 * variance, 0.0))) / 2.0
    shrunk = below * (1.0 - variance / (below * below))
    positive = shrunk > 0
    return CleanSpectrum(values=shrunk[positive], vectors=vectors[:, positive], edge=edge)


def select_top_items(noisy_counts: NDArray[np.float64], k: int) -> NDArray[np.int32]:
    """Choose the K items that the statistics will cover, from a noisy count release.

    Args:
        noisy_counts: float64[n].
        k: how many, >= 0; all items when there are fewer.

    Returns:
        int32[min(k, n)], strictly increasing; ties fall to the lower index.

    Example:
        >>> select_top_items(np.array([1.0, 5.0, 3.0]), 2).tolist()
        [1, 2]
    """
    if k < 0:
        raise ValueError(f"k must be >= 0, got {k}")
    best = np.argsort(-noisy_counts, kind="stable")[:k]
    return np.sort(best).astype(np.int32)


def suggest_top_items(*, people: int, noise_std: float, n_items: int, prior: bool = False) -> int:
    """Suggest K, how many items the statistics should cover, before anything is released.

    More items let a table say more; each also brings noise. The rule K = 8 sqrt(people / noise)
    was read off validation (``python -m simulations.tune``). With a prior, which holds the noise of
    rare items down, it is K = 100 (people / noise)^(1/4), from ``benchmarks.epsilon_quality``.

    Args:
        people: expected contributions, >= 1.
        noise_std: deviation of the noise on each packed entry of the sum, >= 0.
        n_items: size of the catalogue.
        prior: whether an `ItemPrior` will be given to the decoder.

    Returns:
        K, from 1 to n_items.

    Example:
        >>> suggest_top_items(people=10_000, noise_std=1.0, n_items=5_000)
        800
    """
    if people < 1 or not noise_std >= 0:
        raise ValueError("people must be >= 1 and noise_std >= 0")
    if noise_std == 0:
        return n_items
    signal = people / noise_std
    wanted = 100.0 * signal**0.25 if prior else 8.0 * np.sqrt(signal)
    return max(1, min(n_items, int(wanted)))


def decode_item_statistics(
    packed: NDArray[np.float64],
    *,
    top_items: NDArray[np.int32],
    n_items: int,
    noise_std: float,
    noisy_counts: NDArray[np.float64] | None = None,
    settings: StatisticsSettings | None = None,
    prior: ItemPrior | None = None,
) -> DecodedRanker:
    """Turn the noisy sum of packed x x' into a table of items.

    Args:
        packed: float64[K (K + 1) / 2], the noisy sum over devices (not the mean).
        top_items: int32[K], strictly increasing catalogue indices, the order of the packing.
        n_items: size of the catalogue.
        noise_std: deviation of the noise on each entry of ``packed``, >= 0 (0: no noise).
        noisy_counts: float64[n_items], an earlier release of item counts, the popularity of all
            items; without it the diagonal is the popularity of the top K, and of the others 0.
        settings: how to decode.
        prior: what the public catalogue says; items outside the top K then get factors, too.

    Returns:
        The table in EASE's factored form: u = x F, self_weight |f|^2, scale 1 / (1 - |f|^2).

    Raises:
        ValueError: when shapes differ or items are not in the catalogue.
    """
    chosen = StatisticsSettings() if settings is None else settings
    top = np.asarray(top_items)
    size = len(top)
    if size and (top[0] < 0 or top[-1] >= n_items or bool(np.any(top[1:] <= top[:-1]))):
        raise ValueError(f"top_items must be increasing indices below {n_items}")
    if noisy_counts is not None and noisy_counts.shape != (n_items,):
        raise ValueError(f"noisy_counts must be float64[{n_items}], got {noisy_counts.shape}")
    if prior is not None and prior.n_items != n_items:
        raise ValueError(f"the prior must name {n_items} items, got {prior.n_items}")
    gram = unpack_gram(packed, size)
    if noisy_counts is None:
        counts = np.zeros(n_items, np.float64)
        counts[top] = np.diag(gram)
    else:
        counts = noisy_counts
    strength = strength_of(counts)
    if prior is None:
        spectrum = denoise_gram(gram, noise_std)
        balance = _balance(_strength_in(spectrum), chosen.popularity_power)
    else:
        edge = noise_edge(noise_std, size)
        values, vectors = prior.clean(gram, top, strength, edge)
        spectrum = CleanSpectrum(values=values, vectors=vectors, edge=edge)
        # The counts are less noisy than a diagonal from which most was taken.
        balance = _balance(strength[top], chosen.popularity_power)
    if chosen.popularity_power > 0 and size:
        spectrum = _balanced(spectrum, balance)
    ridge = _ridge(chosen, spectrum, size)
    kept = min(chosen.rank, len(spectrum.values))
    values = spectrum.values[:kept]
    rows = np.zeros((size, chosen.rank))
    rows[:, :kept] = spectrum.vectors[:, :kept] * np.sqrt(values / (values + ridge))
    # With balance d the weights are d_i B_ij / d_j: rows d f, self weight d^2 s, scale c / d^2.
    itself = np.minimum(np.einsum("kr,kr->k", rows, rows), _LARGEST_SELF_WEIGHT)
    factors = np.zeros((n_items, chosen.rank))
    self_weight, scale = np.zeros(n_items), np.ones(n_items)
    factors[top] = rows * balance[:, None]
    self_weight[top] = itself * balance**2
    scale[top] = ((1.0 - itself) * balance**2) ** -chosen.diagonal_power
    if prior is not None and size:
        outside = np.setdiff1d(np.arange(n_items), top)
        guesses = prior.expected(factors[top], top, strength)[outside]
        squares = np.einsum("kr,kr->k", guesses, guesses)
        guesses *= np.sqrt(_LARGEST_SELF_WEIGHT / np.maximum(squares, _LARGEST_SELF_WEIGHT))[
            :, None
        ]
        factors[outside] = guesses
        self_weight[outside] = np.minimum(squares, _LARGEST_SELF_WEIGHT)
        scale[outside] = scale[top].mean()
    return DecodedRanker(
        factors=factors.astype(np.float32),
        self_weight=self_weight.astype(np.float32),
        scale=scale.astype(np.float32),
        bias=np.zeros(n_items, np.float32),
        popularity=popularity_from_counts(counts),
    )


def _ridge(settings: StatisticsSettings, spectrum: CleanSpectrum, size: int) -> float:
    """Give EASE's ridge: what noise asks for, plus what the data asks for; never 0."""
    mean = float(spectrum.values.sum()) / max(size, 1)
    return max(settings.ridge_edges * spectrum.edge + settings.ridge_mean * mean, 1e-12)


def _strength_in(spectrum: CleanSpectrum) -> NDArray[np.float64]:
    """Give the diagonal of the clean Gram matrix."""
    strength: NDArray[np.float64] = np.einsum(
        "km,m,km->k", spectrum.vectors, spectrum.values, spectrum.vectors
    )
    return strength


def _balance(strength: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Give each item's factor d in (0, 1]: 1 for the weakest, less for the strong."""
    if not np.any(strength > 0):
        return np.ones(len(strength))
    # An item that noise has hidden counts as weak, not as nothing.
    strength = np.maximum(strength, strength.mean() / 1_000.0)
    balance: NDArray[np.float64] = (strength / strength.min()) ** (-power / 2.0)
    return balance


def _balanced(spectrum: CleanSpectrum, balance: NDArray[np.float64]) -> CleanSpectrum:
    """Give the spectrum of D G D for the clean G; the edge shrinks as noise does on average."""
    scaled = spectrum.vectors * balance[:, None]
    clean = denoise_gram((scaled * spectrum.values) @ scaled.T, 0.0)
    return replace(clean, edge=spectrum.edge * float(np.mean(balance**2)))
