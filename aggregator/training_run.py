"""A training run: one reservation for all its rounds, and noise that survives a crash.

Guarantee: at every moment, also after a kill at any instruction, what the ledger counts as spent
is at least what was published; each round has one noisy sum, made with one noise; and what the
realised participation costs is booked before anything more is published.

The order that keeps it:

1. The noise key is stored, then the run, then the whole release is reserved in the ledger.
2. A round is collected. Nothing of it is stored, so a crash here loses it; its noise, a function of
   the key and the round, was not used, and is the same when the round is asked for again.
3. Before the first noisy sum is made, the reservation is committed. A crash from here on leaves the
   cost standing.
4. The noise is added, the next model made, and both the model and who took part become durable in
   one transaction (`aggregator.run_store`). From here on the round is over: it is never made again.
5. The ledger notes the round with the hash of its noisy sum. Only then is the sum handed out.
6. At the end the realised (b, k) is noted in the ledger beside the plan, and the key is destroyed.

What a resume finds, and does:

| found | outcome |
|---|---|
| nothing reserved yet | reserved now |
| reserved or committed, rounds done as noted | goes on; a round under way is asked for again |
| one round done that the ledger did not note | noted now: nobody saw its sum |
| rounds noted that are not done | `RunStateError`: the database was put back; nothing goes on |
| the realised participation noted | finished: the model is there, and no round more |
| rounds done, and no reservation, or a voided one | `RunStateError`, likewise |
| no key, no round done | the reservation is voided, `RunKeyError` |
| no key, rounds done | stopped, spent stays spent, `RunKeyError` |
| participants lost | the worst case is booked first, else `BudgetExhaustedError`, stopped |

More than 400 lines: the order of the steps and what a resume does after each are read together.

Test: tests/aggregator/test_training_run.py; tests/aggregator/test_training_run_killed.py kills it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aggregator.errors import RunKeyError, RunStateError
from aggregator.run_keys import KEY_BYTES, NoiseKeys
from aggregator.run_plan import RunLedger, RunPlan
from aggregator.run_store import RunStage, RunStore, StoredRun, seal, unseal
from aggregator.strategy import Collected
from client_sdk.wire import ClippingTerms, RunTerms, sha256_hex
from privacy.bounded_sum import STEPS
from privacy.chain import Reservation, RowKind
from privacy.clipping import ClipState
from privacy.correlated import NoiseState, apply, init
from privacy.errors import BudgetExhaustedError
from privacy.events import MechanismName, NoiseSource, ReleaseEvent
from privacy.participation import Realised, supplement_for, worst_case

_ROUND: Final = "round"
_REALISED: Final = "realised"

Step = Callable[[NDArray[np.float64]], bytes]


@dataclass(frozen=True, kw_only=True)
class TrainingRuns:
    """Begins runs and takes them up again.

    Attributes:
        ledger: Pays.
        store: Remembers where each run stands.
        keys: Keeps the noise keys.
    """

    ledger: RunLedger
    store: RunStore
    keys: NoiseKeys

    def begin(self, plan: RunPlan, *, model: bytes, key: bytes) -> TrainingRun:
        """Begin a run.

        Args:
            plan: What is fixed.
            model: The first model, as the caller encodes it; public.
            key: 32 fresh random bytes, kept nowhere else.

        Raises:
            BudgetExhaustedError: the whole run does not fit; nothing is left of it.
            ReservationError: a run of this id was reserved before.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"a noise key has {KEY_BYTES} bytes; got {len(key)}")
        noise = init(factorisation=plan.factorisation, dimension=plan.event.dimension, key=key)
        self.keys.store(plan.run_id, key)
        stored = StoredRun(
            run_id=plan.run_id,
            plan=plan.to_json(),
            stage=RunStage.RUNNING,
            rounds_done=0,
            clip_norm=plan.clipping.clip_norm,
            model=model,
            sealed_noise=seal(noise.to_bytes(), key=key, run_id=plan.run_id, rounds_done=0),
        )
        self.store.create(stored)
        return self._reserved(plan, stored, key)

    def resume(self, run_id: str) -> TrainingRun:
        """Take a run up where it stands; see the module's table.

        Raises:
            RunStateError: it is over, or contradicts the ledger.
            RunKeyError: its key is lost.
            BudgetExhaustedError: it had not been reserved yet, and does not fit any more.
        """
        stored = self.store.load(run_id)
        if stored is None or stored.stage is RunStage.STOPPED:
            found = "unknown" if stored is None else stored.stage.value
            raise RunStateError(f"run {run_id} is {found}; start a new one")
        plan = RunPlan.from_json(stored.plan)
        booked = self.ledger.reservation_for(run_id)
        if booked is not None and any(_REALISED in facts for facts in booked.notes):
            self.end(run_id, RunStage.FINISHED)
            return TrainingRun(runs=self, plan=plan, stored=stored, key=None)
        key = self.keys.load(run_id)
        if key is None:
            raise self._without_key(stored, booked)
        if booked is None and stored.rounds_done == 0:
            return self._reserved(plan, stored, key)
        self._check_booked(stored, booked)
        return TrainingRun(runs=self, plan=plan, stored=stored, key=key)

    def _reserved(self, plan: RunPlan, stored: StoredRun, key: bytes) -> TrainingRun:
        try:
            self.ledger.reserve(plan.event)
        except BaseException:
            self.end(stored.run_id, RunStage.STOPPED)
            raise
        return TrainingRun(runs=self, plan=plan, stored=stored, key=key)

    def _without_key(self, stored: StoredRun, booked: Reservation | None) -> RunKeyError:
        untouched = stored.rounds_done == 0 and booked is not None
        if booked is not None and untouched and booked.state is RowKind.RESERVE:
            self.ledger.void(booked.id, "the noise key is lost, nothing was published")
        elif booked is not None and booked.counts:
            self.ledger.note(booked.id, {"stopped": "the noise key is lost"})
        self.end(stored.run_id, RunStage.STOPPED)
        return RunKeyError(f"the noise key of run {stored.run_id} is lost; it was stopped")

    def _check_booked(self, stored: StoredRun, booked: Reservation | None) -> None:
        if booked is None or not booked.counts:
            self.end(stored.run_id, RunStage.STOPPED)
            raise RunStateError(f"run {stored.run_id} has no reservation that counts; stopped")
        if stored.rounds_done and booked.state is not RowKind.COMMIT:
            raise RunStateError(f"run {stored.run_id} has rounds, and its release is not committed")
        noted = [facts for facts in booked.notes if _ROUND in facts]
        if len(noted) == stored.rounds_done - 1:
            self.ledger.note(booked.id, self._facts_of(stored))
        elif len(noted) != stored.rounds_done:
            raise RunStateError(
                f"run {stored.run_id}: the ledger knows {len(noted)} rounds, the database "
                f"{stored.rounds_done}: one of them was put back; nothing more is published"
            )

    def _facts_of(self, stored: StoredRun) -> dict[str, Any]:
        number = stored.rounds_done - 1
        digest = self.store.digest_of(stored.run_id, number) or ""
        return {_ROUND: number, "sum_sha256": digest, "resumed": True}

    def end(self, run_id: str, stage: RunStage) -> None:
        """Destroy a run's key, and delete its noise state and participants."""
        self.keys.destroy(run_id)
        self.store.settle(run_id, stage)


