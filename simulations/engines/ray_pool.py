"""A pool of Ray workers: on this machine, or on a cluster.

Rules a reader can check line by line:

1. What a worker returns is what a thread returns (`simulations.engines.pool.add_up_shard`): int64
   steps on the aggregator's lattice. So one worker, many, and none at all give the same bits.
2. A worker that dies takes its shard with it: Ray computes the shard again, from the same order and
   the same people. Nothing of a shard counts before the whole of it has come back, so nobody is
   added twice. After `RETRIES` deaths of one shard the round fails (`WorkersLostError`).
3. A worker with other code than this process' adds nothing: `WorkersDifferError`.
4. Each worker compiles the kernel, or finds it compiled, for its own machine.
5. What devices hold travels once for each holdings, not once a round. On this machine, columns that
   are memory maps travel as their paths, so that a million people are in memory once, as the page
   cache; on a cluster everything travels by value, because its machines may not see these files.
6. A cluster of this machine listens on loopback only, has no dashboard, and reports nothing to
   Ray's makers. It ends with the pool.

Whoever reaches a Ray cluster can run code on it: ``--ray ADDRESS`` is for one's own clusters.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order
from simulations.code_version import code_sha256
from simulations.engines.encoders import AS_FAST, KernelOptions
from simulations.engines.holdings import Holdings
from simulations.engines.packed_holdings import PackedHoldings
from simulations.engines.pool import BLOCK, Pool, ShardSum, Threads, add_up_shard, merged
from simulations.kernel.compiled import load

RETRIES: Final = 3
MOST_WORKERS: Final = 1_024
_LOCAL: Final = "local"
_RUNNING: Final = "auto"
_HOST_AND_PORT: Final = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
_REACH_TIMEOUT_S: Final = 5.0
_FIRST_ANSWER_TIMEOUT_S: Final = 180.0


class RayPoolError(Exception):
    """The Ray pool can't do its work; the message says what to do."""


class RayMissingError(RayPoolError):
    """Ray is not installed."""


class RayUnreachableError(RayPoolError):
    """No cluster answers at the address, or no worker of it."""


class WorkersDifferError(RayPoolError):
    """A worker has other code than this process."""


class WorkersLostError(RayPoolError):
    """Workers died more often than a shard is computed again; nothing was added."""


@dataclass(frozen=True, kw_only=True)
class RayAddress:
    """Where the workers are.

    Attributes:
        address: Of a running cluster; None starts one on this machine.
        workers: How many to start, or shards to make; None for as many as there are processors.
    """

    address: str | None
    workers: int | None = None

    @classmethod
    def parse(cls, text: str) -> RayAddress:
        """Read what stands behind ``--ray``.

        Args:
            text: ``local``, ``local:N``, ``auto`` or ``HOST:PORT``, where the head of the cluster
                listens (this machine has to be one of the cluster's).

        Raises:
            ValueError: anything else.

        >>> RayAddress.parse("local:2")
        RayAddress(address=None, workers=2)
        >>> RayAddress.parse("10.0.0.5:6379").address
        '10.0.0.5:6379'
        """
        name, _, count = text.partition(":")
        if name == _LOCAL:
            if name == text:
                return cls(address=None)
            if count.isascii() and count.isdigit() and 1 <= int(count[:9]) <= MOST_WORKERS:
                return cls(address=None, workers=int(count))
            raise ValueError(f"local:N needs N from 1 to {MOST_WORKERS}; got {text!r}")
        if text == _RUNNING:
            return cls(address=text)
        found = _HOST_AND_PORT.fullmatch(text)
        if found is None or not 1 <= int(found[2]) <= 65_535:
            raise ValueError(f"expected local, local:N, auto or HOST:PORT; got {text!r}")
        return cls(address=text)


def pool_of(
    ray: str | None, *, workers: int = 1, options: KernelOptions = AS_FAST
) -> AbstractContextManager[Pool]:
    """Give the pool that a command line asks for, to be entered.

    Args:
        ray: What stands behind ``--ray``; None for threads of this process.
        workers: Threads, where there is no Ray.
        options: How the kernel computes.

    Raises:
        ValueError: the text is no address, or there is no worker.

    On entering:

    Raises:
        RayMissingError: Ray is not installed.
        RayUnreachableError: no cluster, or no worker of it, answers.

    >>> with pool_of(None, workers=2) as pool:
    ...     pool.workers
    2
    """
    if ray is None:
        return nullcontext(Threads(workers=workers, options=options))
    return ray_pool(RayAddress.parse(ray), options=options)


@contextmanager
def ray_pool(where: RayAddress, *, options: KernelOptions = AS_FAST) -> Iterator[RayPool]:
    """Start or join a cluster; what was started ends with the block.

    Raises:
        RayMissingError: Ray is not installed.
        RayUnreachableError: no cluster, or no worker of it, answers; or this process is in one.
        WorkersDifferError: the first worker has other code.
    """
    ray = _import_ray()
    if ray.is_initialized():
        raise RayUnreachableError("this process is in a Ray cluster already; leave it first")
    _join(ray, where)
    try:
        processors = int(ray.cluster_resources().get("CPU", 0))
        pool = RayPool(
            ray=ray,
            workers=where.workers or max(1, min(processors, MOST_WORKERS)),
            same_machine=where.address is None,
            options=options,
        )
        pool.wait_for_first_worker()
        yield pool
    finally:
        ray.shutdown()


