"""Choose the ranker's settings on validation: ``python -m simulations.tune``.

Everything chosen here looks at the validation part only (each customer's second-to-last invoice,
learned from what came before it). ``--test`` prints the test once, with what the defaults are: run
it after the choice, not to make it.

Rules a reader can check line by line:

1. The path is the product's: histories -> unit-norm vectors -> packed x x' -> Gaussian noise ->
   `decode_item_statistics` -> `RankerTable` -> `score_many`. Two releases share one budget: item
   counts (unit-norm as well) choose the top K and give popularity, the Gram matrix gives factors.
2. Noise "as if 100,000 people" has the deviation of the sum's noise times people / 100,000: the
   mean over the sample is as noisy as a mean over 100,000 people would be. The sample itself does
   not grow: what 100,000 people would teach beyond it is not claimed.
3. 85 % of the people, drawn by the seed, take part in learning; everyone is asked.
4. Noise here is drawn by PCG64 from a seed, for repeatable experiments; the product's isn't.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence import (
    History,
    RankerSettings,
    RankerTable,
    statistics_vector,
)
from models.item_prior import ItemPrior, PriorSettings
from models.item_statistics import (
    StatisticsSettings,
    decode_item_statistics,
    select_top_items,
    suggest_top_items,
)
from privacy.gaussian import noise_multipliers_for
from simulations.arms import Arms
from simulations.arms.simple import popularity
from simulations.attributes import catalogue_attributes
from simulations.data.bundled import load_bundled
from simulations.evaluation.metrics import Measured, Scorer, measure, summarise
from simulations.evaluation.split import Part, Split, draw_targets, hold_out
from simulations.population import histories_of

DELTA: Final = 1e-6
POPULATION: Final = 100_000
CONSENTING: Final = 0.85
SEEDS: Final = (0, 1, 2, 3, 4)
COUNTS_SHARE: Final = 0.1
"""The part of rho that the release of item counts gets; chosen here."""
DEFAULT_RANKER: Final = RankerSettings()
DEFAULT_STATISTICS: Final = StatisticsSettings()
# With attributes in the decoder, for the sample's own size; chosen here.
AS_IS_STATISTICS: Final = StatisticsSettings(ridge_edges=2.0)
AS_IS_PRIOR: Final = PriorSettings(added=0.0)


@dataclass(frozen=True, kw_only=True)
class Release:
    """How one release is learned.

    Attributes:
        epsilon: of counts and statistics together; None for no noise.
        population: the noise is scaled as if so many people were asked; None for as it is.
        top_items: K; None for `suggest_top_items`.
        counts_share: of rho.
        statistics: how the sum is decoded.
        prior: how far the catalogue's attributes are believed by the decoder; None for not at all.
        ranker: the settings that the release carries.
        consenting: share of the people who take part.
    """

    epsilon: float | None = 8.0
    population: int | None = POPULATION
    top_items: int | None = None
    counts_share: float = COUNTS_SHARE
    statistics: StatisticsSettings = DEFAULT_STATISTICS
    prior: PriorSettings | None = None
    ranker: RankerSettings = DEFAULT_RANKER
    consenting: float = CONSENTING


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """One part of the data, ready to learn from and to ask.

    Attributes:
        split: what may be learned from, and what is asked.
        arms: what each arm knows of it.
    """

    split: Split
    arms: Arms

    @classmethod
    def load(cls, part: Part) -> Bench:
        """Read the bundled sample and hold out a part of it."""
        data = load_bundled()
        split = hold_out(data.interactions, part=part)
        histories = histories_of(split, data.catalogue)
        return cls(
            split=split, arms=Arms(train=split.train, histories=histories, catalogue=data.catalogue)
        )

    @property
    def histories(self) -> Sequence[History]:
        """One a person, as that person's device would hold it when asked."""
        return self.arms.histories

    def prior(self, settings: PriorSettings) -> ItemPrior:
        """What the catalogue says, believed so far."""
        return ItemPrior(attributes=catalogue_attributes(self.arms.catalogue), settings=settings)

    @property
    def n_items(self) -> int:
        """The size of the catalogue."""
        return self.split.train.n_items


