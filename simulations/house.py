"""The server's half of a simulation, all of it real, in one folder: repository, server, ledger.

A *house* is what an operator would run: a signed repository behind a model server on loopback, the
ledger, the registry of releases and the registry of consents, and the aggregator's signing key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from flwr.serverapp import Grid

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.consents import ConsentRegistry
from aggregator.ledger import Ledger
from aggregator.publishing import Publisher
from aggregator.registry import ReleaseRegistry
from aggregator.repository import Repository
from aggregator.run_keys import FileNoiseKeys
from aggregator.run_store import RunStore
from aggregator.server import create_app, listen, make_server
from aggregator.strategy import BoundedSumStrategy, Progress, ReleaseLedger
from aggregator.training_run import TrainingRuns
from client_sdk.errors import ServerUnreachableError
from client_sdk.keys import DeviceKey
from client_sdk.wire import DEFAULT_POLICY, Catalogue, ConsentPolicy
from privacy.budget import Budget
from privacy.events import ReleaseEvent

_HOST: Final = "127.0.0.1"
_START_TIMEOUT_S: Final = 20.0


class UnsafeUnbookedLedger:
    """Books nothing: only for the arm without noise, which no real ledger would admit."""

    def reserve(self, event: ReleaseEvent) -> str:
        """Let everything pass."""
        return event.task_id

    def commit(self, reservation: str, accepted: int) -> None:
        """Forget it."""

    def void(self, reservation: str, reason: str) -> None:
        """Forget it."""


class House:
    """Everything an operator runs, started on entering and stopped on leaving.

    Args:
        directory: Where it keeps its files.
        catalogue: The items.
        budgets: Population name to budget.
        policy: The consent text.
        clock: Seconds since 1970, for orders and receipts; the repository's dates are real ones,
            because devices compare them with the real time.
    """

    def __init__(
        self,
        directory: Path,
        *,
        catalogue: Catalogue,
        budgets: Mapping[str, Budget],
        policy: ConsentPolicy = DEFAULT_POLICY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._clock = clock
        self._policy = policy
        self._catalogue = catalogue
        self.key = DeviceKey.generate()
        self._campaigns = 0
        database = f"sqlite:///{directory / 'house.db'}"
        self.repository = Repository.init(directory / "repository")
        self.ledger = Ledger(database, budgets)
        self.registry = ReleaseRegistry(database)
        self.run_store = RunStore(database)
        self._noise_keys = FileNoiseKeys(directory / "noise-keys")
        self.publisher = Publisher(
            repository=self.repository,
            registry=self.registry,
            ledger=self.ledger,
            aggregator_key=self.key.public_key_hex,
            catalogue=catalogue,
            policy=policy,
        )
        self._server = _LoopbackServer(self.repository.directory)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()
        self.ledger.close()
        self.registry.close()
        self.run_store.close()

    @property
    def url(self) -> str:
        """Where devices fetch releases."""
        return self._server.url

    @property
    def trusted_root(self) -> bytes:
        """What an app ships to verify them."""
        return self.repository.trusted_root()

    def ledger_for(self, privacy: PrivacyTarget | UnsafeNoPrivacy) -> ReleaseLedger:
        """Give what books a campaign: the ledger, or nothing where nothing is private."""
        return UnsafeUnbookedLedger() if isinstance(privacy, UnsafeNoPrivacy) else self.ledger

    def campaign(
        self,
        *,
        population: str,
        privacy: PrivacyTarget | UnsafeNoPrivacy,
        grid: Grid,
        enrolled: Mapping[int, str],
        report_goal: int,
        quorum: int,
        on_progress: Progress | None = None,
    ) -> Campaign:
        """Prepare a learning run over some devices, with a registry of consents of its own.

        Args:
            population: Whose budget pays.
            privacy: The price; without one, nothing is booked.
            grid: How to reach the devices.
            enrolled: Node id to the device's public key.
            report_goal: Contributions that a round plans for.
            quorum: Fewest contributions for a release.
            on_progress: Told how far a task is.
        """
        self._campaigns += 1
        consents = self._directory / f"consents-{self._campaigns}.db"
        strategy = BoundedSumStrategy(
            signer=self.key,
            ledger=self.ledger_for(privacy),
            consents=ConsentRegistry(f"sqlite:///{consents}"),
            directory=enrolled,
            clock=self._clock,
            on_progress=on_progress,
        )
        return Campaign(
            strategy=strategy,
            grid=grid,
            population=population,
            n_items=len(self._catalogue.items),
            catalogue_sha256=self._catalogue.sha256,
            policy_sha256=self._policy.sha256,
            report_goal=report_goal,
            quorum=quorum,
            privacy=privacy,
            runs=TrainingRuns(ledger=self.ledger, store=self.run_store, keys=self._noise_keys),
            clock=self._clock,
        )


class _LoopbackServer:
    """The model server in a thread, on a free port of this machine."""

    def __init__(self, repository: Path) -> None:
        self._socket = listen(_HOST, 0)
        self._server = make_server(create_app(repository))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._thread.start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise ServerUnreachableError("the model server did not start")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop, and wait until it has."""
        self._server.should_exit = True
        self._thread.join(_START_TIMEOUT_S)
        self._socket.close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{_HOST}:{self._socket.getsockname()[1]}"
