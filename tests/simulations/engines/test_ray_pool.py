"""Ray workers: the same bits as no Ray, also when one is killed; and what a wrong address says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sdk.wire import DEFAULT_POLICY, Order, TaskKind, sha256_hex
from client_sdk.wire.table import RankerSettings
from simulations.engines.columns import HistoryColumns
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.packed_holdings import MappedFileError
from simulations.engines.pool import ShardSum, Threads
from simulations.engines.ray_pool import (
    RayAddress,
    RayMissingError,
    RayPool,
    RayUnreachableError,
    WorkersDifferError,
    WorkersLostError,
    pool_of,
    ray_pool,
)

PEOPLE, ITEMS, RANK, NOW_S = 300, 90, 8, 1_000_000.0
ROOT = Path(__file__).resolve().parents[3]
EVERYONE = np.arange(PEOPLE, dtype=np.int64)
needs_ray = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("ray") is None,
    reason="Ray is not installed: pip install 'homebody[ray]'",
)


def columns(seed: int = 4) -> HistoryColumns:
    """Some people's histories; the first has none."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 20, PEOPLE)
    lengths[0] = 0
    items = [np.sort(rng.choice(ITEMS, each, replace=False)) for each in lengths]
    total = int(lengths.sum())
    return HistoryColumns(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.concatenate(items).astype(np.int32),
        counts=rng.integers(1, 5, total).astype(np.float32),
        last_time_s=rng.uniform(0, NOW_S, total),
        now_s=NOW_S,
    )


def holdings_of(histories: HistoryColumns) -> Holdings:
    """Hold these histories beside a small release."""
    release = ActiveRelease(
        catalogue_sha256="1" * 64,
        policy_sha256=DEFAULT_POLICY.sha256,
        n_items=ITEMS,
        settings=RankerSettings(form="ridge", ridge=0.7),
        rank=RANK,
    )
    return Holdings(release=release, histories=histories)


def order_of(kind: TaskKind) -> Order:
    """Ask for counts or for item training."""
    payload, parameters, dimension = b"", {}, ITEMS
    if kind is TaskKind.ITEM_TRAINING:
        table = np.random.default_rng(1).standard_normal((ITEMS, RANK)).astype("<f4")
        payload, dimension = table.tobytes(), ITEMS * RANK
        parameters = {
            "rank": RANK, "learning_rate": 0.3, "steps": 2, "negatives": 4, "ridge": 0.7, "seed": 5
        }  # fmt: skip
    return Order(
        task_id="2" * 32,
        kind=kind,
        population="people",
        round=0,
        policy_sha256=DEFAULT_POLICY.sha256,
        catalogue_sha256="1" * 64,
        dimension=dimension,
        clip_norm=0.05,
        closes_at_s=int(NOW_S) + 600,
        promise={},
        parameters=parameters,
        payload_sha256=sha256_hex(payload),
        payload=payload,
    )


TRAINING = order_of(TaskKind.ITEM_TRAINING)


def same(ours: ShardSum, theirs: ShardSum) -> None:
    """Fail where a bit differs."""
    assert np.count_nonzero(theirs.steps) > 0
    np.testing.assert_array_equal(ours.steps, theirs.steps)
    np.testing.assert_array_equal(ours.outcome, theirs.outcome)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayPool]:
    """Two workers on this machine, for all tests: starting them takes seconds."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'homebody[ray]'")
    with ray_pool(RayAddress.parse("local:2")) as pool:
        yield pool


@pytest.mark.parametrize("kind", [TaskKind.ITEM_TRAINING, TaskKind.ITEM_COUNTS])
def test_ray_pool_any_workers_same_bits_as_none(cluster: RayPool, kind: TaskKind) -> None:
    """One, two or five shards on Ray are the threads' sum, and the outcome is in people's order."""
    holdings, order, people = holdings_of(columns()), order_of(kind), EVERYONE[::-1].copy()
    expected = Threads().add_up(order, holdings, people)
    assert len(set(expected.outcome.tolist())) == 2
    for workers in (1, 2, 5):
        pool = replace(cluster, workers=workers, block=37)
        same(pool.add_up(order, holdings, people), expected)


def test_ray_pool_holdings_sent_once_and_again_when_they_change(cluster: RayPool) -> None:
    """Rounds share one copy in Ray's store; other holdings replace it."""
    pool, first, second = (
        replace(cluster, _sent=[]),
        holdings_of(columns()),
        holdings_of(columns(9)),
    )
    references = []
    for holdings in (first, first, second):
        same(
            pool.add_up(TRAINING, holdings, EVERYONE),
            Threads().add_up(TRAINING, holdings, EVERYONE),
        )
        references.append(pool._sent[0][1])
    assert references[0] == references[1] != references[2]


