"""What is fuzzed: bytes in; a clear refusal or a good result, and nothing in between.

A target is made once, with what it needs, and called with any bytes. It returns where the bytes
were taken or refused as promised, and raises otherwise: another exception than the promised one,
or a state that is neither the old nor the new one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from client_sdk import Event, Homebody
from client_sdk.archive import ArchiveRejectedError
from client_sdk.errors import VaultError
from client_sdk.signals.adapters import ga4, segment
from client_sdk.signals.events import EventError
from client_sdk.signals.taxonomy import Taxonomy
from client_sdk.signals.vault import DATABASE_FILE, Record, Vault
from client_sdk.testing import FixedClock, MemoryKeyStore

Target = Callable[[bytes], None]

KEYS: Final = (
    *("event", "timestamp", "product_id", "event_id", "user_id", "properties", "quantity", "price"),
    *("device", "type", "messageId", "batch", "products", "userId", "anonymousId", "name", "query"),
    *(
        "events",
        "params",
        "items",
        "item_id",
        "timestamp_micros",
        "client_id",
        "event_name",
        "value",
    ),
    *(
        "event_params",
        "event_timestamp",
        "key",
        "string_value",
        "discount",
        "step",
        "liked",
        "less",
    ),
)
FIELDS: Final = (*KEYS[:9], "other")
SCALARS: Final[tuple[Any, ...]] = (
    *("purchase", "search", "product_view", "screen", "track", "page", "Order Completed", "poll"),
    *("Product Viewed", "view_item", "add_to_cart", "refund", "preferences", "consent", "device"),
    *("2026-01-01T00:00:00Z", "2026-13-45T00:00:00Z", "\ud800", "\u0000", "", "mug", "x" * 300),
    *(None, True, False, 0, -1, 1, 0.5, 1.8e9, 1.8e15, 1e308, float("inf"), float("nan"), 10**40),
)
"""What the formats are made of; `built` puts them together as the bytes say."""


SEEDS: Final = (
    b'{"event": "purchase", "timestamp": 1800000000.0, "product_id": "mug", "quantity": 2}',
    b'["purchase", 1800000000.0, "id", "mug", 2.0, 3.5, "", "", {"discount": 1.5}]',
    (
        b'{"type": "track", "messageId": "m", "event": "Order Completed", "userId": "u",'
        b' "timestamp": "2026-01-01T00:00:00Z",'
        b' "properties": {"products": [{"product_id": "mug"}]}}'
    ),
    (
        b'{"client_id": "c", "timestamp_micros": 1800000000000000, "events": [{"name": "view_item",'
        b' "params": {"items": [{"item_id": "mug", "price": 3.5}]}}]}'
    ),
    b'[kinds.poll]\nmeaning = "A poll."\n[kinds.poll.properties.answer]\ntype = "text"\n',
    b'{"type": "device"}\n{"type": "event", "event": "screen", "timestamp": 1800000000.0}\n',
    *(bytes((step * at) % 256 for at in range(length)) for step, length in ((37, 15), (101, 120))),
)
"""Where the fuzzer begins."""


def built(data: bytes) -> Any:
    """Make a JSON value of the formats' own words; the same bytes give the same value."""
    left = iter(data)

    def value(depth: int) -> Any:
        choice = next(left, 0)
        if choice % 4 == 0 and depth < 5:
            return {KEYS[next(left, 0) % len(KEYS)]: value(depth + 1) for _ in range(choice // 32)}
        if choice % 4 == 1 and depth < 5:
            return [value(depth + 1) for _ in range(choice // 32)]
        return SCALARS[choice // 2 % len(SCALARS)]

    if len(data) % 2 == 0:
        return value(0)
    # Nearly good: an event, a few of whose fields are something else.
    event = {"event": "purchase", "timestamp": 1.8e9, "product_id": "mug"}
    fields = iter(data)
    for field in fields:
        replaced = next(fields, 0)
        event[FIELDS[field % len(FIELDS)]] = (
            SCALARS[replaced % len(SCALARS)] if field < 192 else value(1)
        )
        if len(event) > 12 or replaced == 255:
            break
    return event


def make_event_target() -> Target:
    """The JSON form of an event: an event that reads back, or `EventError`."""
    taxonomy = Taxonomy()

    def target(data: bytes) -> None:
        value = _json(data)
        try:
            event = Event.from_json(value)
            taxonomy.check(event)
        except EventError:
            return
        assert Event.from_json(event.to_json()) == event
        assert Event.from_row(json.loads(json.dumps(event.to_row()))) == event

    return target


def make_row_target() -> Target:
    """A sealed page's rows: an event, or `ValueError`."""

    def target(data: bytes) -> None:
        value = _json(data)
        if not isinstance(value, list):
            return
        try:
            Event.from_row(value)
        except ValueError:
            return

    return target


def make_adapter_target() -> Target:
    """Other people's payloads: events that are valid, or refusals."""

    def target(data: bytes) -> None:
        value = _json(data)
        for adapter in (segment, ga4):
            try:
                converted = adapter.events_from(value)
            except EventError:
                continue
            for event in converted.events:
                assert isinstance(event, Mapping)

    return target


def make_taxonomy_target() -> Target:
    """A file of custom kinds: a taxonomy, or `ValueError`."""

    def target(data: bytes) -> None:
        try:
            Taxonomy.from_toml(data.decode("utf-8", "replace"))
        except ValueError:
            return

    return target


class ImportTarget:
    """A file to import: taken as a whole, or refused with the store as it was."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_memory()))
        self._file = self._folder / "import.jsonl"
        self._home = Homebody.open(
            self._folder / "home", key_store=MemoryKeyStore(), clock=FixedClock()
        )
        self._home.consent.grant("personalise")
        self._home.track("purchase", item="mug")

    def __call__(self, data: bytes) -> None:
        """Import some bytes, half of the time as a line that was built after a good first one."""
        if len(data) % 2:
            line = {"type": "event", **value} if isinstance(value := built(data), dict) else value
            text = json.dumps({"type": "device"}) + "\n" + json.dumps(line) + "\n"
            self._file.write_text(text, encoding="utf-8")
        else:
            self._file.write_bytes(data)
        before = self._state()
        try:
            imported = self._home.import_from(self._file)
        except ArchiveRejectedError:
            assert self._state() == before
            return
        assert self._state()[0] == before[0] + imported.events

    def close(self) -> None:
        """Remove the store."""
        self._home.close()
        shutil.rmtree(self._folder)

    def _state(self) -> tuple[int, object]:
        return self._home.signals.count, self._home.preferences.current()


class StoreTarget:
    """A store file with some bytes changed: what opens is what was stored, or `VaultError`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_memory()))
        self._keys = MemoryKeyStore()
        self._events = [
            Event(kind="purchase", item_id=f"item-{number}", time_s=float(number))
            for number in range(40)
        ]
        with _closing(Vault.open(self._folder, self._keys)) as vault:
            vault.append(self._events[:30])
            for event in self._events[30:]:
                vault.append([event])
            vault.write(Record(stream="s", key="k", value={"a": 1}))
        self._good = (self._folder / DATABASE_FILE).read_bytes()

    def __call__(self, data: bytes) -> None:
        """Change the bytes that ``data`` names (4 bytes each: where, and to what), and open."""
        damaged = bytearray(self._good)
        for at in range(1, len(data) - 3, 4):
            where = int.from_bytes(data[at : at + 3], "big") % len(damaged)
            damaged[where] = data[at + 3]
        if data and data[0] % 8 == 0:
            del damaged[len(damaged) * data[0] // 256 :]
        for left in self._folder.glob(f"{DATABASE_FILE}*"):
            left.unlink()
        (self._folder / DATABASE_FILE).write_bytes(damaged)
        try:
            with _closing(Vault.open(self._folder, self._keys)) as vault:
                found = [event for _, event in vault.events()]
                records = list(vault.records())
                vault.check()
        except VaultError:
            return
        assert all(event in self._events for event in found)
        assert all(record.value == {"a": 1} for record in records)

    def close(self) -> None:
        """Remove the store."""
        shutil.rmtree(self._folder)


TARGETS: Final[Mapping[str, Callable[[], Target]]] = {
    "event": make_event_target,
    "row": make_row_target,
    "adapter": make_adapter_target,
    "taxonomy": make_taxonomy_target,
    "import": ImportTarget,
    "store": StoreTarget,
}


class _closing:  # noqa: N801 - reads like contextlib.closing
    """Close a vault, also one that can't be closed well any more."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def __enter__(self) -> Vault:
        return self._vault

    def __exit__(self, *_: object) -> None:
        self._vault.close()


def _json(data: bytes) -> Any:
    """Read bytes as JSON; where they are none, build a value from them."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return built(data)


def _memory() -> Path | None:
    """A disk in memory, where there is one: thousands of stores are written."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made inside
    return memory if memory.is_dir() else None