@dataclass(frozen=True, kw_only=True, eq=False)
class RayPool:
    """Workers of the cluster that this process is in; from `ray_pool`.

    Attributes:
        ray: The module, connected.
        workers: Shards to make; the result does not depend on it.
        same_machine: Whether workers see this machine's files.
        block: People that one worker lays out at a time.
        options: How the kernel computes.
        retries: How often a shard is computed again when its worker dies.
        code: Digest of the code that workers must have.
    """

    ray: Any = field(repr=False)
    workers: int
    same_machine: bool
    block: int = BLOCK
    options: KernelOptions = AS_FAST
    retries: int = RETRIES
    code: str = field(default_factory=code_sha256, repr=False)
    _sent: list[tuple[Holdings, Any]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.workers < 1 or self.block < 1 or self.retries < 0:
            raise ValueError("workers and block must be at least 1, retries at least 0")

    def add_up(self, order: Order, holdings: Holdings, people: NDArray[np.int64]) -> ShardSum:
        """Add up the contributions of these people, in their order.

        Raises:
            WorkersLostError: workers died too often; nothing was added.
            WorkersDifferError: a worker has other code; nothing was added.
        """
        held, asked = self._held(holdings), self.ray.put(order)
        work = self.ray.remote(num_cpus=1, max_retries=self.retries)(_work)
        shards = [
            work.remote(held, asked, shard, self.block, self.options)
            for shard in np.array_split(people, self.workers)
        ]
        answers = self._gathered(shards, timeout_s=None)
        for answer in answers:
            self._require_same_code(answer.code)
        return merged([answer.shard for answer in answers])

    def wait_for_first_worker(self) -> None:
        """Wait until a worker answers, and has its kernel.

        Raises:
            RayUnreachableError: none does.
            WorkersDifferError: it has other code.
        """
        probe = self.ray.remote(num_cpus=1, max_retries=self.retries)(_answer)
        try:
            (code,) = self._gathered([probe.remote()], timeout_s=_FIRST_ANSWER_TIMEOUT_S)
        except ImportError as error:
            raise RayUnreachableError(
                f"a worker can't import Homebody; install it on every machine ({error})"
            ) from error
        self._require_same_code(code)

    def _require_same_code(self, code: str) -> None:
        if code != self.code:
            raise WorkersDifferError(
                "a worker has another version of Homebody or numpy than this process; install the "
                "same on every machine"
            )

    def _gathered(self, asked: list[Any], *, timeout_s: float | None) -> list[Any]:
        errors = self.ray.exceptions
        try:
            return list(self.ray.get(asked, timeout=timeout_s))
        except errors.RayTaskError as error:
            # What the worker raised, without Ray's page of text.
            raise error.cause from error
        except errors.GetTimeoutError as error:
            raise RayUnreachableError(
                f"no worker answered within {timeout_s:.0f} s; is the cluster busy or empty?"
            ) from error
        except errors.RayError as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise WorkersLostError(
                f"a shard's workers died, {self.retries + 1} in a row ({first}); nothing was added"
            ) from error

    def _held(self, holdings: Holdings) -> Any:
        """Give the reference to holdings in Ray's store; put there once."""
        if not self._sent or self._sent[0][0] is not holdings:
            packed = PackedHoldings.of(holdings, by_path=self.same_machine)
            self._sent[:] = [(holdings, self.ray.put(packed))]
        return self._sent[0][1]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answer:
    """A worker's shard, and which code made it."""

    code: str
    shard: ShardSum


def _work(
    held: PackedHoldings,
    order: Order,
    people: NDArray[np.int64],
    block: int,
    options: KernelOptions,
) -> _Answer:
    """Add up one shard: what runs on a worker."""
    shard = add_up_shard(order, held.open(), people, block=block, options=options)
    return _Answer(code=code_sha256(), shard=shard)


def _answer() -> str:
    load()
    return code_sha256()


def _import_ray() -> Any:
    # Before the import: Ray reads its environment then.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # The first shard that fails is raised; the others need not be told of.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise RayMissingError(
            "--ray needs Ray: pip install 'homebody[ray]'; without --ray threads do the same"
        ) from error
    return ray


def _join(ray: Any, where: RayAddress) -> None:
    """Start a cluster here, or join the one that runs."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if where.address is None:
            ray.init(
                address=_LOCAL,
                num_cpus=where.workers,
                num_gpus=0,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
            return
        _require_listener(where.address)
        ray.init(address=where.address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        asked = where.address or "this machine"
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RayUnreachableError(f"no Ray cluster on {asked}: {first}") from error


def _require_listener(address: str) -> None:
    """Fail at once where nobody listens; Ray itself would try for two minutes, and then exit."""
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None:
        return
    with socket.create_connection((found[1].strip("[]"), int(found[2])), _REACH_TIMEOUT_S):
        return
