"""What the models of this device learned about its person, kept so that an app goes on from there.

Rules a reader can check line by line:

1. Without a yes to personalise no model is handed out, and nothing is kept.
2. When the person takes that yes back, what was learned is deleted, here and in the store, before
   `ConsentCentre.withdraw` returns; where a kill or a full disk is faster, when the store opens
   next. A pause deletes nothing. What the app still holds in its hands is the app's to let go.
3. States lie in the vault: sealed, exported, and erased with it. `LearnedModels.keep` writes all
   that changed in one transaction, so that after a kill each is as it was kept last.
4. A state that is damaged, or of another version or size, is dropped and counted; the model starts
   anew. It never fails an app, and the doctor tells. A name is one kind's: another's is refused.
5. The priors of bandits are the release's and are not kept; ask for a bandit after each update.
6. The states are this device's. What leaves of them, `client_sdk.federation` bounds.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

from client_sdk.errors import VaultError
from client_sdk.federation.consent import ConsentCentre, ConsentState
from client_sdk.intelligence.bandit import LinearBandit
from client_sdk.intelligence.litert import SignatureModel
from client_sdk.intelligence.propensity import PropensityModel, PropensitySettings
from client_sdk.intelligence.propensity_steps import PropensityCases
from client_sdk.intelligence.state import LearnedStateError
from client_sdk.intelligence.uplift import UpliftModel
from client_sdk.ports import Clock
from client_sdk.signals.vault import Record, Vault
from client_sdk.wire import Purpose
from client_sdk.wire.bandit import MAX_ID_CHARS, ArmEvidence
from client_sdk.wire.propensity import PropensityWeights

MODEL_STREAM: Final = "models"
_DROPPED: Final = ("model-counters", "dropped")
_VERSION: Final = 1
_BANDIT: Final = "bandit"
_PART_CHARS: Final = 32 * 1024


class Learned(Protocol):
    """A model that can write what it learned."""

    def to_bytes(self) -> bytes:
        """Give what was learned, as `client_sdk.intelligence.state` has it."""
        ...


_M = TypeVar("_M", bound=Learned)


@dataclass(frozen=True, kw_only=True)
class KeptModel:
    """What is known of one state that is kept.

    Attributes:
        name: The app's.
        kind: ``"bandit"``, ``"propensity"`` or ``"uplift"``.
        kept_s: When it was kept, seconds since 1970 (UTC).
        n_bytes: Of the state.
    """

    name: str
    kind: str
    kept_s: float
    n_bytes: int


@dataclass(kw_only=True, eq=False)
class _InUse:
    """A model that was handed out, with what is in the store of it."""

    kind: str
    model: Learned
    kept: bytes
    priors: ArmEvidence | None = None


class LearnedModels:
    """The models of one person; ``home.models``.

    Args:
        vault: Keeps the states.
        consent: Is asked before anything is handed out or kept.
        clock: Tells the time.
        lock: Shared with whoever else uses the vault; hold it while a model learns, where threads
            share one.
        priors: Gives from where the arms of each bandit start, by the bandit's name.

    Attributes:
        lock: As given.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        consent: ConsentCentre,
        clock: Clock,
        lock: AbstractContextManager[object],
        priors: Callable[[], Mapping[str, ArmEvidence]] = dict,
    ) -> None:
        self.lock = lock
        self._vault = vault
        self._consent = consent
        self._clock = clock
        self._priors = priors
        self._in_use: dict[str, _InUse] = {}
        self.forget_withdrawn()

    @property
    def dropped(self) -> int:
        """How many states were dropped since the store was made, because they could not be read."""
        stream, key = _DROPPED
        with self.lock:
            found = self._vault.read(stream, key)
        return 0 if found is None else int(found["count"])

    def bandit(
        self, name: str, *, n_features: int, ridge: float = 1.0, max_arms: int = 1_000
    ) -> LinearBandit:
        """Give a bandit as it was left, with the priors of the release in use.

        Args:
            name: The app's, and that of the release's priors and the federated task.
            n_features: As `LinearBandit`.
            ridge: As `LinearBandit`.
            max_arms: As `LinearBandit`.

        Returns:
            The same object until the release changes; then one with the new priors, to use instead.

        Raises:
            ConsentRequiredError: no yes to personalise.
            ValueError: the name is none, or another kind's; or as `LinearBandit`.
        """
        with self.lock:
            priors = self._priors().get(name)
            if priors is not None and (
                priors.n_features != n_features or len(priors.arms) > max_arms
            ):
                priors = None  # of another version of the app: nothing to start from
            held = self._in_use.get(name)
            if held is not None and held.kind == _BANDIT and held.priors is not priors:
                self.keep()
                del self._in_use[name]

            def read(data: bytes) -> LinearBandit:
                return LinearBandit.from_bytes(
                    data, n_features=n_features, ridge=ridge, priors=priors, max_arms=max_arms
                )

            def make() -> LinearBandit:
                return LinearBandit(
                    n_features=n_features, ridge=ridge, priors=priors, max_arms=max_arms
                )

            bandit = self._opened(name, _BANDIT, read, make)
            self._in_use[name].priors = priors
            return bandit

    def propensity(
        self,
        name: str,
        graph: SignatureModel,
        settings: PropensitySettings | None = None,
        *,
        start: PropensityWeights | None = None,
    ) -> PropensityModel:
        """Give a propensity model as it was left; arguments and errors as `bandit`'s.

        Args:
            name: The app's, and that of the federated task.
            graph: The release's.
            settings: How to learn, and how many cases to keep for learning together.
            start: What all learned together; where this device has learned nothing yet, it starts
                there.
        """
        return self._opened(
            name,
            "propensity",
            lambda data: PropensityModel.from_bytes(data, graph, settings),
            lambda: PropensityModel(graph, settings, start=start),
        )

    def uplift(
        self, name: str, *, n_features: int, ridge: float = 10.0, effect_ridge: float = 100.0
    ) -> UpliftModel:
        """Give an uplift model as it was left; arguments as `UpliftModel`, errors as `bandit`'s."""
        return self._opened(
            name,
            "uplift",
            lambda data: UpliftModel.from_bytes(
                data, n_features=n_features, ridge=ridge, effect_ridge=effect_ridge
            ),
            lambda: UpliftModel(n_features=n_features, ridge=ridge, effect_ridge=effect_ridge),
        )

    def keep(self) -> int:
        """Write what was learned since it was written last: all in one transaction, or nothing.

        Returns:
            How many models changed; 0 without a yes to personalise, or in a pause.

        Raises:
            VaultError: it could not be written; the store has what it had.
        """
        with self.lock:
            if not self._in_use or not self._consent.allows(Purpose.PERSONALISE):
                return 0
            states = {name: held.model.to_bytes() for name, held in self._in_use.items()}
            changed = [name for name, state in states.items() if state != self._in_use[name].kept]
            if changed:
                now_s = self._clock.now_s()
                self._vault.write(
                    *(
                        _record(name, self._in_use[name].kind, now_s, states[name])
                        for name in changed
                    ),
                    durable=True,
                )
            for name in changed:
                self._in_use[name].kept = states[name]
            return len(changed)

    def kept(self) -> tuple[KeptModel, ...]:
        """Say what is kept, in the order in which it was first kept."""
        with self.lock:
            found = [(record.key, record.value) for record in self._vault.records(MODEL_STREAM)]
        return tuple(
            KeptModel(
                name=name,
                kind=value["kind"],
                kept_s=value["kept_s"],
                n_bytes=3 * len(value["state"]) // 4,
            )
            for name, value in found
        )

    def forget(self, *names: str) -> int:
        """Forget what some models learned; give how many states were kept of them."""
        with self.lock:
            for name in names:
                self._in_use.pop(name, None)
            return self._vault.forget_records(MODEL_STREAM, *names)

    def evidence(self) -> Mapping[str, ArmEvidence]:
        """Give what every bandit saw, by name, as copies: what a federated task may ask for."""
        with self.lock:
            found = {
                name: held.model.evidence()
                for name, held in self._in_use.items()
                if isinstance(held.model, LinearBandit)
            }
            for record in self._vault.records(MODEL_STREAM):
                if record.key not in found and record.value.get("kind") == _BANDIT:
                    with suppress(LearnedStateError):
                        found[record.key] = LinearBandit.evidence_of(_state(record.value))
            return found

    def cases(self) -> Mapping[str, PropensityCases]:
        """Give the cases that propensities kept, by name: what a federated task may ask for.

        Of those that the app has asked for since it opened the store: without its graph a state
        can't learn.
        """
        with self.lock:
            return {
                name: held.model.cases()
                for name, held in self._in_use.items()
                if isinstance(held.model, PropensityModel)
            }

    def export_lines(self) -> Iterator[dict[str, Any]]:
        """Give what is kept as plain JSON; a long state in several parts."""
        with self.lock:
            for record in self._vault.records(MODEL_STREAM):
                text = str(record.value["state"])
                parts = range(0, max(len(text), 1), _PART_CHARS)
                for number, at in enumerate(parts, start=1):
                    yield {
                        **record.value,
                        "name": record.key,
                        "part": number,
                        "parts": len(parts),
                        "state": text[at : at + _PART_CHARS],
                    }

    def forget_withdrawn(self) -> None:
        """Delete everything that was learned, if the yes to personalise was taken back."""
        with self.lock:
            if self._consent.state(Purpose.PERSONALISE) is not ConsentState.WITHDRAWN:
                return
            self._in_use.clear()
            # A full disk must not fail a no: the store tries again when it opens.
            with suppress(VaultError):
                names = [record.key for record in self._vault.records(MODEL_STREAM)]
                if names:
                    self._vault.forget_records(MODEL_STREAM, *names)

    def close(self) -> None:
        """Keep what was learned, and let go of it."""
        with self.lock:
            with suppress(VaultError):
                self.keep()
            self._in_use.clear()

    def drop_memory(self) -> None:
        """Let go of what is in memory, after the vault was erased."""
        with self.lock:
            self._in_use.clear()

    def _opened(
        self,
        name: str,
        kind: str,
        read: Callable[[bytes], _M],
        make: Callable[[], _M],
    ) -> _M:
        if not 0 < len(name) <= MAX_ID_CHARS:
            raise ValueError(f"name: expected 1 to {MAX_ID_CHARS} characters; got another")
        with self.lock:
            self._consent.require(Purpose.PERSONALISE)
            held = self._in_use.get(name)
            if held is None:
                # Refuses what the app says wrong before a state that fits is read, and dropped.
                model = make()
                try:
                    value = self._vault.read(MODEL_STREAM, name)
                    if value is not None:
                        _expect_kind(value.get("kind"), kind)
                        model = read(_state(value))
                except (LearnedStateError, VaultError):
                    self._drop(name)
                held = _InUse(kind=kind, model=model, kept=model.to_bytes())
                self._in_use[name] = held
            _expect_kind(held.kind, kind)
            return cast("_M", held.model)

    def _drop(self, name: str) -> None:
        stream, key = _DROPPED
        # Not being able to write is no reason to fail an app that only wants to go on.
        with suppress(VaultError):
            record = Record(stream=stream, key=key, value={"count": self.dropped + 1})
            self._vault.write(record)
            self._vault.forget_records(MODEL_STREAM, name)


def _record(name: str, kind: str, now_s: float, state: bytes) -> Record:
    text = base64.b64encode(state).decode("ascii")
    value = {"version": _VERSION, "kind": kind, "kept_s": now_s, "state": text}
    return Record(stream=MODEL_STREAM, key=name, value=value)


def _expect_kind(found: object, kind: str) -> None:
    if found != kind:
        raise ValueError(f"name: expected one of a {kind} or of nothing; got another's: rename it")


def _state(value: Mapping[str, Any]) -> bytes:
    """Read a record's state.

    Raises:
        LearnedStateError: of another version, or no state.
    """
    if value.get("version") != _VERSION:
        raise LearnedStateError(f"expected a state of version {_VERSION}; got another")
    try:
        return base64.b64decode(value["state"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise LearnedStateError("the record holds no state") from error
