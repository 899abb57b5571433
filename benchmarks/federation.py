"""How fast a round is, what it needs in memory, and what a device uploads.

    python -m benchmarks.federation [--people 1000] [--superlink 16] [--json FILE]

The named peer is Flower's own FedAvg on the same in-process grid, in the same run, with vectors of
the same dimension. It does less: no consent, no signature, no clipping, no budget. Each row says
how much of the time the devices took (they run in the same process), so that what is left is the
server's half.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import flwr
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from aggregator.consents import ConsentRegistry
from aggregator.in_process import Device, InProcessGrid
from aggregator.strategy import BoundedSumStrategy, TaskPlan
from client_sdk.federation.flower_device import SuperLinkConnection, handle_message
from client_sdk.wire import Order, SparseVector, TaskKind, pack_outer_product, sha256_hex
from privacy.events import ReleaseEvent
from privacy.noise import GaussianNoise
from simulations.scripted import ScriptedDevice, SoftwareKey

TOP_ITEMS = 500
HISTORY = 73
MEMORY_PEOPLE = 200


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    people: int
    dimension: int
    seconds: float
    people_per_s: float
    people_per_cpu_s: float | None = None
    device_share: float | None = None
    peak_mib: float | None = None


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What one device sends for one contribution."""

    history_items: int
    dimension: int
    entries: int
    frame_bytes: int
    dense_bytes: int


class OpenLedger:
    """A ledger that admits everything: the benchmark of the real one is elsewhere."""

    def reserve(self, event: ReleaseEvent) -> str:
        """Admit."""
        return event.task_id

    def commit(self, reservation: str, accepted: int) -> None:
        """Note nothing."""

    def void(self, reservation: str, reason: str) -> None:
        """Note nothing."""


class Stopwatch:
    """Adds up how long the devices' own half takes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, device: Device) -> Device:
        """Time a device."""

        def timed(message: Message) -> Message | None:
            started = time.perf_counter()
            reply = device(message)
            self.seconds += time.perf_counter() - started
            return reply

        return timed


def statistics_vector(rng: np.random.Generator, *, history: int, top: int) -> SparseVector:
    """Make a unit-norm history's packed outer product, as the item statistics task sends it."""
    positions = np.sort(rng.choice(top, size=history, replace=False)).astype(np.int32)
    values = np.full(history, 1.0 / np.sqrt(history), dtype=np.float32)
    return pack_outer_product(positions=positions, values=values, size=top)


def make_plan(dimension: int, *, open_s: int = 3600, **options: Any) -> TaskPlan:
    """Plan one release with noise from the operating system."""
    order = Order(
        task_id=os.urandom(16).hex(),
        kind=TaskKind.ITEM_STATISTICS,
        population="benchmark",
        round=0,
        policy_sha256="0" * 64,
        catalogue_sha256="0" * 64,
        dimension=dimension,
        clip_norm=1.0,
        closes_at_s=int(time.time()) + open_s,
        promise={},
        parameters={},
        payload_sha256=sha256_hex(b""),
    )
    event = ReleaseEvent(
        kind=order.kind,
        task_id=order.task_id,
        population=order.population,
        noise_multiplier=1.0,
        clip_norm=order.clip_norm,
        dimension=dimension,
        report_goal=1,
    )
    return TaskPlan(
        order=order, event=event, noise=GaussianNoise.from_system(), quorum=1, **options
    )


def make_devices(people: int, vector: SparseVector) -> dict[int, ScriptedDevice]:
    """Make devices that share a vector, each with a key of its own."""
    consented_at_s = int(time.time()) - 10
    return {
        number: ScriptedDevice(vector=vector, consented_at_s=consented_at_s)
        for number in range(1000, 1000 + people)
    }


def run_bounded_sum(people: int, vector: SparseVector, folder: Path) -> tuple[float, float]:
    """Run our strategy; return seconds and the devices' part of them."""
    devices, watch = make_devices(people, vector), Stopwatch()

    def as_device(device: ScriptedDevice) -> Device:
        return watch.around(lambda message: handle_message(device.answer, message))

    grid = InProcessGrid({node_id: as_device(each) for node_id, each in devices.items()})
    with ConsentRegistry(f"sqlite:///{folder / f'consents-{os.urandom(4).hex()}.db'}") as consents:
        result = BoundedSumStrategy(
            signer=SoftwareKey(),
            ledger=OpenLedger(),
            consents=consents,
            directory={node_id: each.public_key_hex for node_id, each in devices.items()},
        ).start(grid, make_plan(vector.dimension))
    if result.accepted != people:
        raise RuntimeError(f"{result.accepted} of {people} were added")
    return result.seconds, watch.seconds


def run_fedavg(people: int, vector: SparseVector) -> tuple[float, float]:
    """Run Flower's FedAvg for one round of training; return the same two numbers."""
    dense, watch = vector.to_dense(), Stopwatch()

    def device(message: Message) -> Message:
        content = RecordDict(
            {"arrays": ArrayRecord([dense.copy()]), "metrics": MetricRecord({"num-examples": 1})}
        )
        return Message(content, reply_to=message)

    grid = InProcessGrid(dict.fromkeys(range(1000, 1000 + people), watch.around(device)))
    started = time.perf_counter()
    FedAvg(fraction_evaluate=0.0).start(
        grid, ArrayRecord([np.zeros(1, dtype=np.float32)]), num_rounds=1
    )
    return time.perf_counter() - started, watch.seconds


