"""How a training run goes, round by round, seen from the side of those who train.

Rules a reader can check line by line:

1. Nothing held out is looked at. From the histories of some people the latest item is taken away,
   and the table of a round ranks it among all that they do not have otherwise.
2. The table was trained on histories that hold this item, so the numbers say whether training goes
   on, not how good the lists are: those are the arms' own numbers, on what was held out.
3. It draws no random numbers but its sample of people, so a run is the same with it or without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.table import RankerSettings
from simulations.engines.columns import HistoryColumns
from simulations.engines.evaluation import evaluate_table
from simulations.kernel.compiled import KernelUnavailableError, load

MOST_PEOPLE: Final = 1_000
_POINTS: Final = 20
WHAT: Final = (
    "train side: the latest item of a history, taken out of it and ranked among all others by the "
    "table of that round, which was trained with it"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """Asks the same people after every few rounds.

    Attributes:
        histories: Of those who are asked, without their latest item.
        targets: int32[people], that item.
        settings: How histories are weighed.
        rounds: Of the run.
    """

    histories: HistoryColumns
    targets: NDArray[np.int32]
    settings: RankerSettings
    rounds: int

    @classmethod
    def of(
        cls,
        histories: HistoryColumns,
        *,
        settings: RankerSettings,
        rounds: int,
        seed: int,
        compiled: Callable[[], object] = load,
    ) -> Course | None:
        """Draw who is asked; None for one round, people of one item, or without a kernel."""
        able = np.flatnonzero(histories.lengths >= 2)
        if not len(able) or rounds < 2:
            return None
        try:
            compiled()
        except KernelUnavailableError:
            return None
        drawn = np.random.default_rng((seed, len(able))).permutation(len(able))[:MOST_PEOPLE]
        held = histories.of(np.sort(able[drawn]).astype(np.int64))
        _, targets = held.latest(room=1)
        person = np.repeat(np.arange(held.people), held.lengths)
        kept = held.items != targets[person]
        lengths = np.bincount(person[kept], minlength=held.people)
        return cls(
            histories=HistoryColumns(
                offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
                items=held.items[kept],
                counts=held.counts[kept],
                last_time_s=held.last_time_s[kept],
                now_s=held.now_s,
            ),
            targets=targets,
            settings=settings,
            rounds=rounds,
        )

    def is_due(self, done: int) -> bool:
        """Whether to look after so many rounds: at the start, at the end, and evenly between."""
        return done in {0, self.rounds} or done % max(1, self.rounds // _POINTS) == 0

    def look(self, factors: NDArray[np.float32], *, done: int) -> dict[str, Any]:
        """Rank with a round's table.

        Args:
            factors: float32[n_items, rank].
            done: Rounds so far.
        """
        found = evaluate_table(
            self.histories,
            self.targets,
            np.arange(self.histories.people),
            factors=factors,
            settings=self.settings,
        )
        return {"round": done, **found}
