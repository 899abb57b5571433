"""Fakes of every port, and an aggregator that signs: for the tests of integrators, and ours.

>>> aggregator = FakeAggregator()
>>> releases = FakeReleases(aggregator.release(sample_catalogue()))
>>> releases.active() is None, releases.fetch().manifest.version, releases.active().manifest.version
(True, 1, 1)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from client_sdk.keys import DeviceKey, MemoryKeyStore
from client_sdk.ports import Conditions
from client_sdk.version import SDK_VERSION
from client_sdk.wire import (
    BANDITS_FILE,
    CARD_FILE,
    CATALOGUE_FILE,
    DEFAULT_POLICY,
    GRAPH_FILE,
    POLICY_FILE,
    TABLE_FILE,
    Answer,
    Catalogue,
    ConsentPolicy,
    Item,
    Order,
    ReleaseManifest,
    TaskKind,
    packed_length,
    read_answer,
    read_frame,
    sha256_hex,
)
from client_sdk.wire.bandit import contribution_length
from client_sdk.wire.propensity import parameter_count

__all__ = [
    "FakeAggregator",
    "FakeConditions",
    "FakeConnection",
    "FakeReleases",
    "FixedClock",
    "MemoryKeyStore",
    "MemoryRelease",
    "sample_catalogue",
]

START_S: Final = 1_800_000_000.0


class FixedClock:
    """A clock that stands until it is set.

    >>> clock = FixedClock(10.0)
    >>> clock.advance(5.0)
    >>> clock.now_s()
    15.0
    """

    def __init__(self, now_s: float = START_S) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        """Seconds since 1970 (UTC)."""
        return self._now_s

    def set(self, now_s: float) -> None:
        """Make it another time."""
        self._now_s = now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += seconds


class FakeConditions:
    """A device that is as it is told: at first idle, charging, unmetered and roomy.

    >>> conditions = FakeConditions()
    >>> conditions.set(charging=False)
    >>> conditions.now().charging
    False
    """

    def __init__(self) -> None:
        self._now = Conditions(idle=True, charging=True, unmetered=True, free_bytes=2**30)

    def now(self) -> Conditions:
        """How the device is now."""
        return self._now

    def set(self, **changes: bool | int | None) -> None:
        """Make it otherwise."""
        self._now = replace(self._now, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class MemoryRelease:
    """A release in memory."""

    manifest: ReleaseManifest
    files: Mapping[str, bytes]


class FakeReleases:
    """A source of releases in memory: each `fetch` gives the next one and makes it active.

    Args:
        waiting: What the server will give, in this order.
        active: What is on the device already.
    """

    def __init__(self, *waiting: MemoryRelease, active: MemoryRelease | None = None) -> None:
        self._waiting = list(waiting)
        self._active = active

    def publish(self, release: MemoryRelease) -> None:
        """Let one more release wait."""
        self._waiting.append(release)

    def fetch(self) -> MemoryRelease | None:
        """Return the next release, or None."""
        if not self._waiting:
            return None
        self._active = self._waiting.pop(0)
        return self._active

    def active(self) -> MemoryRelease | None:
        """Return the last release."""
        return self._active


class FakeConnection:
    """A way to an aggregator that asks what it was given.

    Args:
        frames: The messages that wait.

    Attributes:
        answers: What came back, in order.
    """

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = list(frames)
        self.answers: list[bytes] = []

    def exchange(self, answer: Callable[[bytes], bytes], *, timeout_s: float = 0.0) -> int:  # noqa: ARG002 - nothing is late here
        """Answer every message that waits; return how many there were."""
        frames, self._frames = self._frames, []
        self.answers.extend(answer(frame) for frame in frames)
        return len(frames)

    def read(self) -> list[Answer]:
        """The answers, verified against the devices that they name."""
        return [read_answer(read_frame(answer)) for answer in self.answers]


class FakeAggregator:
    """Holds an aggregator's key and makes valid releases and orders.

    >>> from client_sdk.wire import FrameKind, TaskKind
    >>> catalogue = sample_catalogue()
    >>> order = FakeAggregator().order(TaskKind.ITEM_STATISTICS, catalogue, top_items=[0, 2])
    >>> order.dimension
    3
    """

    def __init__(self, seed: bytes | None = None) -> None:
        self.key = DeviceKey.generate() if seed is None else DeviceKey(seed)

    def release(
        self,
        catalogue: Catalogue,
        *,
        version: int = 1,
        policy: ConsentPolicy = DEFAULT_POLICY,
        table: bytes | None = None,
        graph: bytes | None = None,
        bandits: bytes | None = None,
        minimum_sdk_version: str = SDK_VERSION,
    ) -> MemoryRelease:
        """Make a release that names this aggregator, with what is given of model and priors."""
        files = {CATALOGUE_FILE: catalogue.to_bytes(), POLICY_FILE: policy.to_bytes()}
        if table is not None and graph is not None:
            files |= {TABLE_FILE: table, GRAPH_FILE: graph, CARD_FILE: b"{}"}
        if bandits is not None:
            files[BANDITS_FILE] = bandits
        manifest = ReleaseManifest(
            version=version,
            created_at_s=int(START_S),
            minimum_sdk_version=minimum_sdk_version,
            aggregator_key=self.key.public_key_hex,
            files={name: sha256_hex(data) for name, data in files.items()},
            guarantee={},
        )
        return MemoryRelease(manifest=manifest, files=files)

    def order(
        self,
        kind: TaskKind,
        catalogue: Catalogue,
        *,
        top_items: Sequence[int] | None = None,
        payload: bytes = b"",
        parameters: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Order:
        """Make an order that a device with this catalogue obeys.

        Args:
            kind: The task.
            catalogue: The device's.
            top_items: The rows of item statistics; all by default.
            payload: For item training, the factors.
            parameters: For item training.
            changes: Any field of the order, to make one that a device refuses.
        """
        n_items = len(catalogue.items)
        asked = dict(parameters or {})
        dimension = n_items
        if kind is TaskKind.ITEM_STATISTICS:
            rows = list(range(n_items)) if top_items is None else list(top_items)
            asked = {"top_items": len(rows), **asked}
            payload = b"".join(row.to_bytes(4, "little", signed=True) for row in rows)
            dimension = packed_length(len(rows))
        elif kind is TaskKind.ITEM_TRAINING:
            dimension = n_items * int(asked.get("rank", 1))
        elif kind is TaskKind.BANDIT_STATISTICS:
            dimension = contribution_length(
                n_arms=int(asked.get("arms", 1)), n_features=int(asked.get("features", 1))
            )
        elif kind is TaskKind.PROPENSITY_TRAINING:
            dimension = parameter_count(int(asked.get("features", 1)), int(asked.get("hidden", 0)))
        fields: dict[str, Any] = {
            "task_id": secrets.token_hex(16),
            "kind": kind,
            "population": "sample",
            "round": 0,
            "policy_sha256": DEFAULT_POLICY.sha256,
            "catalogue_sha256": catalogue.sha256,
            "dimension": dimension,
            "clip_norm": 1.0,
            "closes_at_s": int(START_S) + 3600,
            "promise": {"epsilon": 2.0, "delta": 1e-6, "adjacency": "add or remove one device"},
            "parameters": asked,
            "payload": payload,
            **changes,
        }
        return Order(**{"payload_sha256": sha256_hex(fields["payload"]), **fields})

    def invite(self, order: Order) -> bytes:
        """Sign as an invitation."""
        return order.to_invitation_bytes(self.key)

    def ask(self, order: Order) -> bytes:
        """Sign as an order."""
        return order.to_bytes(self.key)


def sample_catalogue() -> Catalogue:
    """Eight items in three categories."""
    rows = (
        ("green-tea", "Green tea", "tea", 4.5),
        ("black-tea", "Black tea", "tea", 4.0),
        ("teapot", "Cast-iron teapot", "kitchen", 39.0),
        ("mug", "Blue mug", "kitchen", 9.0),
        ("honey", "Forest honey", "pantry", 7.5),
        ("oats", "Rolled oats", "pantry", 2.5),
        ("kettle", "Gooseneck kettle", "kitchen", 59.0),
        ("mint-tea", "Mint tea", "tea", 4.2),
    )
    return Catalogue(
        items=tuple(
            Item(item_id=item_id, name=name, category=category, price=price)
            for item_id, name, category, price in rows
        )
    )
