"""What a federated evaluation adds up: ranking quality of one release, or of two side by side.

The vector is that of an experiment with one group (`client_sdk.wire.outcomes`), so its norm is at
most the clip norm and the server has the variance too. Differences d in [-1, 1] travel as
(1 + d) / 2.
"""

from __future__ import annotations

from typing import Final

from client_sdk.wire.outcomes import OutcomeLayout

CUT: Final = 10
"""How long the list is that is looked at."""
EVALUATION: Final = ("hr@10", "ndcg@10")
COMPARISON: Final = (*EVALUATION, "hr@10 difference", "ndcg@10 difference")


def layout_of(models: int, *, clip_norm: float) -> OutcomeLayout:
    """Give the places of the vector.

    >>> layout_of(2, clip_norm=1.0).dimension
    9
    """
    names = EVALUATION if models == 1 else COMPARISON
    return OutcomeLayout(groups=1, metrics=len(names), clip_norm=clip_norm)


def part_of_difference(difference: float) -> float:
    """Bring a difference in [-1, 1] into [0, 1]; `difference_of` undoes it.

    >>> part_of_difference(-1.0), part_of_difference(0.5)
    (0.0, 0.75)
    """
    return min(1.0, max(0.0, (1.0 + difference) / 2.0))


def difference_of(part: float) -> float:
    """Undo `part_of_difference`, also for what noise brought out of range."""
    return 2.0 * part - 1.0
