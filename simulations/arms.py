"""The arms of an experiment as scorers: what each knows, and nothing more.

| arm | knows |
|---|---|
| popularity | how many people had each item, exactly: the same list for everyone |
| device-alone | the person's own history and the catalogue |
| together-… | that, and a released table |
| central | that, and everyone's raw history in one place: the ceiling |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from client_sdk.assortment import Assortment, prepare
from client_sdk.intelligence import (
    History,
    RankerSettings,
    RankerTable,
    score_many,
    solve_many,
    statistics_vector,
)
from client_sdk.wire import Catalogue
from simulations.data.interactions import IntArray, Interactions
from simulations.evaluation import arms as simple
from simulations.evaluation.metrics import ScoreArray, Scorer

CENTRAL_RIDGE: Final = 8.0
"""EASE's penalty in the central arm; chosen by ``python -m simulations.tune``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arms:
    """What the arms are made from.

    Attributes:
        train: Everyone's training part.
        histories: What each device holds, by person.
        catalogue: What can be shown.
    """

    train: Interactions
    histories: Sequence[History]
    catalogue: Catalogue

    def popularity(self) -> Scorer:
        """Best sellers."""
        return simple.popularity(self.train)

    def alone(self) -> Scorer:
        """The device without any model."""
        return self.together(RankerTable.without_model(self.train.n_items))

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

    def central(self, settings: RankerSettings, *, ridge: float = CENTRAL_RIDGE) -> Scorer:
        """Full-rank EASE on everyone's raw history, mixed as the device mixes.

        Args:
            settings: How histories are weighed and scores mix.
            ridge: EASE's penalty.
        """
        vectors = np.zeros((len(self.histories), self.train.n_items))
        for row, history in enumerate(self.histories):
            items, values = statistics_vector(
                history, weighting=settings.weighting, half_life_days=settings.half_life_days
            )
            vectors[row, items] = values
        penalised = vectors.T @ vectors + ridge * np.eye(self.train.n_items)
        inverse = np.linalg.inv(penalised)
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        alone = self.alone()

        def score(people: IntArray) -> ScoreArray:
            together = vectors[people] @ weights * settings.together_weight
            return together + alone(people)

        return score