def learn(bench: Bench, release: Release, *, seed: int) -> RankerTable:
    """Learn one release from the people who take part."""
    rng = np.random.default_rng(seed)
    people = len(bench.histories)
    taking_part = np.sort(rng.permutation(people)[: round(release.consenting * people)])
    histories = [bench.histories[person] for person in taking_part]
    count_std, gram_std = noise_of(release, people=people)
    counts = _stack(histories, bench.n_items, weighting="binary").sum(axis=0)
    counts += rng.standard_normal(bench.n_items) * count_std
    size = release.top_items or suggest_top_items(
        people=len(histories),
        noise_std=gram_std,
        n_items=bench.n_items,
        prior=release.prior is not None,
    )
    top = select_top_items(counts, size)
    vectors = _stack(
        histories,
        bench.n_items,
        weighting=release.ranker.weighting,
        half_life_days=release.ranker.half_life_days,
        within=top,
    )
    packed = pack_gram(vectors)
    packed += rng.standard_normal(len(packed)) * gram_std
    decoded = decode_item_statistics(
        packed,
        top_items=top,
        n_items=bench.n_items,
        noise_std=gram_std,
        noisy_counts=counts,
        settings=release.statistics,
        prior=None if release.prior is None else bench.prior(release.prior),
    )
    return RankerTable(**vars(decoded), settings=release.ranker)


def noise_of(release: Release, *, people: int) -> tuple[float, float]:
    """Give the deviations of the noise on the sums of counts and of packed x x'."""
    if release.epsilon is None:
        return 0.0, 0.0
    shares = (release.counts_share, 1.0 - release.counts_share)
    sigmas = noise_multipliers_for(epsilon=release.epsilon, delta=DELTA, shares=shares)
    scale = 1.0 if release.population is None else people / release.population
    return sigmas[0] * scale, sigmas[1] * scale


