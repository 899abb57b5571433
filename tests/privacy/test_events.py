"""Release events: what they refuse, and that they survive storage."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.wire import Purpose, TaskKind
from privacy.chain import RowKind, next_row, reservations_of, verify_chain
from privacy.errors import EventFormatError
from privacy.events import (
    ADJACENCY,
    LOCAL_ADJACENCY,
    LOCAL_TRUSTED,
    POISSON_ASSUMPTION,
    AssumedPopulation,
    MechanismName,
    NoiseSource,
    ReleaseEvent,
)
from privacy.factorisation import Factorisation, FactorisationName


def make(**changes: Any) -> ReleaseEvent:
    """A valid event, changed."""
    values: dict[str, Any] = {
        "kind": TaskKind.ITEM_STATISTICS,
        "task_id": "ab" * 16,
        "population": "shop",
        "noise_multiplier": 2.0,
        "clip_norm": 0.5,
        "dimension": 10,
        "report_goal": 100,
    }
    return ReleaseEvent(**{**values, **changes})


ASSUMED = AssumedPopulation(simulated_people=100, people=1000)
BLT = Factorisation(
    name=FactorisationName.BLT,
    rounds=500,
    min_separation=50,
    max_participations=10,
    decays=(0.96370, 0.34897),
    weights=(0.34366, 0.17547),
)
BANDED = Factorisation(
    name=FactorisationName.BANDED_TOEPLITZ,
    rounds=6,
    min_separation=2,
    max_participations=3,
    coefficients=(1.0, 0.5),
)


def rounds(name: FactorisationName, *, n: int = 8, b: int = 2, k: int = 4) -> Factorisation:
    """A plan of rounds without coefficients."""
    return Factorisation(name=name, rounds=n, min_separation=b, max_participations=k)


def every_round() -> dict[str, Any]:
    """Eight independent rounds in which everybody may be, and no limit to it."""
    return {
        "mechanism": MechanismName.INDEPENDENT_ROUNDS,
        "factorisation": rounds(FactorisationName.INDEPENDENT_ROUNDS, b=1, k=8),
    }


def local() -> dict[str, Any]:
    """Noise at the device."""
    return {
        "mechanism": MechanismName.LOCAL_GAUSSIAN,
        "adjacency": LOCAL_ADJACENCY,
        "trusted": LOCAL_TRUSTED,
    }


# Written by version 1 of the format, before this test was.
VERSION_1 = (
    b'{"adjacency":"add-or-remove one person (zero-out, fixed denominator)",'
    b'"assumed":{"people":1000,"simulated_people":100},"clip_norm":0.5,"dimension":10,'
    b'"kind":"item-statistics","max_participations":1,"mechanism":"gaussian",'
    b'"noise_multiplier":2.0,"noise_source":"operating-system","population":"shop",'
    b'"purpose":"train","report_goal":100,"task_id":"abababababababababababababababab",'
    b'"trusted":"the aggregator sees each clipped vector; nobody else","version":1}'
)


class TestReleaseEvent:
    """The table of edge cases in `privacy.events`."""

    def test_sensitivity_and_noise_follow_from_the_clip_norm(self) -> None:
        """Neither can be claimed separately."""
        event = make(clip_norm=0.5, noise_multiplier=2.0)
        assert (event.sensitivity, event.noise_std) == (0.5, 1.0)

    def test_purpose_follows_from_the_task(self) -> None:
        """A release of training data is booked under training."""
        assert make(kind=TaskKind.ITEM_COUNTS).purpose is Purpose.STATISTICS
        assert make(kind=TaskKind.ITEM_TRAINING).purpose is Purpose.TRAIN

    def test_assumed_population_scales_noise_and_marks_a_simulation(self) -> None:
        """Real noise at 1,000 people is a tenth of it on the sum of 100."""
        event = make(assumed=ASSUMED)
        assert event.noise_std == pytest.approx(make().noise_std / 10)
        assert event.simulated
        assert event.assumed_population == 1000
        assert "1,000" in ASSUMED.label

    def test_seeded_noise_marks_a_simulation(self) -> None:
        """Whoever knows the seed can subtract the noise."""
        assert make(noise_source=NoiseSource.SEEDED_SIMULATION).simulated
        assert not make().simulated

    def test_release_without_noise_is_a_valid_event(self) -> None:
        """It must be possible to record what happened."""
        event = make(
            mechanism=MechanismName.UNSAFE_NO_NOISE,
            noise_multiplier=0.0,
            noise_source=NoiseSource.NONE,
        )
        assert event.noise_std == 0.0

    @pytest.mark.parametrize(
        "changes",
        [
            {"noise_multiplier": 0.0},
            {"noise_multiplier": -1.0},
            {"noise_multiplier": math.inf},
            {"noise_multiplier": math.nan},
            {"clip_norm": 0.0},
            {"clip_norm": math.nan},
            {"dimension": 0},
            {"report_goal": 0},
            {"window": ""},
            {"trusted": ""},
            {"trusted": LOCAL_TRUSTED},
            {"mechanism": MechanismName.LOCAL_GAUSSIAN},
            {**local(), "adjacency": ADJACENCY},
            {**local(), "trusted": "the aggregator"},
            {"mechanism": MechanismName.BLT},
            {"factorisation": BLT},
            {"mechanism": MechanismName.BANDED_TOEPLITZ, "factorisation": BLT},
            {"mechanism": MechanismName.DISCRETE_LAPLACE, "factorisation": BLT},
            {"mechanism": MechanismName.DISCRETE_LAPLACE, "noise_multiplier": 0.0},
            {"sampling_probability": 0.0},
            {"sampling_probability": 1.0},
            {"sampling_probability": math.nan},
            {"mechanism": MechanismName.BLT, "factorisation": BLT, "sampling_probability": 0.1},
            {"mechanism": MechanismName.DISCRETE_GAUSSIAN, "sampling_probability": 0.1},
            {
                "mechanism": MechanismName.INDEPENDENT_ROUNDS,
                "factorisation": rounds(FactorisationName.INDEPENDENT_ROUNDS),
                "sampling_probability": 0.1,
            },
            {"adjacency": "replace one person"},
            {"population": ""},
            {"task_id": ""},
            {"noise_source": NoiseSource.NONE},
            {"mechanism": MechanismName.UNSAFE_NO_NOISE},
            {"mechanism": MechanismName.UNSAFE_NO_NOISE, "noise_multiplier": 0.0},
        ],
    )
    def test_event_that_could_not_have_happened_is_refused(self, changes: dict[str, Any]) -> None:
        """What cannot be accounted for has no value."""
        with pytest.raises(ValueError, match=r"."):
            make(**changes)

    def test_run_of_rounds_is_one_event_with_the_sensitivity_of_its_plan(self) -> None:
        """The published example: 5.967 clips at b 50 and k 10 in 500 rounds."""
        event = make(mechanism=MechanismName.BLT, factorisation=BLT, clip_norm=0.5)
        assert event.sensitivity == pytest.approx(0.5 * 5.967, abs=1e-3)
        assert (event.rounds, event.min_separation, event.max_participations) == (500, 50, 10)
        assert event.noise_std == pytest.approx(2.0 * event.sensitivity)

    def test_one_round_has_one_participation(self) -> None:
        """What version 1 had as a field follows now."""
        event = make()
        assert (event.rounds, event.min_separation, event.max_participations) == (1, 1, 1)

    @pytest.mark.parametrize("name", [FactorisationName.TREE, FactorisationName.TREE_HONAKER])
    def test_tree_is_one_mechanism_however_its_nodes_are_combined(
        self, name: FactorisationName
    ) -> None:
        """Combining nodes is post-processing."""
        event = make(mechanism=MechanismName.TREE, factorisation=rounds(name))
        assert event.sensitivity == pytest.approx(0.5 * rounds(name).sensitivity())

    def test_local_noise_covers_a_replaced_contribution_at_the_device(self) -> None:
        """Two clips apart at most; the sum of 100 devices has ten times one device's noise."""
        event = make(**local(), clip_norm=0.5, noise_multiplier=3.0, report_goal=100)
        assert event.sensitivity == 1.0
        assert event.noise_std == pytest.approx(10 * 3.0)

    def test_assumptions_beyond_the_adjacency_are_said(self) -> None:
        """Poisson sampling by its name; a run by the participation that someone must enforce."""
        assert make().assumes == ()
        (sampled,) = make(**every_round(), sampling_probability=0.25).assumes
        assert sampled.startswith(POISSON_ASSUMPTION)
        assert "0.25" in sampled
        (run,) = make(mechanism=MechanismName.BLT, factorisation=BLT).assumes
        assert "more than 10 of 500 rounds, at least 50 apart" in run

    @pytest.mark.parametrize(("simulated", "people"), [(0, 10), (11, 10), (-1, 1)])
    def test_assumed_population_smaller_than_the_simulated_is_refused(
        self, simulated: int, people: int
    ) -> None:
        """It would add noise that nobody planned."""
        with pytest.raises(ValueError, match="assumed population"):
            AssumedPopulation(simulated_people=simulated, people=people)


