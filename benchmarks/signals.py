"""What it costs to keep what a person does: beside plain SQLite inserts, on 100,000 real events.

    python -m benchmarks.signals [--json FILE] [--folder DIR]

The events are purchases of the bundled Online Retail sample, in the order of their time, as if one
person had made them all. Ours: `Homebody.track_many` and `Homebody.track` on a store on disk:
validated, deduplicated by event id, encrypted, and folded into the history and every feature. The
peer: ``executemany`` (or ``execute`` and a commit for each event) of the same columns into one
SQLite table with the event id as its key, with the same journal and the same batches; no check, no
encryption, no feature. Both in turns, in one process, on one disk.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from client_sdk import Event, Homebody
from client_sdk.signals.signals import SNAPSHOT_EVERY
from client_sdk.testing import FixedClock, MemoryKeyStore
from client_sdk.wire import Catalogue
from simulations.data.bundled import load_bundled
from simulations.data.interactions import EVENT_KINDS

EVENTS: Final = 100_000
BATCHES: Final = (10_000, 1_000, 100)
SINGLES: Final = 5_000
REPETITIONS: Final = 3
OPENINGS: Final = 9
READS: Final = 200
DAY_S: Final = 86_400.0
_TABLE: Final = (
    "CREATE TABLE events (event_id TEXT PRIMARY KEY, kind TEXT, time_s REAL, item_id TEXT,"
    " quantity REAL, price REAL)"
)
_INSERT: Final = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?)"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the disk to measure on")
    options = parser.parse_args(argv)
    events, catalogue = real_events(EVENTS)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bench = _Bench(Path(folder), events, catalogue)
        result = {
            "events": len(events),
            "ingest": [bench.ingest(batch) for batch in BATCHES],
            "track": bench.track(),
            "store": bench.store(),
        }
    _print(result)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def real_events(count: int) -> tuple[list[Event], Catalogue]:
    """Give the first events of the bundled sample by time, and its catalogue."""
    loaded = load_bundled()
    rows = loaded.interactions
    order = np.argsort(rows.times_s, kind="stable")[:count]
    ids = [item.item_id for item in loaded.catalogue.items]
    events = [
        Event(
            kind=EVENT_KINDS[rows.kinds[row]],
            time_s=float(rows.times_s[row]),
            item_id=ids[rows.items[row]],
            quantity=float(rows.quantities[row]) or None,
            price=None if np.isnan(rows.prices[row]) else float(rows.prices[row]),
        )
        for row in order
    ]
    return events, loaded.catalogue


class _Bench:
    """Stores and peers under one folder."""

    def __init__(self, folder: Path, events: list[Event], catalogue: Catalogue) -> None:
        self._folder = folder
        self._events = events
        self._catalogue = catalogue
        self._keys = MemoryKeyStore()
        self._clock = FixedClock(events[-1].time_s + DAY_S)
        self._rows = [
            (e.event_id, str(e.kind), e.time_s, e.item_id, e.quantity, e.price) for e in events
        ]

    def ingest(self, batch: int) -> dict[str, Any]:
        """Time all events in batches, ours and the peer's in turns."""
        ours, peers = [], []
        for repetition in range(REPETITIONS):
            first = repetition % 2 == 0
            for mine in (first, not first):
                (ours if mine else peers).append(
                    self._ours(batch) if mine else self._plain(batch)[0]
                )
        rates = [len(self._events) / seconds for seconds in ours]
        plain = [len(self._events) / seconds for seconds in peers]
        return {
            "batch": batch,
            "ours_per_s": round(statistics.median(rates)),
            "sqlite_per_s": round(statistics.median(plain)),
            "ratio": round(statistics.median(rates) / statistics.median(plain), 3),
            "ratios": [round(mine / peer, 3) for mine, peer in zip(rates, plain, strict=True)],
        }

    def track(self) -> dict[str, Any]:
        """Time single events, each its own transaction, into a store that has the others."""
        last = self._clock.now_s()
        events = [
            dataclasses.replace(event, event_id=f"single-{number}", time_s=last)
            for number, event in enumerate(self._events[:SINGLES])
        ]
        times, reads = [], []
        with self._open("track") as home:
            home.consent.grant("personalise")
            home.track_many(self._events)
            for event in events:
                started = time.perf_counter_ns()
                home.track(
                    event.kind,
                    item=event.item_id,
                    time_s=event.time_s,
                    event_id=event.event_id,
                    quantity=event.quantity,
                    price=event.price,
                )
                times.append((time.perf_counter_ns() - started) / 1000)
            for _ in range(READS):
                started = time.perf_counter_ns()
                home.features()
                reads.append((time.perf_counter_ns() - started) / 1000)
        peer = self._plain_singles(events)
        return {
            "p50_us": round(float(np.percentile(times, 50)), 1),
            "p99_us": round(float(np.percentile(times, 99)), 1),
            "sqlite_p50_us": round(float(np.percentile(peer, 50)), 1),
            "sqlite_p99_us": round(float(np.percentile(peer, 99)), 1),
            "ratio_p50": round(float(np.percentile(times, 50) / np.percentile(peer, 50)), 2),
            "features_read_p50_us": round(float(np.percentile(reads, 50)), 1),
        }

    def store(self) -> dict[str, Any]:
        """Time the opening of a full store, closed well and not, and weigh it."""
        with self._open("store") as home:
            home.consent.grant("personalise")
            home.track_many(self._events[: 1 - SNAPSHOT_EVERY])
            home.track_many(self._events[1 - SNAPSHOT_EVERY :])
            # What a kill leaves at the worst moment: the files of an open store, with as many
            # events after the last snapshot as there can be.
            shutil.copytree(self._folder / "store", self._folder / "killed")
        opened = [_timed_s(lambda: self._open("store").close()) for _ in range(OPENINGS)]
        killed = []
        for number in range(OPENINGS):
            copy = self._folder / f"killed-{number}"
            shutil.copytree(self._folder / "killed", copy)
            killed.append(_timed_s(lambda copy=copy: self._open(copy.name).close()))
        plain_bytes = self._plain(BATCHES[0])[1]
        ours_bytes = _size(self._folder / "store")
        return {
            "open_ms": round(1000 * statistics.median(opened), 1),
            "open_max_ms": round(1000 * max(opened), 1),
            "open_after_kill_ms": round(1000 * statistics.median(killed), 1),
            "bytes_per_event": round(ours_bytes / len(self._events), 1),
            "sqlite_bytes_per_event": round(plain_bytes / len(self._events), 1),
        }

    def _open(self, name: str) -> Homebody:
        return Homebody.open(
            self._folder / name,
            catalogue=self._catalogue,
            key_store=self._keys,
            clock=self._clock,
        )

    def _ours(self, batch: int) -> float:
        with self._open("ingest") as home:
            home.consent.grant("personalise")
            started = time.perf_counter()
            for start in range(0, len(self._events), batch):
                home.track_many(self._events[start : start + batch])
            spent = time.perf_counter() - started
            home.erase()
        return spent

    def _plain(self, batch: int) -> tuple[float, int]:
        connection = self._plain_connection()
        started = time.perf_counter()
        for start in range(0, len(self._rows), batch):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, self._rows[start : start + batch])
            connection.execute("COMMIT")
        spent = time.perf_counter() - started
        return spent, self._drop_plain(connection)

    def _plain_singles(self, events: list[Event]) -> list[float]:
        connection = self._plain_connection()
        connection.executemany(_INSERT, self._rows)
        times = []
        for event in events:
            row = (event.event_id, str(event.kind), event.time_s, event.item_id)
            started = time.perf_counter_ns()
            connection.execute(_INSERT, (*row, event.quantity, event.price))
            times.append((time.perf_counter_ns() - started) / 1000)
        self._drop_plain(connection)
        return times

    def _plain_connection(self) -> sqlite3.Connection:
        (self._folder / "plain").mkdir()
        connection = sqlite3.connect(self._folder / "plain" / "plain.db", isolation_level=None)
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(_TABLE)
        return connection

    def _drop_plain(self, connection: sqlite3.Connection) -> int:
        connection.close()
        size = _size(self._folder / "plain")
        shutil.rmtree(self._folder / "plain")
        return size


