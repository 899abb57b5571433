"""Flower's simulation as a peer: ``python -m benchmarks.simulation.flower_peer``.

A `ServerApp` and a `ClientApp` through `run_simulation` and its Ray backend, as Flower's own
tutorials have them, with one processor, so that one client is computed at a time. Favourable to it:
as many virtual nodes as a cohort has (the message names the person), the update by hand
(`benchmarks.simulation.by_hand`), touched rows alone sent back, which was faster than whole tables,
and nothing of the start of Ray is counted: the first round is not timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    RecordDict,
)
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from benchmarks.simulation.flower_client import client_app, workload_of


def server_app(file: Path, *, rounds: int, out: dict[str, Any]) -> ServerApp:
    """Make the server: rounds of push, pull, sum, noise and FedAvgM.

    Args:
        file: The workload.
        rounds: How many.
        out: Gets ``seconds`` of each round and the ``sum`` of the first one.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        workload = workload_of(str(file))
        asked = workload.settings
        factors = workload.factors.copy()
        velocity = np.zeros_like(factors)
        rng = np.random.default_rng()
        nodes = _nodes(grid, asked.cohort)
        out["seconds"] = []
        for number in range(rounds):
            started = time.perf_counter()
            total = _ask(grid, nodes, file, number, factors)
            if number == 0:
                out["sum"] = total.copy()
            total += (asked.noise_multiplier * asked.clip_norm) * rng.standard_normal(
                total.shape, np.float32
            )
            velocity = np.float32(asked.momentum) * velocity + total / np.float32(asked.cohort)
            factors += np.float32(asked.server_learning_rate) * velocity
            out["seconds"].append(time.perf_counter() - started)

    return app


def _nodes(grid: Grid, wanted: int) -> list[int]:
    """Wait until all virtual nodes are there."""
    for _ in range(600):
        nodes = list(grid.get_node_ids())
        if len(nodes) >= wanted:
            return nodes[:wanted]
        time.sleep(0.1)
    raise SystemExit(f"only {len(nodes)} of {wanted} virtual nodes came up in a minute")


def _ask(
    grid: Grid, nodes: list[int], file: Path, number: int, factors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Send everyone of the round's cohort the table, and add up what comes back."""
    workload = workload_of(str(file))
    table = ArrayRecord({"factors": Array(factors)})
    messages = [
        Message(
            RecordDict(
                {
                    "table": table,
                    "asked": ConfigRecord(
                        {"workload": str(file), "round": number, "person": int(person)}
                    ),
                }
            ),
            node,
            MessageType.TRAIN,
        )
        for node, person in zip(nodes, workload.cohorts[number], strict=True)
    ]
    total = np.zeros(factors.shape, np.float32)
    answered = 0
    for reply in grid.send_and_receive(messages):
        if reply.has_error():
            raise SystemExit(f"a client of Flower's failed: {reply.error}")
        change: Any = reply.content["change"]
        total[change["touched"].numpy()] += change["rows"].numpy()
        answered += 1
    if answered != len(messages):
        raise SystemExit(f"{answered} of {len(messages)} clients of Flower's answered")
    return total


def main() -> int:
    """Run the first rounds of the workload; time all but the first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation.flower_peer")
    parser.add_argument("--workload", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True, help="timed, after one that is not")
    parser.add_argument("--sum", type=Path, help="write the first round's sum, without noise")
    options = parser.parse_args()
    # `run_simulation` is deprecated in favour of `flwr run`, which starts the same engine.
    warnings.simplefilter("ignore", DeprecationWarning)
    from flwr.simulation import run_simulation

    file, out = options.workload.resolve(), dict[str, Any]()
    run_simulation(
        server_app=server_app(file, rounds=1 + options.rounds, out=out),
        client_app=client_app(),
        num_supernodes=workload_of(str(file)).settings.cohort,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": 1, "include_dashboard": False},
        },
    )
    if len(out.get("seconds", [])) != 1 + options.rounds:
        raise SystemExit("Flower's simulation ended before its last round; see its output above")
    if options.sum is not None:
        np.save(options.sum, out["sum"].astype(np.float64))
    found = {
        "seconds": out["seconds"][1:],
        "versions": {name: version(name) for name in ("flwr", "ray", "numpy")},
    }
    print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
