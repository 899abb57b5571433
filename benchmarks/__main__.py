"""Run every benchmark: ``python -m benchmarks [--out DIR]``; a table each, and DIR/NAME.json."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

BENCHMARKS: Final = {
    "rank": "latency of rank on a device, beside bare numpy",
    "signals": "ingest, track, open and size of a store, beside plain SQLite",
    "cold_items": "ranking of items that nobody had yet, beside words and categories",
    "sessions": "lists that heed the session, from popularity to the person",
    "decide": "latency of a decision, beside the bare model and the same over HTTP",
    "models": "propensity beside scikit-learn, uplift beside random targeting",
    "propensity_population": "a propensity learned together, with and without noise",
    "off_policy": "what one log says of another policy, beside its own log",
    "federation": "strategy clients/s and bytes a device uploads, beside stock Flower",
    "engines": "updates/s of the kernel engine beside real devices; 100,000 synthetic people",
    "surveys": "federated statistics with their intervals, beside exact values",
    "noise": "values/s and memory of each noise mechanism, beside numpy's generator",
    "epsilon_quality": "ranking quality against epsilon and population, beside the known reach",
    "arms": "what others would run on everyone's raw histories, and local DP, beside ours",
    "utility_curves": "how utility falls with noise, which the planner predicts from",
    "movielens": "ranking quality on MovieLens-1M, beside popularity and the literature",
    "movielens_goals": "the same without noise, rounds after the statistics, beside the goals",
}
_SKIPPED: Final = 2


def main() -> int:
    """Run them in turn; one that lacks its data says so and is skipped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write DIR/NAME.json")
    options = parser.parse_args()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name, what in BENCHMARKS.items():
        print(f"\n== {name}: {what}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if options.out is not None:
            command += ["--json", str(options.out / f"{name}.json")]
        code = subprocess.run(command, check=False).returncode
        failed += code not in (0, _SKIPPED)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
