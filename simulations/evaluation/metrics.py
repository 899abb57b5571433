"""Where the wanted item stands in a ranking, and what that is worth.

Rules a reader can check line by line:

1. Items with the same score stand in random order, and what is reported is the exact mean over
   all such orders. So a constant score is worth what a random list is, nothing depends on the
   order of rows or items, and no random numbers are drawn here.
2. Only candidates count: ``next`` ranks the whole catalogue, ``discover`` the items never had,
   ``sampled`` the target and its negatives.
3. hr@k is the chance that the target stands at rank k or better, averaged over persons.
4. ndcg@k gives 1 / log2(1 + rank) for it, else 0 (Jarvelin and Kekalainen 2002, for one
   relevant item, where the best possible sum is 1).
5. A score that is not a number is an error of the arm, never a rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulations.data.interactions import BoolArray, FloatArray, IntArray
from simulations.evaluation.split import NO_ITEM, PROTOCOLS, Split, Targets, had_items

ScoreArray = npt.NDArray[np.floating[Any]]
CountArray = npt.NDArray[np.int64]

Scorer = Callable[[IntArray], ScoreArray]
"""An arm: persons int32[b] -> scores float[b, n_items], higher is better, from training alone."""

Measured = dict[str, dict[str, float]]
"""Protocol -> metric -> value."""

CUT: Final = 10
METRICS: Final = (f"hr@{CUT}", f"ndcg@{CUT}")
_BLOCK: Final = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """Where the targets of some persons stand.

    Attributes:
        ahead: int64[b], candidates that score higher than the target.
        tied: int64[b], other candidates that score the same.
    """

    ahead: CountArray
    tied: CountArray


def stand(scores: ScoreArray, targets: IntArray, candidates: BoolArray | None = None) -> Standing:
    """Find where each person's target stands among the candidates.

    Args:
        scores: float[b, n], higher is better; minus infinity is the last place.
        targets: int[b], one column a row.
        candidates: bool[b, n], what is ranked; everything when left out. The target always is.

    Returns:
        How many stand before it and beside it.

    Raises:
        ValueError: when a score is not a number or the shapes differ.

    Example:
        >>> found = stand(np.array([[0.5, 0.9, 0.5, 0.1]]), np.array([0], np.int32))
        >>> found.ahead.tolist(), found.tied.tolist()
        ([1], [1])
    """
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        raise ValueError(f"scores must be [b, n] and targets [b]: {scores.shape}, {targets.shape}")
    if np.isnan(scores).any():
        raise ValueError("a score is not a number")
    rows = np.arange(len(targets))
    wanted = scores[rows, targets][:, None]
    higher, same = scores > wanted, scores == wanted
    if candidates is not None:
        higher &= candidates
        same &= candidates
    same[rows, targets] = False
    return Standing(ahead=higher.sum(axis=1), tied=same.sum(axis=1))


def stand_sampled(scores: ScoreArray, targets: IntArray, negatives: IntArray) -> Standing:
    """Find where each person's target stands among its negatives.

    Args:
        scores: float[b, n], higher is better.
        targets: int[b].
        negatives: int[b, m]; `NO_ITEM` fills a row that has fewer.

    Returns:
        How many stand before it and beside it, at most m together.
    """
    columns = np.concatenate([targets[:, None], negatives], axis=1)
    chosen = np.take_along_axis(scores, np.maximum(columns, 0), axis=1)
    first = np.zeros(len(targets), np.int32)
    return stand(chosen, first, columns != NO_ITEM)


def expected_gains(gain_at: FloatArray, standing: Standing) -> FloatArray:
    """Average what a target is worth over the places that it can take among its ties.

    Args:
        gain_at: float64[k], what place 1, 2, ... is worth; later places are worth nothing.
        standing: Where the targets stand.

    Returns:
        float64[b].
    """
    k = len(gain_at)
    gain_to = np.concatenate([[0.0], np.cumsum(gain_at)])
    before = np.minimum(standing.ahead, k)
    last = np.minimum(standing.ahead + standing.tied + 1, k)
    mean: FloatArray = (gain_to[last] - gain_to[before]) / (standing.tied + 1)
    return mean


def hit_chances(standing: Standing, k: int = CUT) -> FloatArray:
    """Give each person's chance that the target is among the first k.

    Example:
        >>> found = Standing(ahead=np.array([9, 9, 10]), tied=np.array([0, 1, 0]))
        >>> hit_chances(found, 10).tolist()
        [1.0, 0.5, 0.0]
    """
    return expected_gains(np.ones(k), standing)


def discounted_gains(standing: Standing, k: int = CUT) -> FloatArray:
    """Give each person's ndcg@k, the mean over the orders of ties.

    Example:
        >>> found = Standing(ahead=np.array([0, 2, 10]), tied=np.array([0, 0, 0]))
        >>> discounted_gains(found, 10).round(3).tolist()
        [1.0, 0.5, 0.0]
    """
    return expected_gains(1.0 / np.log2(np.arange(2, k + 2)), standing)


def measure(
    scorer: Scorer, split: Split, targets: Targets, *, tick: Callable[[], None] | None = None
) -> Measured:
    """Judge one arm in all protocols.

    Args:
        scorer: The arm.
        split: What it learned from; only ``train`` is read here, for what a person had.
        targets: What is asked.
        tick: Called after each block of people, for progress.

    Returns:
        ``{protocol: {"hr@10": ..., "ndcg@10": ...}}``; NaN where a protocol has no person.
    """
    everyone = np.union1d(targets.next_people, targets.discover_people)
    found: dict[str, list[Standing]] = {protocol: [] for protocol in PROTOCOLS}
    for start in range(0, len(everyone), _BLOCK):
        people = everyone[start : start + _BLOCK]
        scores = scorer(people)
        if scores.shape != (len(people), split.train.n_items):
            raise ValueError(f"expected scores [{len(people)}, n_items], got {scores.shape}")
        block, of = _rows_of(people, targets.next_people)
        wanted = targets.next_items[of]
        found["next"].append(stand(scores[block], wanted))
        found["sampled"].append(stand_sampled(scores[block], wanted, targets.negatives[of]))
        block, of = _rows_of(people, targets.discover_people)
        new = ~had_items(split.train, people[block])
        found["discover"].append(stand(scores[block], targets.discover_items[of], new))
        if tick is not None:
            tick()
    return {
        protocol: {
            METRICS[0]: _mean([hit_chances(standing) for standing in standings]),
            METRICS[1]: _mean([discounted_gains(standing) for standing in standings]),
        }
        for protocol, standings in found.items()
    }


def summarise(runs: Sequence[Measured]) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Fold the seeds of one arm into mean, spread and count.

    Args:
        runs: One `Measured` a seed, all with the same protocols and metrics; at least one.

    Returns:
        ``{protocol: {metric: {"mean", "std", "seeds"}}}``, ready for JSON. ``std`` is the sample
        standard deviation over the seeds, 0 for one seed; mean and std are None where a protocol
        had nobody to ask.
    """
    if not runs:
        raise ValueError("there is no run to summarise")
    return {
        protocol: {metric: _spread([run[protocol][metric] for run in runs]) for metric in metrics}
        for protocol, metrics in runs[0].items()
    }


def summarise_arms(
    runs: Mapping[str, Sequence[Measured]],
) -> dict[str, dict[str, dict[str, dict[str, float | int | None]]]]:
    """Fold the seeds of every arm: ``metrics[arm][protocol][metric]`` of the JSON."""
    return {arm: summarise(measured) for arm, measured in runs.items()}


def _rows_of(
    people: IntArray, asked: IntArray
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Find the people who are asked: their rows in the block, and their rows in the targets."""
    _, block, of = np.intersect1d(people, asked, assume_unique=True, return_indices=True)
    return block, of


def _mean(blocks: Sequence[FloatArray]) -> float:
    """Average over the persons of all blocks; NaN for nobody."""
    values = np.concatenate([np.zeros(0), *blocks])
    return float(np.mean(values)) if len(values) else float("nan")


def _spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, sample standard deviation and count."""
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return {"mean": None, "std": None, "seeds": 0}
    std = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return {"mean": float(np.mean(known)), "std": std, "seeds": len(known)}
