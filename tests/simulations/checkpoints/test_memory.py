"""What people remember is written down whole and put back; what can't be put back is not saved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulations.checkpoints.errors import CheckpointDamagedError
from simulations.checkpoints.fingerprint import Fingerprint
from simulations.checkpoints.memory import SETTINGS, put_back, written_down
from simulations.engines.crowd import Answer
from tests.simulations.checkpoints.killed_training import TERMS, town


def test_memory_put_back_into_new_people_is_the_same() -> None:
    """Every array comes back with its type, into arrays of its own."""
    crowd, fresh = town(), town()
    crowd.answers[:7] = Answer.WITHDRAWN
    values, arrays = written_down(crowd)
    put_back(fresh, values, arrays)
    np.testing.assert_array_equal(fresh.answers, crowd.answers)
    again, _ = written_down(fresh)
    assert again == values
    fresh.answers[:] = Answer.GRANTED
    assert crowd.answers[0] == Answer.WITHDRAWN
    assert not set(values) & set(SETTINGS)


def test_memory_of_another_kind_refused_when_written() -> None:
    """A generator, say, has a state that nobody would put back."""
    crowd = town()
    crowd._tasks = {"task": np.random.default_rng(1)}  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"crowd\._tasks\.task: Generator"):
        written_down(crowd)


@pytest.mark.parametrize(
    "damage",
    [
        {"answers": None},
        {"answers": {"array": "crowd.nothing"}},
        {"answers": {"of": ["os", "system"], "fields": {}}},
        {"answers": {"of": ["simulations.engines.crowd", "Nobody"], "fields": {}}},
        {"answers": 7},
        {"more": {"value": 1}},
    ],
)
def test_memory_that_does_not_fit_refused_and_nothing_changed(damage: dict[str, Any]) -> None:
    """What is not the memory of such people is an error; half of it is never put back."""
    crowd = town()
    values, arrays = written_down(crowd)
    before = crowd.answers.copy()
    crowd.answers[:] = before
    with pytest.raises(CheckpointDamagedError):
        put_back(crowd, {**values, **damage}, arrays)
    np.testing.assert_array_equal(crowd.answers, before)


def test_fingerprint_each_setting_and_entry_counts() -> None:
    """One count of one person, or one setting, makes another simulation; its parts say which."""
    crowd = town()
    settings = TERMS.to_values()
    whole = Fingerprint.of(settings, crowd.holdings, code="c")
    assert whole == Fingerprint.of(settings, town().holdings, code="c")
    histories = crowd.holdings.histories
    counts = histories.counts.copy()
    counts[-1] += 1
    other = replace(crowd.holdings, histories=replace(histories, counts=counts))
    assert whole.differences(Fingerprint.of(settings, other, code="c")) == ["other people"]
    later = replace(crowd.holdings, release=replace(crowd.holdings.release, batch=513))
    assert whole.differences(Fingerprint.of(settings, later, code="c")) == ["other people"]
    changed = Fingerprint.of({**settings, "delta": 1e-5}, crowd.holdings, code="d")
    assert len(whole.differences(changed)) == 2


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_fingerprint_of_nonsense_refused(value: Any) -> None:
    """A setting that has no plain JSON value has no digest."""
    with pytest.raises(ValueError, match="JSON"):
        Fingerprint.of({"setting": value}, town().holdings, code="c")