def _timed_s(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _print(result: dict[str, Any]) -> None:
    print(f"{result['events']:,} real purchases, validated, encrypted, featurised")
    print(f"{'batch':>8}{'events/s':>12}{'SQLite/s':>12}{'ratio':>8}  repetitions")
    for row in result["ingest"]:
        print(
            f"{row['batch']:>8,}{row['ours_per_s']:>12,}{row['sqlite_per_s']:>12,}"
            f"{row['ratio']:>8.2f}  {row['ratios']}"
        )
    track, store = result["track"], result["store"]
    print(
        f"track: p50 {track['p50_us']:.0f} µs, p99 {track['p99_us']:.0f} µs (plain SQLite "
        f"{track['sqlite_p50_us']:.0f} and {track['sqlite_p99_us']:.0f} µs; p50 is "
        f"{track['ratio_p50']:.1f}×); all features read in {track['features_read_p50_us']:.0f} µs"
    )
    print(
        f"open and close: {store['open_ms']:.0f} ms (slowest {store['open_max_ms']:.0f}), after a "
        f"kill {store['open_after_kill_ms']:.0f} ms; {store['bytes_per_event']:.0f} bytes an event "
        f"(plain SQLite {store['sqlite_bytes_per_event']:.0f})"
    )


if __name__ == "__main__":
    sys.exit(main())
