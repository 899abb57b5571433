"""Latency of ``rank`` on a device, beside a bare numpy matmul and top-k of the same catalogue.

    python -m benchmarks.rank [--json FILE]

A store on disk, consent, 140 purchases and a release of rank 32: what an app calls. Items have a
category and a name of four words that follow Zipf's law, so that words and categories count. The
peer is ``factors @ vector`` and ``argpartition``, with a vector that is there already: no history,
no rules, no reasons, no names. In one process, in turns, call by call:

* ``after_event``: the first list after a purchase (which is tracked between, untimed): everything
  that the event changed is computed anew.
* ``other_question``: another number of items than in the call before, and nothing new of the
  person: the scores are known, the list isn't.
* ``steady``: the same question again: the list is known.

Every tenth of the calls was faster than ``p10``: what it says is the least disturbed by whatever
else runs. One thread (``OMP_NUM_THREADS=1``), as on a phone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.publishing import export_checked_graph
from client_sdk import Homebody
from client_sdk.intelligence import ItemCategories, ItemWords, RankerTable
from client_sdk.intelligence.score_cache import ScoreCache
from client_sdk.testing import FakeAggregator, FakeReleases, MemoryKeyStore
from client_sdk.wire import Catalogue, Item, Purpose

SIZES: Final = (1_600, 10_000, 50_000)
RANK: Final = 32
HISTORY: Final = 140
CALLS: Final = 300
WARM_UP: Final = 30
K: Final = 10
WORDS: Final = 8_000
WAYS: Final = ("after_event", "other_question", "steady")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(argv)
    graph = export_checked_graph(RANK).data
    rows = [measure(size, graph) for size in SIZES]
    columns = "".join(f"{name:>10}" for name in ("p10", "p50", "p99"))
    print(f"{'items':>8}{'':>16}{columns}{'/ numpy: p10':>14}{'p50':>6}{'kept':>12}")
    for row in rows:
        for name in (*WAYS, "numpy"):
            times = "".join(f"{row[f'{name}_p{at}_us']:>7.0f} µs" for at in (10, 50, 99))
            ratios = [row.get(f"{name}_ratio_p{at}", 1.0) for at in (10, 50)]
            kept = f"{row['kept_bytes']:,} B" if name == WAYS[0] else ""
            print(
                f"{row['items']:>8,}{name:>16}{times}{ratios[0]:>14.2f}{ratios[1]:>6.2f}{kept:>12}"
            )
    if options.json is not None:
        options.json.write_text(json.dumps({"rank": rows}, indent=1) + "\n")
    return 0


def measure(size: int, graph: bytes) -> dict[str, Any]:
    """Time one catalogue size."""
    rng = np.random.default_rng(0)
    factors = (rng.standard_normal((size, RANK)) * 0.1 / np.sqrt(RANK)).astype(np.float32)
    weight = np.einsum("nr,nr->n", factors, factors)
    table = RankerTable.from_arrays(
        factors=factors,
        self_weight=weight,
        scale=1 / (1 - weight),
        popularity=rng.random(size),
    )
    items = tuple(
        Item(item_id=f"i{row}", name=" ".join(name), category=f"group {row % 40}")
        for row, name in enumerate(_names(size, rng))
    )
    vector = rng.standard_normal(RANK).astype(np.float32)

    def bare() -> object:
        scores = factors @ vector
        best = np.argpartition(scores, -K)[-K:]
        return best[np.argsort(-scores[best])]

    with tempfile.TemporaryDirectory() as folder:
        releases = FakeReleases(
            FakeAggregator().release(Catalogue(items=items), table=table.to_bytes(), graph=graph)
        )
        with Homebody.open(
            Path(folder) / "home", key_store=MemoryKeyStore(), releases=releases
        ) as home:
            home.consent.grant("personalise")
            home.update()
            had = rng.choice(size, HISTORY, replace=False)
            for row in had:
                home.track("purchase", item=f"i{row}")
            times: dict[str, list[float]] = {name: [] for name in (*WAYS, "numpy")}
            # Half of the events are of items that they had; the others are new to the history.
            bought = np.where(
                rng.random(WARM_UP + CALLS) < 0.5,
                rng.choice(had, WARM_UP + CALLS),
                rng.integers(0, size, WARM_UP + CALLS),
            ).tolist()
            for call, row in enumerate(bought):
                home.track("purchase", item=f"i{row}")
                spent = (
                    _spent_us(lambda: home.rank(k=K)),
                    _spent_us(lambda: home.rank(k=K + 1)),
                    _spent_us(lambda: home.rank(k=K + 1)),
                    _spent_us(bare),
                )
                if call >= WARM_UP:
                    for name, one in zip(times, spent, strict=True):
                        times[name].append(one)
            history = home.signals.history(Purpose.PERSONALISE, home.catalogue.position)
    cache = ScoreCache()
    cache.scores(
        table,
        history,
        ItemCategories.from_names([item.category for item in items]),
        words=ItemWords.from_items(items),
    )
    row = {"items": size, "history": len(history), "kept_bytes": cache.n_bytes}
    figures = _figures(times)
    # The figure of the goal: nothing that the event changed was known before.
    return row | figures | {"ratio_p50": figures["after_event_ratio_p50"]}


def _figures(times: dict[str, list[float]]) -> dict[str, float]:
    figures = {}
    for name, spent in times.items():
        for centile in (10, 50, 99):
            figures[f"{name}_p{centile}_us"] = round(float(np.percentile(spent, centile)), 1)
    for name in WAYS:
        for centile in (10, 50):
            ratio = figures[f"{name}_p{centile}_us"] / figures[f"numpy_p{centile}_us"]
            figures[f"{name}_ratio_p{centile}"] = round(ratio, 2)
    return figures


def _names(size: int, rng: np.random.Generator) -> list[list[str]]:
    """Draw names whose words are as unequal as those of a language: the r-th weighs 1 / r."""
    alphabet = "abcdefghijklmnopqrst"
    vocabulary = ["".join(alphabet[(n // 20**at) % 20] for at in range(4)) for n in range(WORDS)]
    weight = 1 / np.arange(1, WORDS + 1)
    drawn = rng.choice(WORDS, (size, 4), p=weight / weight.sum())
    return [[vocabulary[word] for word in name] for name in drawn.tolist()]


def _spent_us(call: Callable[[], object]) -> float:
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / 1000


if __name__ == "__main__":
    sys.exit(main())
