"""What arms are made from, and the arms of the device: alone, together, beside a model of others.

| arm | knows |
|---|---|
| popularity | how many people had each item, exactly: the same list for everyone |
| device-alone | the person's own history and the catalogue |
| together-… | that, and a released table |
| central | that, and everyone's raw history in one place: the ceiling |

`simulations.arms.registry` has all arms by name, with those that peers would run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from client_sdk.assortment import Assortment, prepare
from client_sdk.intelligence import (
    History,
    RankerSettings,
    RankerTable,
    score_many,
    solve_many,
)
from client_sdk.wire import Catalogue
from simulations.arms import simple
from simulations.arms.ease import EaseSettings, ease_weights
from simulations.arms.matrices import Matrix, holdings, unit_rows
from simulations.data.interactions import IntArray, Interactions
from simulations.evaluation.metrics import ScoreArray, Scorer

CENTRAL_RIDGE: Final = EaseSettings().ridge
"""EASE's penalty in the central arm; chosen by ``python -m simulations.tune``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arms:
    """What the arms are made from.

    Attributes:
        train: Everyone's training part.
        histories: What each device holds, by person.
        catalogue: What can be shown.
        ranker: How a device without a release weighs its history and mixes the parts of a score.
    """

    train: Interactions
    histories: Sequence[History]
    catalogue: Catalogue
    ranker: RankerSettings = field(default_factory=RankerSettings)

    def popularity(self) -> Scorer:
        """Best sellers."""
        return simple.popularity(self.train)

    def own_frequency(self) -> Scorer:
        """On how many occasions the person had an item."""
        return simple.own_frequency(self.train)

    def alone(self) -> Scorer:
        """The device without any model."""
        return self.together(RankerTable.without_model(self.train.n_items, settings=self.ranker))

    def together(self, table: RankerTable) -> Scorer:
        """The device with a released table, completed on the device where nothing was learned."""
        return self.with_assortment(prepare(self.catalogue, table))

    def with_assortment(self, shop: Assortment) -> Scorer:
        """The device with an assortment as it stands."""

        def score(people: IntArray) -> ScoreArray:
            histories = [self.histories[person] for person in people]
            vectors = solve_many(shop.table, histories)
            return score_many(
                shop.table,
                shop.table.settings,
                vectors,
                histories,
                shop.categories,
                words=shop.words,
            )

        return score

    def beside_alone(self, model: Scorer, *, weight: float) -> Scorer:
        """A model of others, mixed with what the device alone knows.

        Without it, a model that was never told of repeats would be judged on repeats.

        Args:
            model: The other scorer.
            weight: Its weight, beside 1 for the device alone; finite and >= 0.

        Raises:
            ValueError: another weight.
        """
        if not 0.0 <= weight < np.inf:
            raise ValueError(f"weight must be finite and at least 0, got {weight}")
        alone = self.alone()

        def score(people: IntArray) -> ScoreArray:
            return weight * model(people) + alone(people)

        return score

    def central(
        self,
        settings: RankerSettings,
        *,
        ridge: float = CENTRAL_RIDGE,
        length_power: float = EaseSettings().length_power,
    ) -> Scorer:
        """Full-rank EASE on everyone's raw history, mixed as the device mixes.

        Args:
            settings: How histories are weighed and scores mix.
            ridge: EASE's penalty.
            length_power: How far long histories count for more.
        """
        rows = self.unit_rows(settings)
        weights = ease_weights(rows, EaseSettings(ridge=ridge, length_power=length_power))

        def score(people: IntArray) -> ScoreArray:
            found: ScoreArray = rows[people] @ weights
            return found

        return self.beside_alone(score, weight=settings.together_weight)

    def unit_rows(self, settings: RankerSettings) -> Matrix:
        """Everyone's unit-norm history vector: csr float64[people, items]."""
        return unit_rows(
            self.histories,
            self.train.n_items,
            weighting=settings.weighting,
            half_life_days=settings.half_life_days,
        )

    def holdings(self) -> Matrix:
        """Who had what: csr float64[people, items] of ones."""
        return holdings(self.histories, self.train.n_items)
