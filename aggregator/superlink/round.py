"""One task over a real SuperLink, with devices in threads: the demo, the tests, the benchmark.

What the aggregator's half does here is what it does in production; only the devices are brought
along, as functions from frame to frame with a connector that carries them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from flwr.serverapp import Grid

from aggregator.admission import Consents
from aggregator.errors import SuperLinkError
from aggregator.strategy import BoundedSumStrategy, Progress, ReleaseLedger, TaskPlan, TaskResult
from aggregator.superlink.control import ControlRoom
from aggregator.superlink.gate import running_gate
from aggregator.superlink.process import running_superlink
from client_sdk.wire import Signer

Answer = Callable[[bytes], bytes | None]

_CHECK_IN_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.5
# A SuperLink answers some 50 calls a second on two cores; idle devices may use a fifth of them.
_CALLS_PER_S: Final = 10.0
_STAY_S: Final = 3600.0
_CHECK_INS: Final = 5

_log = logging.getLogger(__name__)


class Connection(Protocol):
    """A device's way to the SuperLink: `client_sdk.federation.flower_device.SuperLinkConnection`.

    The aggregator may not import a device's rooms, so whoever runs both hands the class in.
    """

    def exchange(self, answer: Answer, *, timeout_s: float, may_stay: Callable[[], bool]) -> int:
        """Check in, answer what waits, and leave."""
        ...


class Connector(Protocol):
    """Makes a device's connection."""

    def __call__(
        self,
        *,
        address: str,
        node_key_pem: bytes,
        root_certificates_pem: bytes,
        poll_interval_s: float,
    ) -> Connection:
        """Return a connection that is not open yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class RoundDevice:
    """A device that takes part.

    Attributes:
        name: For the operator's eyes.
        public_key_hex: The key that signs its frames.
        answer: What it says to a frame; None is silence.
    """

    name: str
    public_key_hex: str
    answer: Answer


def run_superlink_round(
    plan: TaskPlan,
    devices: Sequence[RoundDevice],
    *,
    connector: Connector,
    signer: Signer,
    ledger: ReleaseLedger,
    consents: Consents,
    directory: Path,
    port: int | None = None,
    earlier_tasks: Container[str] = frozenset(),
    on_progress: Progress | None = None,
) -> TaskResult:
    """Start a SuperLink, enrol the devices, run one task, and shut everything down.

    Args:
        plan: What is asked; its order must stay open long enough for the start (a few seconds).
        devices: Who takes part, each in a thread of its own.
        connector: `SuperLinkConnection`.
        signer: The aggregator's key.
        ledger: Reserves, commits and voids.
        consents: The registry of receipts.
        directory: Where the SuperLink keeps its files.
        port: The gate's port, the only one that devices see; by default a free one.
        earlier_tasks: Ids of tasks that ran before.
        on_progress: Told where the nodes stand.

    Returns:
        The result, as from any other grid.

    Raises:
        PortInUseError: another program has the port.
        SuperLinkError: the SuperLink failed, or the devices could not check in.
        QuorumNotReachedError: too few contributions; nothing was published.
        BudgetExhaustedError: the ledger refused; nobody was asked.
    """
    with connected_devices(
        devices, connector=connector, directory=directory, port=port
    ) as connected:
        strategy = BoundedSumStrategy(
            signer=signer,
            ledger=ledger,
            consents=consents,
            directory=connected.directory,
            earlier_tasks=earlier_tasks,
            on_progress=on_progress,
        )
        return strategy.start(connected.grid, plan, node_ids=list(connected.directory))


@dataclass(frozen=True, kw_only=True)
class ConnectedDevices:
    """Devices that have checked in with a SuperLink.

    Attributes:
        grid: How to reach them.
        directory: Node id to the device's public key, in the order of the devices.
    """

    grid: Grid
    directory: Mapping[int, str]


@contextmanager
def connected_devices(
    devices: Sequence[RoundDevice],
    *,
    connector: Connector,
    directory: Path,
    port: int | None = None,
) -> Iterator[ConnectedDevices]:
    """Start a SuperLink, enrol the devices and let them answer until the block ends.

    Args:
        devices: Who takes part, each in a thread of its own.
        connector: `SuperLinkConnection`.
        directory: Where the SuperLink keeps its files.
        port: The gate's port, the only one that devices see; by default a free one.

    Raises:
        PortInUseError: another program has the port.
        SuperLinkError: the SuperLink failed, or the devices could not check in.
    """
    with ExitStack() as stack:
        inner = stack.enter_context(running_superlink(directory))
        gate = stack.enter_context(running_gate(inner, directory=directory, port=port))
        room = stack.enter_context(ControlRoom(inner))
        keys = [ec.generate_private_key(ec.SECP384R1()) for _ in devices]
        directory_of_devices = {
            room.register_node(_public_pem(key), name=device.name): device.public_key_hex
            for key, device in zip(keys, devices, strict=True)
        }
        grid = stack.enter_context(room.open_run())
        connections = [
            connector(
                address=gate.address,
                node_key_pem=_private_pem(key),
                root_certificates_pem=gate.root_certificates_pem,
                poll_interval_s=max(1.0, len(devices) / _CALLS_PER_S),
            )
            for key in keys
        ]
        with _in_threads(connections, devices) as failures:
            _wait_for_check_in(grid, list(directory_of_devices), failures)
            yield ConnectedDevices(grid=grid, directory=directory_of_devices)


@contextmanager
def _in_threads(
    connections: Sequence[Connection], devices: Sequence[RoundDevice]
) -> Iterator[list[Exception]]:
    """Let every device answer until the block ends; collect who could not stay connected."""
    over = threading.Event()
    failures: list[Exception] = []

    def live(connection: Connection, device: RoundDevice) -> None:
        for check_in in range(_CHECK_INS):
            try:
                connection.exchange(
                    device.answer, timeout_s=_STAY_S, may_stay=lambda: not over.is_set()
                )
            except Exception as error:  # noqa: BLE001  # A device may fail in any way.
                _log.warning("device %s lost its connection: %s", device.name, error)
                if check_in == _CHECK_INS - 1:
                    failures.append(error)
                # It comes back a little later, as a phone would; the round goes on meanwhile.
                over.wait(_POLL_S)
            if over.is_set():
                return

    threads = [
        threading.Thread(target=live, args=pair, name=f"device-{pair[1].name}", daemon=True)
        for pair in zip(connections, devices, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _wait_for_check_in(grid: Grid, node_ids: Sequence[int], failures: Sequence[Exception]) -> None:
    ends_s = time.monotonic() + _CHECK_IN_TIMEOUT_S
    while not set(node_ids) <= set(grid.get_node_ids()):
        if failures:
            raise SuperLinkError("a device could not check in; see the cause") from failures[0]
        if time.monotonic() > ends_s:
            raise SuperLinkError(f"devices did not check in within {_CHECK_IN_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)


def _public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
