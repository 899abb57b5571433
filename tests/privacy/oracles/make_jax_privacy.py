"""Write jax_privacy.json: jax-privacy's strategies, sensitivities and errors for our tests.

    python -m venv /tmp/jax && /tmp/jax/bin/pip install jax-privacy==2.0.0
    /tmp/jax/bin/python tests/privacy/oracles/make_jax_privacy.py

Takes some minutes on a CPU. jax-privacy is no dependency of ours, not even for tests: what it says
is kept beside this file, and this file says how it was made. Nothing of ours is imported here.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from jax_privacy.matrix_factorization import (  # noqa: E402
    buffered_toeplitz,
    sensitivity,
    toeplitz,
)

RUNS = [(500, 50, 10), (500, 100, 5), (2000, 200, 5), (1000, 20, 10)]
# Strategies whose numbers are not optima of anything: they test the formulae alone.
FIXED = [
    ((0.9, 0.3), (0.3, 0.2), 60, 7, 4),
    ((0.99, 0.5), (0.1, 0.6), 200, 1, 200),
    ((0.96370, 0.34897), (0.34366, 0.17547), 500, 50, 10),
    ((0.999, 0.9, 0.2), (0.01, 0.2, 0.4), 1000, 30, 5),
]


def node_matrix(rounds: int) -> np.ndarray:
    """Return one row for each complete dyadic node of a tree over ``rounds`` leaves."""
    rows = []
    width = 1
    while width <= rounds:
        for start in range(0, rounds - width + 1, width):
            row = np.zeros(rounds)
            row[start : start + width] = 1.0
            rows.append(row)
        width *= 2
    return np.array(rows)


def judge(column: Any, n: int, b: int, k: int) -> dict[str, float]:
    """Return sensitivity and mean prefix error of one Toeplitz strategy."""
    squared = toeplitz.minsep_sensitivity_squared(column, min_sep=b, max_participations=k, n=n)
    error = toeplitz.per_query_error(strategy_coef=column, n=n).mean()
    return {
        "sensitivity": float(squared) ** 0.5,
        "mean_error": float(error),
        "rmse": float(squared * error) ** 0.5,
    }


def main() -> int:
    """Write the file."""
    runs = []
    for n, b, k in RUNS:
        blt = buffered_toeplitz.optimize(
            n=n, min_sep=b, max_participations=k, error="mean", min_buffers=2, max_buffers=2
        )
        bands = toeplitz.optimize_banded_toeplitz(n=n, bands=b)
        nodes = node_matrix(n)
        runs.append(
            {
                "rounds": n,
                "min_separation": b,
                "max_participations": k,
                "blt": {
                    "decays": np.asarray(blt.buf_decay).tolist(),
                    "weights": np.asarray(blt.output_scale).tolist(),
                    **judge(blt.toeplitz_coefs(n), n, b, k),
                },
                "banded": {
                    "first_coefficients": (np.asarray(bands) / float(bands[0]))[:5].tolist(),
                    **judge(bands / bands[0], n, b, k),
                },
                "tree": {
                    # An upper bound; ours is the maximum itself.
                    "sensitivity_upper_bound": float(
                        sensitivity.get_min_sep_sensitivity_upper_bound_for_X(
                            nodes.T @ nodes, min_sep=b, max_participations=k
                        )
                    )
                },
            }
        )
        print(json.dumps(runs[-1])[:200], flush=True)
    fixed = []
    for decays, weights, n, b, k in FIXED:
        blt = buffered_toeplitz.BufferedToeplitz.build(buf_decay=decays, output_scale=weights)
        fixed.append(
            {
                "decays": decays,
                "weights": weights,
                "rounds": n,
                "min_separation": b,
                "max_participations": k,
                **judge(blt.toeplitz_coefs(n), n, b, k),
                "inverse_column": np.asarray(toeplitz.inverse_coef(blt.toeplitz_coefs(n)))[
                    :8
                ].tolist(),
            }
        )
    made = {
        "made_by": "tests/privacy/oracles/make_jax_privacy.py",
        "jax_privacy": importlib.metadata.version("jax-privacy"),
        "jax": importlib.metadata.version("jax"),
        "runs": runs,
        "fixed": fixed,
    }
    path = Path(__file__).with_name("jax_privacy.json")
    path.write_text(json.dumps(made, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