def mapped(folder: Path, histories: HistoryColumns) -> HistoryColumns:
    """Write columns to files, and map them."""
    found: dict[str, Any] = {}
    for name in ("offsets", "items", "counts", "last_time_s"):
        values = getattr(histories, name)
        values.tofile(folder / name)
        found[name] = np.memmap(folder / name, values.dtype, "r", shape=values.shape)
    return replace(histories, **found)


def test_ray_pool_memory_maps_travel_as_paths(cluster: RayPool, tmp_path: Path) -> None:
    """Mapped columns send no bytes of theirs on this machine; a file that changed is refused."""
    holdings = holdings_of(mapped(tmp_path, columns()))
    pool = replace(cluster, _sent=[])
    same(pool.add_up(TRAINING, holdings, EVERYONE), Threads().add_up(TRAINING, holdings, EVERYONE))
    packed = cluster.ray.get(pool._sent[0][1])
    assert sum(each.nbytes for each in packed.arrays) == 0
    elsewhere = replace(cluster, same_machine=False, _sent=[])
    same(
        elsewhere.add_up(TRAINING, holdings, EVERYONE),
        Threads().add_up(TRAINING, holdings, EVERYONE),
    )
    packed = cluster.ray.get(elsewhere._sent[0][1])
    assert sum(each.nbytes for each in packed.arrays) > holdings.histories.items.nbytes
    os.utime(tmp_path / "items", ns=(1, 1))
    with pytest.raises(MappedFileError, match="items changed"):
        pool.add_up(TRAINING, holdings, EVERYONE)