class TrainingRun:
    """One run that is under way; from `TrainingRuns`. For one thread.

    Each round: `open_round`, ask with its terms, `close_round`. In the end `finish`, or `stop`.
    """

    def __init__(
        self, *, runs: TrainingRuns, plan: RunPlan, stored: StoredRun, key: bytes | None
    ) -> None:
        self._runs = runs
        self._plan = plan
        self._stored = stored
        self._secret: tuple[bytes, NoiseState] | None = None
        if key is not None:
            state = unseal(
                stored.sealed_noise, key=key, run_id=plan.run_id, rounds_done=stored.rounds_done
            )
            self._secret = (key, NoiseState.from_bytes(state))

    @property
    def plan(self) -> RunPlan:
        """What was fixed before the first round."""
        return self._plan

    @property
    def terms(self) -> RunTerms:
        """What every order of the run says."""
        return self._plan.terms

    @property
    def clipping(self) -> ClippingTerms:
        """How the next order says to clip."""
        return self._plan.clipping.terms

    @property
    def clip(self) -> ClipState:
        """The clip in force in the next round."""
        return ClipState(policy=self._plan.clipping, clip_norm=self._stored.clip_norm)

    @property
    def rounds_done(self) -> int:
        """How many rounds are over; the number of the next one."""
        return self._stored.rounds_done

    @property
    def is_complete(self) -> bool:
        """Whether no round is to come: all are over, or the run is."""
        return not self.is_running or self.rounds_done >= self._plan.factorisation.rounds

    @property
    def is_running(self) -> bool:
        """Whether it was neither finished nor stopped."""
        return self._secret is not None

    @property
    def model(self) -> bytes:
        """The model after the last round."""
        return self._stored.model

    @property
    def supplements(self) -> tuple[ReleaseEvent, ...]:
        """What was booked for the run beyond its reservation."""
        own = self._booked()
        found = self._runs.ledger.reservations()
        return tuple(each.event for each in found if each.counts and each.supplements == own.id)

    def open_round(self) -> int:
        """Make sure that one more round may be published; return its number.

        Raises:
            RunStateError: all rounds are over.
            BudgetExhaustedError: participants were lost, and the worst case does not fit; the run
                is stopped.
        """
        if self.is_complete:
            raise RunStateError("all rounds of the run are over; finish it")
        lost = self._runs.store.newly_lost_rounds(self._stored)
        if lost:
            all_lost = self._stored.lost_rounds + lost
            self._pay_for(worst_case(self._plan.factorisation, lost_rounds=all_lost))
            self._runs.store.accept_loss(self._stored, lost)
            self._stored = replace(self._stored, lost_rounds=all_lost)
        return self.rounds_done

    def may_take_part(self, device: str) -> bool:
        """Say whether a device, by its public key, may be in the round that is open."""
        return self._runs.store.allows(self.terms, device=device, number=self.rounds_done)

    def close_round(self, collected: Collected, step: Step) -> NDArray[np.float64]:
        """Add the round's noise, make the next model, and store both.

        Args:
            collected: The sum of this round, under this run's terms and the clip in force.
            step: Gives the next model, encoded, from the update's noisy sum (the entry that counts
                fits taken off). It must not hand the sum to anyone.

        Returns:
            float64[dimension], the update's noisy sum: booked, noted, and free to be seen.

        Raises:
            ValueError: a sum of another round, run or clip.
            RunStateError: somebody else closed the round; nothing was published.
        """
        key, before = self._require_open_round(collected)
        booked = self._booked()
        if booked.state is RowKind.RESERVE:
            self._runs.ledger.commit(booked.id, collected.accepted)
        drawn, noise = apply(before, std_steps=self._plan.std_steps)
        noisy_sum = collected.total.release(_Drawn(event=self._plan.event, steps=drawn))
        update, balance = self.clip.split(noisy_sum)
        done = self.rounds_done + 1
        after = replace(
            self._stored,
            rounds_done=done,
            clip_norm=self.clip.after(balance, report_goal=self._plan.event.report_goal).clip_norm,
            model=step(update),
            sealed_noise=seal(
                noise.to_bytes(), key=key, run_id=self._plan.run_id, rounds_done=done
            ),
        )
        digest = sha256_hex(noisy_sum.astype("<f8").tobytes())
        self._runs.store.advance(
            self._stored, after, contributors=collected.contributors, digest=digest
        )
        facts = {
            _ROUND: self.rounds_done,
            "accepted": collected.accepted,
            "clip_norm": collected.order.clip_norm,
            "sum_sha256": digest,
        }
        self._runs.ledger.note(booked.id, facts)
        self._stored, self._secret = after, (key, noise)
        return update

    def finish(self) -> Realised:
        """End the run: account for the realised participation, and destroy the noise key.

        Returns:
            What is in the ledger now, beside the plan. Again for a run that is finished.

        Raises:
            RunStateError: the run was stopped.
            BudgetExhaustedError: people were in it more often than was paid for, and the
                supplement does not fit; the run is stopped, and the ledger says so.
        """
        if not self.is_running:
            return self._noted()
        realised = self._realised()
        self._pay_for(realised)
        planned = self._plan.factorisation
        facts = {
            _REALISED: {**vars(realised), "rounds": self.rounds_done},
            "planned": {
                "min_separation": planned.min_separation,
                "max_participations": planned.max_participations,
                "rounds": planned.rounds,
            },
        }
        self._runs.ledger.note(self._booked().id, facts)
        self._end(RunStage.FINISHED)
        return realised

    def _noted(self) -> Realised:
        for facts in self._booked().notes:
            if _REALISED in facts:
                noted = facts[_REALISED]
                return Realised(
                    min_separation=noted["min_separation"],
                    max_participations=noted["max_participations"],
                )
        raise RunStateError(f"run {self._plan.run_id} was stopped before it was finished")

    def stop(self, reason: str, *, unpaid: Realised | None = None) -> None:
        """End the run early: voided where nothing was released, else spent; the key is destroyed.

        Args:
            reason: In words, for the auditor; nothing about a person.
            unpaid: What happened, or may have, that could not be paid for.
        """
        booked = self._booked()
        if booked.state is RowKind.RESERVE:
            self._runs.ledger.void(booked.id, reason)
        else:
            facts: dict[str, Any] = {"stopped": reason, "rounds": self.rounds_done}
            if unpaid is not None:
                facts["unpaid"] = vars(unpaid)
            self._runs.ledger.note(booked.id, facts)
        self._end(RunStage.STOPPED)

    def _end(self, stage: RunStage) -> None:
        self._secret = None
        self._runs.end(self._plan.run_id, stage)

    def _require_open_round(self, collected: Collected) -> tuple[bytes, NoiseState]:
        if self._secret is None:
            raise RunStateError("the run is over; nothing more is published")
        order = collected.order
        if (order.run, order.round) != (self.terms, self.rounds_done):
            raise ValueError("the sum is of another run or round")
        in_force = (self._stored.clip_norm, self.clipping)
        if (order.clip_norm, order.clipping) != in_force:
            raise ValueError("the sum was clipped by another clip than the one in force")
        return self._secret

    def _booked(self) -> Reservation:
        booked = self._runs.ledger.reservation_for(self._plan.run_id)
        if booked is None or not booked.counts:
            raise RunStateError(f"run {self._plan.run_id} is not booked; nothing is published")
        return booked

    def _realised(self) -> Realised:
        rounds = self._plan.factorisation.rounds
        lost = self._stored.lost_rounds + self._runs.store.newly_lost_rounds(self._stored)
        if lost:
            return worst_case(self._plan.factorisation, lost_rounds=lost)
        return self._runs.store.realised(self._plan.run_id, rounds=rounds)

    def _pay_for(self, realised: Realised) -> None:
        owed = supplement_for(self._plan.event, realised, paid=self.supplements)
        if owed is None:
            return
        try:
            self._runs.ledger.supplement(self._booked().id, owed)
        except BudgetExhaustedError:
            self.stop("the supplement does not fit the budget", unpaid=realised)
            raise


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """Noise that was made for this round, as the mechanism of its sum."""

    event: ReleaseEvent
    steps: NDArray[np.int64]

    @property
    def name(self) -> MechanismName:
        return self.event.mechanism

    @property
    def noise_source(self) -> NoiseSource:
        return self.event.noise_source

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:
        if (dimension, sensitivity) != (self.steps.size, STEPS):
            raise ValueError("the noise was made for another sum")
        return self.steps
