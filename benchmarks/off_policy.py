"""What a log says of another policy: ``python -m benchmarks.off_policy [--data D] [--json FILE]``.

The Open Bandit Dataset sample (Saito et al. 2021): a week of a shop's recommendations, 10,000 by a
random policy and 10,000 by Bernoulli Thompson sampling, with the true propensities. Its licence is
not confirmed, so it isn't in the product: ``--data`` names a folder that holds ``open-bandit/``
(default: ``$HOMEBODY_SHARED/data``, or ``../shared/data`` beside the repository). Without it: one
line, exit code 2.

Each row estimates the click rate of the policy that did *not* write the log, beside the click rate
that this policy's own log has, both with a standard error. ``off`` is their distance in standard
errors of the difference. There are 38 and 42 clicks: read the error bars, not the values.

Thompson sampling changed during the week. Its target is the mix of the week: how often it showed
each item at each position, counted in its own log; the error bars don't hold the error of this
count. The random policy shows each of 80 items with the same chance.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from simulations.evaluation.off_policy import (  # noqa: E402
    Estimate,
    FloatArray,
    LoggedDecisions,
    cross_fitted_means,
    dr,
    ips,
    on_policy,
    snips,
)

N_ITEMS: Final = 80
N_POSITIONS: Final = 3
CLIP: Final = 5.0
POLICIES: Final = {"random": "random", "thompson": "bts"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Week:
    """One policy's log.

    Attributes:
        decisions: What was shown, with its propensity, and whether it was clicked.
        positions: int64[n], from 0: where on the page.
    """

    decisions: LoggedDecisions
    positions: npt.NDArray[np.int64]


def load(folder: Path) -> dict[str, Week]:
    """Read both logs from ``open-bandit/``."""
    return {name: _week(folder / part / "all" / "all.csv.gz") for name, part in POLICIES.items()}


def _week(path: Path) -> Week:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = [
            (r["item_id"], r["click"], r["propensity_score"], r["position"])
            for r in csv.DictReader(lines)
        ]
    items, clicks, propensities, positions = np.array(rows, np.float64).T
    return Week(
        decisions=LoggedDecisions(
            actions=items.astype(np.int64),
            rewards=clicks,
            propensities=propensities,
            n_actions=N_ITEMS,
        ),
        positions=positions.astype(np.int64) - 1,
    )


def policy(name: str, weeks: dict[str, Week]) -> FloatArray:
    """Give a policy's chances: float64[positions, items]."""
    if name == "random":
        return np.full((N_POSITIONS, N_ITEMS), 1.0 / N_ITEMS)
    week = weeks[name]
    counts = np.zeros((N_POSITIONS, N_ITEMS))
    np.add.at(counts, (week.positions, week.decisions.actions), 1.0)
    shares: FloatArray = counts / counts.sum(axis=1, keepdims=True)
    return shares


def benchmark(weeks: dict[str, Week]) -> list[dict[str, Any]]:
    """Estimate each policy from the other one's log."""
    rows = []
    for logged, target in (("random", "thompson"), ("thompson", "random")):
        log = weeks[logged].decisions
        chances = policy(target, weeks)[weeks[logged].positions]
        truth = on_policy(weeks[target].decisions)
        model = cross_fitted_means(prior_weight=100.0)
        for name, found in (
            ("IPS", ips(log, chances)),
            ("SNIPS", snips(log, chances)),
            ("DR", dr(log, chances, model)),
            (f"IPS, weights <= {CLIP:g}", ips(log, chances, clip=CLIP)),
            (f"DR, weights <= {CLIP:g}", dr(log, chances, model, clip=CLIP)),
        ):
            rows.append({"log": logged, "policy": target, "estimator": name, **_row(found, truth)})
    return rows


def _row(found: Estimate, truth: Estimate) -> dict[str, float]:
    error = math.hypot(found.standard_error, truth.standard_error)
    return {
        "value": found.value,
        "standard_error": found.standard_error,
        "truth": truth.value,
        "truth_standard_error": truth.standard_error,
        "off": (found.value - truth.value) / error,
        "effective_size": found.effective_size,
        "clipped": found.clipped,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 0 when it ran, 2 when the data is not there."""
    parser = argparse.ArgumentParser(description="Open Bandit Dataset, one log about the other")
    parser.add_argument("--data", type=Path, help="folder that holds open-bandit/")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    options = parser.parse_args(arguments)
    shared = os.environ.get("HOMEBODY_SHARED")
    default = (Path(shared) if shared else ROOT.parent / "shared") / "data"
    folder = (options.data or default) / "open-bandit"
    if not (folder / "bts" / "all" / "all.csv.gz").is_file():
        print(f"Open Bandit is not in {folder}; name its parent with --data", file=sys.stderr)
        return 2
    rows = benchmark(load(folder))
    print("clicks in 1,000 shown, with one standard error")
    print(f"{'log':10}{'policy':10}{'estimator':20}{'estimate':>15}{'its own log':>15}{'off':>7}"
          f"{'effective':>11}{'clipped':>9}")  # fmt: skip
    for row in rows:
        estimate = f"{1e3 * row['value']:.2f} ± {1e3 * row['standard_error']:.2f}"
        truth = f"{1e3 * row['truth']:.2f} ± {1e3 * row['truth_standard_error']:.2f}"
        print(
            f"{row['log']:10}{row['policy']:10}{row['estimator']:20}{estimate:>15}{truth:>15}"
            f"{row['off']:>7.2f}{row['effective_size']:>11,.0f}{row['clipped']:>9,}"
        )
    if options.json:
        text = json.dumps({"off_policy": rows}, indent=1) + "\n"
        options.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
