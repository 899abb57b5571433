"""Tree aggregation over rounds: its nodes, its sensitivity, its errors.

Every complete dyadic interval of rounds [j·2^h, (j+1)·2^h) is a node; its sum gets noise of its
own. A prefix sum is the sum of the nodes of its binary expansion (*plain*), or of estimates that
also use the nodes below each of them (*Honaker*, online: only what is known by then).

Guarantee: `squared_sensitivity` is the largest Σ over nodes (rounds of one person in the node)²
over all participation patterns: exact for min_separation up to 64 and, beyond, where a power of
two of at least min_separation / 64 divides both it and the number of rounds; never too small.

Neighbouring relation: add or remove one person with all their rounds.

| case | outcome |
|---|---|
| a node that the run ends inside | has no noise, is never used, and costs nothing |
| 1 round | one node |
| separation above 64 | rounds are taken in blocks; an upper bound |

Source: Dwork et al. 2010; Chan, Shi and Song 2011; Honaker 2015; Kairouz et al. 2021, arXiv
2103.00039, appendix B. Test: tests/privacy/test_factorisation.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_MAX_EXACT_SEPARATION: Final = 64
_NEVER: Final = -np.inf


def expansion(rounds: int) -> list[tuple[int, int]]:
    """Return the nodes (height, index) whose intervals make up [0, rounds), the widest first.

    >>> expansion(6)
    [(2, 0), (1, 2)]
    """
    nodes = []
    start = 0
    for height in range(rounds.bit_length() - 1, -1, -1):
        if rounds >> height & 1:
            nodes.append((height, start >> height))
            start += 1 << height
    return nodes


def node_matrix(rounds: int) -> NDArray[np.float64]:
    """Return float64[nodes, rounds]: 1 where a round lies in a complete node, leaves first.

    >>> node_matrix(3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """
    rows = []
    for height in range(rounds.bit_length()):
        for index in range(rounds >> height):
            row = np.zeros(rounds)
            row[index << height : (index + 1) << height] = 1.0
            rows.append(row)
    return np.array(rows)


def honaker_variances(heights: int) -> list[float]:
    """Return the variance of a node's estimate at heights 0, 1, …, for node noise of variance 1.

    A node's own noisy sum and the sum of its two children's estimates, weighted by the inverse of
    their variances.

    >>> honaker_variances(2)
    [1.0, 0.6666666666666666]
    """
    variances = [1.0]
    while len(variances) < heights:
        variances.append(1.0 / (1.0 + 0.5 / variances[-1]))
    return variances[:heights]


def prefix_errors(rounds: int, *, honaker: bool) -> NDArray[np.float64]:
    """Return the variance of the noise on each prefix sum, float64[rounds].

    >>> prefix_errors(4, honaker=False).tolist()
    [1.0, 1.0, 2.0, 1.0]
    """
    heights = rounds.bit_length()
    variances = honaker_variances(heights) if honaker else [1.0] * heights
    ends = np.arange(1, rounds + 1)
    errors = np.zeros(rounds)
    for height, variance in enumerate(variances):
        errors += (ends >> height & 1) * variance
    return errors


@lru_cache(maxsize=256)
def squared_sensitivity(*, rounds: int, min_separation: int, max_participations: int) -> float:
    """Return max Σ over complete nodes (participations in the node)², or a little more.

    >>> squared_sensitivity(rounds=4, min_separation=2, max_participations=2)
    8.0
    """
    block_height = 0
    while min_separation >> block_height > _MAX_EXACT_SEPARATION:
        block_height += 1
    block = 1 << block_height
    # Rounds q - p ≥ b lie in blocks that differ by at least ⌈(b - block + 1) / block⌉.
    separation = max(1, -(-(min_separation - block + 1) // block))
    blocks = -(-rounds // block)
    # A person is in a block once, as b ≥ block: each participation is 1 in block_height nodes.
    participations = min(max_participations, -(-rounds // min_separation))
    inside = block_height * participations
    return float(inside + _best(blocks, separation=separation, most=participations))


def _best(rounds: int, *, separation: int, most: int) -> float:
    """Return the largest sum of squares over nodes of at most ``most`` rounds of one person.

    Tables hold, for m participations, the best sum with the first at offset ≥ s and the last at
    least e from the end (``table[m, s, e]``); two neighbours join where the gaps leave
    ``separation``. Intervals are joined from the left as the binary expansion has them, which adds
    no node, and a node is two equal halves.
    """
    size = separation
    table = np.full((2, size, size), _NEVER)
    table[0] = 0.0
    table[1, 0, 0] = 1.0
    width = 1
    whole: NDArray[np.float64] | None = None
    whole_width = 0
    # The binary expansion has its narrow nodes on the right.
    while True:
        if rounds // width & 1:
            whole = (
                table
                if whole is None
                else _join(
                    table, whole, separation=separation, most=most, widths=(width, whole_width)
                )
            )
            whole_width += width
        if 2 * width > rounds:
            break
        table = _join(table, table, separation=separation, most=most, widths=(width, width))
        table = table + np.square(np.arange(len(table), dtype=np.float64))[:, None, None]
        width *= 2
    if whole is None:
        raise AssertionError("rounds is at least 1")
    return float(whole[:, 0, 0].max())


def _join(
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    *,
    separation: int,
    most: int,
    widths: tuple[int, int],
) -> NDArray[np.float64]:
    """Join two neighbouring intervals; the result has no node of its own yet."""
    count = min(most, len(left) + len(right) - 2)
    out = np.full((count + 1, separation, separation), _NEVER)
    out[0] = 0.0
    offsets = np.arange(separation)
    left_width, right_width = widths
    # None on the right: the last participation lies right_width further from the end.
    back = np.maximum(offsets - right_width, 0)
    m = min(count, len(left) - 1)
    out[1 : m + 1] = np.maximum(out[1 : m + 1], left[1 : m + 1][:, :, back])
    # None on the left: the first lies left_width further from the start.
    ahead = np.maximum(offsets - left_width, 0)
    m = min(count, len(right) - 1)
    out[1 : m + 1] = np.maximum(out[1 : m + 1], right[1 : m + 1][:, ahead, :])
    for on_left in range(1, min(len(left) - 1, count - 1) + 1):
        on_right = min(len(right) - 1, count - on_left)
        if on_right < 1:
            continue
        target = out[on_left + 1 : on_left + on_right + 1]
        for gap in range(min(separation, left_width)):
            # The last on the left is at least ``gap`` from its end; the first on the right then
            # starts at separation - 1 - gap or later.
            joined = (
                left[on_left, :, gap][None, :, None]
                + right[1 : on_right + 1, separation - 1 - gap, :][:, None, :]
            )
            np.maximum(target, joined, out=target)
    return out