def test_ray_pool_slice_of_a_map_travels_by_value(cluster: RayPool, tmp_path: Path) -> None:
    """A slice of a map says that it begins where its parent does; it is not taken at its word."""
    whole, histories = tmp_path / "whole", columns()
    np.concatenate([np.zeros(11, np.int32), histories.items]).tofile(whole)
    cut = np.memmap(whole, np.int32, "r")[11:]
    ours = holdings_of(replace(histories, items=cut))
    same(
        replace(cluster, _sent=[]).add_up(TRAINING, ours, EVERYONE),
        Threads().add_up(TRAINING, holdings_of(histories), EVERYONE),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class WaitingOnce(HistoryColumns):
    """Histories that the first worker to read them can't get at until it is killed.

    Attributes:
        note: Where that worker writes its process id.
        always: Every worker, not the first alone.
    """

    note: str = ""
    always: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Be read by `read_or_wait`."""
        return read_or_wait, (columns(), self.note, self.always)


def read_or_wait(histories: HistoryColumns, note: str, always: bool) -> HistoryColumns:
    """On a worker: give the histories, but for the first one, who waits for its end."""
    try:
        with Path(note).open("xb", buffering=0) as file:
            file.write(b"%d\n" % os.getpid())
    except FileExistsError:
        if not always:
            return histories
    if always:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
    raise AssertionError("nobody killed this worker")


def as_made(histories: HistoryColumns) -> dict[str, Any]:
    """Give what columns were made from."""
    return {each.name: getattr(histories, each.name) for each in fields(histories) if each.init}


def test_ray_pool_killed_worker_shard_computed_again(cluster: RayPool, tmp_path: Path) -> None:
    """A worker is killed while it works: its shard is done again, nobody is counted twice."""
    note = tmp_path / "pid"
    histories = columns()
    waiting = WaitingOnce(**as_made(histories), note=str(note))
    pool, found = replace(cluster, _sent=[]), list[ShardSum]()

    def work() -> None:
        found.append(pool.add_up(TRAINING, holdings_of(waiting), EVERYONE))

    adding = threading.Thread(target=work)
    adding.start()
    deadline = time.monotonic() + 60
    while not (note.exists() and note.read_bytes().endswith(b"\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(int(note.read_bytes()), signal.SIGKILL)
    adding.join(60)
    same(found[0], Threads().add_up(TRAINING, holdings_of(histories), EVERYONE))


def test_ray_pool_workers_that_always_die_one_clear_error(cluster: RayPool, tmp_path: Path) -> None:
    """A shard that kills each of its workers fails the round, and the pool still works."""
    waiting = WaitingOnce(**as_made(columns()), note=str(tmp_path / "pid"), always=True)
    pool = replace(cluster, _sent=[], retries=0, workers=1)
    with pytest.raises(WorkersLostError, match="nothing was added"):
        pool.add_up(TRAINING, holdings_of(waiting), EVERYONE)
    holdings = holdings_of(columns())
    same(pool.add_up(TRAINING, holdings, EVERYONE), Threads().add_up(TRAINING, holdings, EVERYONE))


CHILD = """
import sys
import numpy as np
from simulations.engines.ray_pool import RayPoolError, pool_of
from tests.simulations.engines.test_ray_pool import EVERYONE, TRAINING, columns, holdings_of

try:
    with pool_of(sys.argv[1]) as pool:
        added = pool.add_up(TRAINING, holdings_of(columns()), EVERYONE)
except RayPoolError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(pool.workers, added.steps.tobytes().hex())
"""


def test_ray_pool_by_address_joins_the_running_cluster(cluster: RayPool) -> None:
    """Another process finds the cluster by its address, uses all of it, and gets the same bits."""
    address = cluster.ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", CHILD, address],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    workers, steps = done.stdout.split()
    expected = Threads().add_up(TRAINING, holdings_of(columns()), EVERYONE).steps
    assert (int(workers), bytes.fromhex(steps)) == (2, expected.tobytes())
    with pytest.raises(RayUnreachableError, match="in a Ray cluster already"), pool_of(address):
        pass


@needs_ray
def test_pool_of_address_where_nobody_listens_refused_at_once() -> None:
    """A closed port is one clear error within seconds, in a process of its own."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, f"127.0.0.1:{port}"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert time.monotonic() - started < 45
    assert done.returncode == 1
    assert done.stderr.startswith(f"RayUnreachableError: no Ray cluster on 127.0.0.1:{port}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "nonsense", "local:", "local:0", "local:-1", "local:x", "local:²", "local:9999",
        "local:" + "9" * 50, "host", "host:", "host:0", "host:99999", "http://host:80", "ho st:80",
        "ray://", "ray://host:80", "host:80/path", "\x00", "LOCAL",
    ],
)  # fmt: skip
def test_pool_of_nonsense_refused_before_anything_starts(text: str) -> None:
    """What is no address is a ValueError that quotes it; Ray is not even imported."""
    with pytest.raises(ValueError, match=r"local:N") as caught:
        pool_of(text)
    assert repr(text) in str(caught.value)


def test_pool_of_none_threads() -> None:
    """Without --ray there are threads; no worker at all is refused."""
    with pool_of(None, workers=3) as pool:
        assert pool == Threads(workers=3)
    with pytest.raises(ValueError, match="at least 1"):
        pool_of(None, workers=0)


def test_pool_of_without_ray_installed_says_what_to_install(tmp_path: Path) -> None:
    """Where the import fails the message names the extra."""
    (tmp_path / "ray.py").write_text("raise ImportError('no ray here')\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{CHILD}"
    done = subprocess.run(
        [sys.executable, "-c", program, "local:1"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().startswith(RayMissingError.__name__)
    assert "pip install 'homebody[ray]'" in done.stderr


def test_ray_pool_worker_with_other_code_adds_nothing(cluster: RayPool) -> None:
    """An answer of other code than this process' is refused."""
    pool = replace(cluster, code="0" * 64, _sent=[])
    with pytest.raises(WorkersDifferError, match="same on every machine"):
        pool.add_up(TRAINING, holdings_of(columns()), EVERYONE)
