"""Release events: what they refuse, and that they survive storage."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.wire import Purpose, TaskKind
from privacy.errors import EventFormatError
from privacy.events import (
    ADJACENCY,
    AssumedPopulation,
    MechanismName,
    NoiseSource,
    ReleaseEvent,
)


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
            {"max_participations": 2},
            {"max_participations": 0},
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
        "change",
        [
            {"version": 2},
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