class TestJson:
    """Storage."""

    @given(
        kind=st.sampled_from(TaskKind),
        population=st.text(min_size=1),
        numbers=st.tuples(st.floats(1e-3, 1e6), st.floats(1e-6, 1e6)),
        origin=st.tuples(
            st.sampled_from([NoiseSource.OPERATING_SYSTEM, NoiseSource.SEEDED_SIMULATION]),
            st.sampled_from([None, ASSUMED]),
        ),
    )
    def test_event_survives_storage(
        self,
        kind: TaskKind,
        population: str,
        numbers: tuple[float, float],
        origin: tuple[NoiseSource, AssumedPopulation | None],
    ) -> None:
        """Every bit of every float, and equal events have equal bytes."""
        event = make(
            kind=kind,
            population=population,
            noise_multiplier=numbers[0],
            clip_norm=numbers[1],
            noise_source=origin[0],
            assumed=origin[1],
        )
        assert ReleaseEvent.from_json(event.to_json()) == event
        assert ReleaseEvent.from_json(event.to_json()).to_json() == event.to_json()

    def test_stored_event_tells_adjacency_trust_and_purpose(self) -> None:
        """An auditor who only has the bytes can read the claim."""
        stored = json.loads(make().to_json())
        assert stored["adjacency"] == ADJACENCY
        assert stored["purpose"] == "train"
        assert "aggregator" in stored["trusted"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"mechanism": MechanismName.BLT, "factorisation": BLT, "window": "2026-W14"},
            {"mechanism": MechanismName.BANDED_TOEPLITZ, "factorisation": BANDED},
            {
                "mechanism": MechanismName.TREE,
                "factorisation": rounds(FactorisationName.TREE_HONAKER),
            },
            {**every_round(), "sampling_probability": 0.25},
            {"sampling_probability": 0.1},
            {"mechanism": MechanismName.DISCRETE_GAUSSIAN},
            {"mechanism": MechanismName.DISCRETE_LAPLACE},
            local(),
            {
                "mechanism": MechanismName.UNSAFE_NO_NOISE,
                "noise_source": NoiseSource.NONE,
                "noise_multiplier": 0.0,
                "factorisation": BLT,
            },
        ],
    )
    def test_event_of_every_mechanism_survives_storage(self, changes: dict[str, Any]) -> None:
        """With its plan, its window and its assumption."""
        event = make(**changes)
        stored = event.to_json()
        assert ReleaseEvent.from_json(stored) == event
        assert ReleaseEvent.from_json(stored).to_json() == stored
        assert json.loads(stored)["version"] == 2

    def test_bytes_of_version_1_are_read_as_what_they_were(self) -> None:
        """These bytes were written by version 1; what was not thought of then is at its default."""
        assert ReleaseEvent.from_json(VERSION_1) == make(assumed=ASSUMED)
        assert ReleaseEvent.from_json(VERSION_1).window == "all time"

    def test_chain_that_holds_version_1_still_verifies(self) -> None:
        """A row's hash covers the bytes that were written, whatever version reads them."""
        body = {"event": json.loads(VERSION_1), "budget": {"epsilon": 2.0, "delta": 1e-6}}
        row = next_row([], kind=RowKind.RESERVE, reservation="cd" * 16, at_ms=1, body=body)
        assert verify_chain([row]).seq == 1
        (reservation,) = reservations_of([row])
        assert reservation.event == make(assumed=ASSUMED)

    @pytest.mark.parametrize(
        "change",
        [
            {"max_participations": 2},
            {"max_participations": True},
            {"mechanism": "discrete-gaussian"},
            {"window": "all time"},
            {"purpose": "statistics"},
            {"version": 2},
        ],
    )
    def test_bytes_of_version_1_with_what_it_could_not_say_are_refused(
        self, change: dict[str, Any]
    ) -> None:
        """Nobody can have written them."""
        with pytest.raises(EventFormatError):
            ReleaseEvent.from_json(json.dumps({**json.loads(VERSION_1), **change}))

    @pytest.mark.parametrize(
        ("name", "lie"),
        [
            ("sensitivity", 0.1),
            ("sensitivity", None),
            ("rounds", 499),
            ("max_participations", 1),
            ("min_separation", 60),
            ("assumes", []),
            ("purpose", "statistics"),
        ],
    )
    def test_stored_event_with_a_derived_value_that_does_not_follow_is_refused(
        self, name: str, lie: object
    ) -> None:
        """What the reader sees is what is accounted for."""
        stored = json.loads(make(mechanism=MechanismName.BLT, factorisation=BLT).to_json())
        with pytest.raises(EventFormatError):
            ReleaseEvent.from_json(json.dumps({**stored, name: lie}))

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 3},
            {"version": 1},
            {"version": True},
            {"version": None},
            {"factorisation": {}},
            {"factorisation": 7},
            {"window": 7},
            {"sampling_probability": "0.1"},
            {"purpose": "statistics"},
            {"kind": "mind-reading"},
            {"mechanism": "laplace"},
            {"noise_source": "dice"},
            {"noise_multiplier": "2"},
            {"dimension": True},
            {"dimension": 1.5},
            {"assumed": {"people": 3}},
            {"assumed": 7},
            {"extra": 1},
            {"noise_multiplier": 0},
        ],
    )
    def test_stored_event_of_another_form_is_refused(self, change: dict[str, Any]) -> None:
        """Fail closed: an unknown event has no known price."""
        stored = {**json.loads(make().to_json()), **change}
        with pytest.raises(EventFormatError):
            ReleaseEvent.from_json(json.dumps(stored))

    @pytest.mark.parametrize("field", ["trusted", "noise_multiplier", "version", "assumed"])
    def test_stored_event_with_a_missing_field_is_refused(self, field: str) -> None:
        """No default may fill in a fact of the past."""
        stored = json.loads(make().to_json())
        del stored[field]
        with pytest.raises(EventFormatError):
            ReleaseEvent.from_json(json.dumps(stored))

    @pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff", "1"])
    def test_bytes_that_are_no_event_are_refused(self, data: bytes | str) -> None:
        """Whatever the bytes."""
        with pytest.raises(EventFormatError):
            ReleaseEvent.from_json(data)