def pack_gram(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the sum over people of the packed x x': what the aggregator's sum is, in one product."""
    gram = vectors.T @ vectors
    rows, columns = np.triu_indices(len(gram))
    return gram[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))


def device_alone(bench: Bench, ranker: RankerSettings = DEFAULT_RANKER) -> Scorer:
    """Score with the person's own history and the catalogue: no model, nobody else's data."""
    return bench.arms.together(RankerTable.without_model(bench.n_items, settings=ranker))


def judge(
    bench: Bench, make: Callable[[int], Scorer], seeds: Iterable[int], *, draws: int = 1
) -> list[Measured]:
    """Learn once for each seed and ask: the seed draws who takes part, the noise and the targets.

    Args:
        bench: the part of the data.
        make: from a seed to an arm.
        seeds: one run each.
        draws: targets a person in each run; the run is their mean.

    Returns:
        One `Measured` a seed.
    """
    runs = []
    for seed in seeds:
        scorer = make(seed)
        asked = [
            measure(scorer, bench.split, draw_targets(bench.split, seed=seed + 1000 * draw))
            for draw in range(draws)
        ]
        runs.append(
            {
                protocol: {
                    metric: float(np.mean([one[protocol][metric] for one in asked]))
                    for metric in asked[0][protocol]
                }
                for protocol in asked[0]
            }
        )
    return runs


def grid(default: Release) -> Iterable[tuple[str, Release]]:
    """Give the settings to try: one or two at a time, the rest at the default."""
    yield "default", default
    for weighting, days in itertools.product(("binary", "log"), (30.0, 60.0, 120.0)):
        yield _with(default, weighting=weighting, half_life_days=days)
    for mean, weight in itertools.product((16.0, 32.0, 64.0), (0.0, 0.05, 0.1, 0.2)):
        yield _with(default, ridge_mean=mean, word_weight=weight)
    for weight, days in itertools.product((0.3, 1.0, 3.0), (30.0, 90.0)):
        yield _with(default, own_weight=weight, own_half_life_days=days)
    single: dict[str, tuple[float, ...]] = {
        "rank": (32, 64, 256),
        "top_items": (400, 800),
        "category_weight": (0.0, 0.02),
        "popularity_weight": (0.0, 0.01),
    }
    as_is: dict[str, tuple[float, ...]] = {
        "ridge_edges": (0.3, 3.0, 10.0, 30.0),
        "counts_share": (0.03, 0.1, 0.3),
        "top_items": (100, 200, 400),
    }
    for edges, added, penalty in (
        (0.5, 0.0, 0.4),
        (2.0, 0.0, 0.4),
        (2.0, 0.2, 0.4),
        (2.0, 0.0, 0.8),
    ):
        statistics = StatisticsSettings(ridge_edges=edges)
        for base, note in ((default, ""), (_as_is(default), "as is: ")):
            yield (
                f"{note}attributes, ridge_edges {edges}, added {added}, penalty_edges {penalty}",
                replace(
                    base,
                    statistics=statistics,
                    prior=PriorSettings(added=added, penalty_edges=penalty),
                ),
            )
    for base, values, note in ((default, single, ""), (_as_is(default), as_is, "as is: ")):
        for name, tried in values.items():
            for value in tried:
                text, release = _with(base, **{name: value})
                yield note + text, release


def _as_is(release: Release) -> Release:
    """Give the same release with the noise of the sample's own size."""
    return replace(release, population=None)


def _with(release: Release, **changes: Any) -> tuple[str, Release]:
    """Change settings by name, wherever they live, and say so."""

    def part(settings: Any) -> Any:
        return replace(settings, **{k: v for k, v in changes.items() if hasattr(settings, k)})

    own = {k: v for k, v in changes.items() if hasattr(release, k)}
    changed = replace(
        release, ranker=part(release.ranker), statistics=part(release.statistics), **own
    )
    return ", ".join(f"{name} {value}" for name, value in changes.items()), changed


def arms(bench: Bench) -> Iterable[tuple[str, Callable[[int], Scorer]]]:
    """Give what is compared in the end, each as a function of the seed."""
    central_arm, alone = bench.arms.central(DEFAULT_RANKER), device_alone(bench)
    plain = device_alone(bench, replace(DEFAULT_RANKER, word_weight=0.0, category_weight=0.0))
    by_category = device_alone(bench, replace(DEFAULT_RANKER, word_weight=0.0))
    yield "popularity", lambda _: popularity(bench.split.train)
    yield "device alone: own frequency", lambda _: plain
    yield "device alone: and categories", lambda _: by_category
    yield "device alone: and words", lambda _: alone
    for epsilon, population in ((2.0, None), (8.0, None), (2.0, POPULATION), (8.0, POPULATION)):
        release = Release(epsilon=epsilon, population=population)
        size = "as is" if population is None else f"as if {population:,}"
        yield f"together, eps {epsilon:g}, {size}", _learner(bench, release)
    yield "together, no noise", _learner(bench, Release(epsilon=None))
    no_words = replace(DEFAULT_RANKER, word_weight=0.0, category_weight=0.0)
    yield (
        f"together, eps 8, as if {POPULATION:,}, no words",
        _learner(bench, Release(ranker=no_words)),
    )
    yield "central (raw histories of all)", lambda _: central_arm


def table_of(runs: Iterable[tuple[str, list[Measured]]], out: TextIO) -> dict[str, Any]:
    """Print a row for each name and give the same as JSON."""
    print(f"{'hr@10':46}{'discover':>16}{'next':>16}{'sampled':>16}", file=out)
    rows: dict[str, Any] = {}
    for name, measured in runs:
        rows[name] = summarise(measured)
        cells = (rows[name][protocol]["hr@10"] for protocol in ("discover", "next", "sampled"))
        text = "".join(f"{cell['mean']:9.4f} ±{cell['std']:.4f}" for cell in cells)
        print(f"{name:46}{text}", file=out, flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the validation grid and the arms on validation; with --test, the arms on the test."""
    parser = argparse.ArgumentParser(prog="python -m simulations.tune", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--test", action="store_true", help="the arms on the test, no grid")
    parser.add_argument("--arms", action="store_true", help="the arms on validation, no grid")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    options = parser.parse_args(arguments)
    bench = Bench.load("test" if options.test else "validation")
    rows: dict[str, Any] = {}
    if not (options.test or options.arms):
        tried = (
            (name, judge(bench, _learner(bench, release), SEEDS[:3], draws=4))
            for name, release in grid(Release())
        )
        rows["grid"] = table_of(tried, sys.stdout)
    compared = ((name, judge(bench, make, SEEDS)) for name, make in arms(bench))
    rows["arms"] = table_of(compared, sys.stdout)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


def _learner(bench: Bench, release: Release) -> Callable[[int], Scorer]:
    """Give a release as a function of the seed."""
    return lambda seed: bench.arms.together(learn(bench, release, seed=seed))


def _stack(
    histories: Sequence[History],
    n_items: int,
    *,
    within: NDArray[np.int32] | None = None,
    **how: Any,
) -> NDArray[np.float64]:
    """Stack the people's statistics vectors: float64[P, n] or, within a list, float64[P, K]."""
    vectors = np.zeros((len(histories), n_items if within is None else len(within)))
    for row, history in enumerate(histories):
        items, values = statistics_vector(history, within=within, **how)
        vectors[row, items] = values
    return vectors


if __name__ == "__main__":
    sys.exit(main())
