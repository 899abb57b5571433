"""Noise of 10⁷ values: values/s and memory of each mechanism, beside numpy's own generator.

    python -m benchmarks.noise [--json FILE] [--values N]

One thread. A round of each mechanism is timed in turns with ``default_rng().standard_normal`` of
as many values in float64, which is no secret noise and knows nothing of rounds; so a busy machine
slows both. Memory is what numpy and Python allocate at most while rounds are made, over the size of
the sum that the noise is added to (int64, 8 bytes a value: twice a float32 model). The OpenDP rows
are the samplers for histograms, at 20,000 values.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from privacy.bounded_sum import STEPS
from privacy.correlated import NoiseState, apply, init
from privacy.discrete import DiscreteGaussianMechanism, DiscreteLaplaceMechanism
from privacy.factorisation import Factorisation, FactorisationName
from privacy.mechanisms import Mechanism
from privacy.noise import GaussianNoise
from privacy.optimise import factorisation_for, optimise_banded

VALUES: Final = 10_000_000
DISCRETE_VALUES: Final = 20_000
ROUNDS: Final = 5
RUN: Final = {"rounds": 500, "min_separation": 50, "max_participations": 10}
BANDS: Final = 8
STD_STEPS: Final = 4.0 * STEPS


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--values", type=int, default=VALUES, metavar="N", help="values a round")
    options = parser.parse_args(argv)
    if options.values < 1:
        parser.error(f"--values must be at least 1; got {options.values}")
    started = time.perf_counter()
    plans = {
        name.value: factorisation_for(name, **RUN)
        for name in FactorisationName
        if name is not FactorisationName.BANDED_TOEPLITZ
    }
    plans[f"banded-toeplitz ({BANDS})"] = optimise_banded(**RUN, bands=BANDS)
    optimised_s = time.perf_counter() - started
    rows = [_measure(name, plan, options.values) for name, plan in plans.items()]
    rows += [
        _measure_discrete(mechanism)
        for mechanism in (
            DiscreteGaussianMechanism(noise_multiplier=4.0),
            DiscreteLaplaceMechanism(noise_multiplier=4.0),
        )
    ]
    print(f"strategies optimised in {optimised_s:.1f} s; {options.values:,} values a round")
    print(f"{'':>20}{'M values/s':>12}{'numpy':>9}{'ratio':>8}{'memory':>9}{'RMSE':>8}")
    for row in rows:
        memory = "" if row["memory_in_sums"] is None else f"{row['memory_in_sums']:.2f}"
        rmse = "" if row["prefix_rmse"] is None else f"{row['prefix_rmse']:.2f}"
        print(
            f"{row['mechanism']:>20}{row['million_values_per_s']:>12.2f}"
            f"{row['numpy_million_values_per_s']:>9.1f}{row['ratio_to_numpy']:>8.3f}"
            f"{memory:>9}{rmse:>8}"
        )
    if options.json is not None:
        figures = {"values": options.values, "optimised_s": round(optimised_s, 2), "noise": rows}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _measure(name: str, plan: Factorisation, values: int) -> dict[str, Any]:
    """Time rounds of one strategy; the first, which also touches fresh memory, is not counted."""
    generator = np.random.default_rng()
    state = _Run(
        init(factorisation=plan, dimension=values, key=GaussianNoise.from_system().new_key())
    )
    ours, peer = _in_turns(state.round, lambda: generator.standard_normal(values))
    del state
    tracemalloc.start()
    state = _Run(
        init(factorisation=plan, dimension=values, key=GaussianNoise.from_system().new_key())
    )
    for _ in range(3):
        state.round()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return _row(name, values / ours, values / peer) | {
        "memory_in_sums": round(peak / (8 * values), 3),
        "memory_bytes_per_value": round(peak / values, 2),
        "prefix_rmse": round(plan.prefix_rmse(), 4),
    }


def _measure_discrete(mechanism: Mechanism) -> dict[str, Any]:
    generator = np.random.default_rng()
    ours, peer = _in_turns(
        lambda: mechanism.noise_steps(dimension=DISCRETE_VALUES, sensitivity=STEPS),
        lambda: generator.standard_normal(DISCRETE_VALUES),
    )
    name = mechanism.name.value
    row = _row(name, DISCRETE_VALUES / ours, DISCRETE_VALUES / peer)
    return row | {"memory_in_sums": None, "memory_bytes_per_value": None, "prefix_rmse": None}


class _Run:
    """A run whose rounds are made one after the other."""

    def __init__(self, state: NoiseState) -> None:
        self._state = state

    def round(self) -> None:
        _, self._state = apply(self._state, std_steps=STD_STEPS)


def _row(name: str, ours: float, peer: float) -> dict[str, Any]:
    return {
        "mechanism": name,
        "million_values_per_s": round(ours / 1e6, 3),
        "numpy_million_values_per_s": round(peer / 1e6, 2),
        "ratio_to_numpy": round(ours / peer, 4),
    }


def _in_turns(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Return the median seconds of two calls that take turns, without the first turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 1):
        for which, function in enumerate((first, second)):
            started = time.perf_counter()
            function()
            times[which].append(time.perf_counter() - started)
    return float(np.median(times[0][1:])), float(np.median(times[1][1:]))


if __name__ == "__main__":
    sys.exit(main())
