"""Latency of ``rank`` on a device, beside a bare numpy matmul and top-k of the same catalogue.

    python -m benchmarks.rank [--json FILE]

A store on disk, consent, 140 purchases and a release of rank 32: what an app calls. The peer is
``factors @ vector`` and ``argpartition``, with a vector that is there already: no history, no
rules, no reasons, no names. Both are timed call by call, in turns, in one process.
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
from client_sdk.intelligence import RankerTable
from client_sdk.testing import FakeAggregator, FakeReleases, MemoryKeyStore
from client_sdk.wire import Catalogue, Item

SIZES: Final = (1_600, 10_000, 50_000)
RANK: Final = 32
HISTORY: Final = 140
CALLS: Final = 300
WARM_UP: Final = 30
K: Final = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(argv)
    graph = export_checked_graph(RANK).data
    rows = [measure(size, graph) for size in SIZES]
    columns = ("rank p50", "rank p99", "numpy p50", "numpy p99")
    print(f"{'items':>8}" + "".join(f"{name:>12}" for name in columns) + f"{'ratio':>8}")
    for row in rows:
        print(
            f"{row['items']:>8,}{row['rank_p50_us']:>9.0f} µs{row['rank_p99_us']:>9.0f} µs"
            f"{row['numpy_p50_us']:>9.0f} µs{row['numpy_p99_us']:>9.0f} µs{row['ratio_p50']:>8.2f}"
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
        Item(item_id=f"i{row}", name=f"Item {row}", category=f"group {row % 40}")
        for row in range(size)
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
            for row in rng.choice(size, HISTORY, replace=False):
                home.track("purchase", item=f"i{row}")
            ours, peer = _timed(lambda: home.rank(k=K), bare)
    p50, p99 = np.percentile(ours, [50, 99])
    peer_p50, peer_p99 = np.percentile(peer, [50, 99])
    return {
        "items": size,
        "rank_p50_us": round(float(p50), 1),
        "rank_p99_us": round(float(p99), 1),
        "numpy_p50_us": round(float(peer_p50), 1),
        "numpy_p99_us": round(float(peer_p99), 1),
        "ratio_p50": round(float(p50 / peer_p50), 2),
    }


def _timed(
    first: Callable[[], object], second: Callable[[], object]
) -> tuple[list[float], list[float]]:
    """Time two calls in turns; microseconds, without the warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in range(WARM_UP + CALLS):
        for which, function in enumerate((first, second)):
            started = time.perf_counter_ns()
            function()
            spent_us = (time.perf_counter_ns() - started) / 1000
            if call >= WARM_UP:
                times[which].append(spent_us)
    return times


if __name__ == "__main__":
    sys.exit(main())