def peak_mib(run: Callable[[], object]) -> float:
    """Run once more under tracemalloc and return the peak of what Python allocated."""
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def measure(
    what: str, people: int, dimension: int, run: Callable[[int], tuple[float, float]]
) -> Row:
    """Warm up, time a run, and take the memory of a smaller one."""
    run(10)
    before_s = time.process_time()
    seconds, device_s = run(people)
    cpu_s = time.process_time() - before_s
    peak = peak_mib(lambda: run(MEMORY_PEOPLE))
    return Row(
        what=what,
        people=people,
        dimension=dimension,
        seconds=seconds,
        people_per_s=people / seconds,
        people_per_cpu_s=people / cpu_s,
        device_share=device_s / seconds,
        peak_mib=peak,
    )


def measure_superlink(people: int, vector: SparseVector, folder: Path) -> Row:
    """Run one task over a real SuperLink behind the gate."""
    from aggregator.superlink.round import RoundDevice, run_superlink_round

    devices = make_devices(people, vector)
    with ConsentRegistry(f"sqlite:///{folder / 'consents-superlink.db'}") as consents:
        result = run_superlink_round(
            make_plan(vector.dimension, open_s=540),
            [
                RoundDevice(
                    name=str(node_id), public_key_hex=each.public_key_hex, answer=each.answer
                )
                for node_id, each in devices.items()
            ],
            connector=SuperLinkConnection,
            signer=SoftwareKey(),
            ledger=OpenLedger(),
            consents=consents,
            directory=folder / "superlink",
        )
    return Row(
        what=f"SuperLink, TLS, gate, {result.accepted} added",
        people=people,
        dimension=vector.dimension,
        seconds=result.seconds,
        people_per_s=result.accepted / result.seconds,
    )


def measure_uploads(rng: np.random.Generator) -> list[Upload]:
    """Count the bytes of contributions of several lengths of history."""
    uploads = []
    for history in (10, 20, HISTORY, 200):
        vector = statistics_vector(rng, history=history, top=TOP_ITEMS)
        (device,) = make_devices(1, vector).values()
        frame = device.answer(make_plan(vector.dimension).order.to_bytes(SoftwareKey()))
        uploads.append(
            Upload(
                history_items=history,
                dimension=vector.dimension,
                entries=int(vector.indices.size),
                frame_bytes=len(frame or b""),
                dense_bytes=4 * vector.dimension,
            )
        )
    return uploads


def print_rows(rows: list[Row]) -> None:
    """Print the table of rounds."""
    print(
        f"{'round':<40} {'people':>7} {'dim':>8} {'s':>8} {'people/s':>9} {'/CPU s':>8} "
        f"{'devices':>8} {'MiB':>6}"
    )
    for row in rows:
        print(
            f"{row.what:<40} {row.people:>7,} {row.dimension:>8,} {row.seconds:>8.2f} "
            f"{row.people_per_s:>9.1f} {_shown(row.people_per_cpu_s, '.1f'):>8} "
            f"{_shown(row.device_share, '.0%'):>8} {_shown(row.peak_mib, '.0f'):>6}"
        )
    print("/CPU s: people for each second of processor time, which other programs stretch less")
    print("devices: their share of the time; they run in the same process")
    print(f"MiB: peak of a separate run with {MEMORY_PEOPLE} people")


def _shown(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def print_uploads(uploads: list[Upload]) -> None:
    """Print the table of uploads."""
    print(f"\n{'history':>8} {'entries':>8} {'frame bytes':>12} {'dense bytes':>12} {'ratio':>6}")
    for each in uploads:
        print(
            f"{each.history_items:>8} {each.entries:>8,} {each.frame_bytes:>12,} "
            f"{each.dense_bytes:>12,} {each.dense_bytes / each.frame_bytes:>5.1f}x"
        )


def machine() -> Mapping[str, Any]:
    """Say where the numbers come from."""
    return {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "flwr": flwr.__version__,
        "numpy": np.__version__,
    }


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--people", type=int, default=1000, help="devices in process")
    parser.add_argument(
        "--superlink", type=int, default=16, help="devices over a SuperLink; 0: none"
    )
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    given = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.WARNING)
    rng = np.random.default_rng(0)
    sparse = statistics_vector(rng, history=HISTORY, top=TOP_ITEMS)
    dense = SparseVector.from_dense(rng.normal(size=sparse.dimension).astype(np.float32))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            measure(
                "bounded sum, sparse, in process",
                given.people,
                sparse.dimension,
                lambda people: run_bounded_sum(people, sparse, folder),
            ),
            measure(
                "bounded sum, dense, in process",
                given.people,
                dense.dimension,
                lambda people: run_bounded_sum(people, dense, folder),
            ),
            measure(
                "Flower FedAvg, dense, in process",
                given.people,
                dense.dimension,
                lambda people: run_fedavg(people, dense),
            ),
        ]
        if given.superlink:
            rows.append(measure_superlink(given.superlink, sparse, folder))
    uploads = measure_uploads(rng)
    print_rows(rows)
    print_uploads(uploads)
    if given.json is not None:
        numbers = {
            "machine": machine(),
            "rounds": [asdict(row) for row in rows],
            "uploads": [asdict(each) for each in uploads],
        }
        given.json.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
