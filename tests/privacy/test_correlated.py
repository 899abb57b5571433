"""The noise of rounds: against dense matrices, by its variance, saved, retried, refused."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_triangular

from privacy import tree
from privacy.correlated import NoiseState, advance, apply, init
from privacy.errors import NoiseStateError
from privacy.factorisation import Factorisation, FactorisationName
from privacy.noise import CHUNK, normals_from_key
from privacy.optimise import factorisation_for

KEY = bytes(range(32))
NAMES = list(FactorisationName)
TREES = (FactorisationName.TREE, FactorisationName.TREE_HONAKER)
#: So large that rounding to whole steps is a part in 10^14.
FINE = 2.0**46


def make(name: FactorisationName, *, n: int = 20, b: int = 4, k: int = 3) -> Factorisation:
    """Give a strategy of this name; five bands."""
    blt = name is FactorisationName.BLT
    return Factorisation(
        name=name,
        rounds=n,
        min_separation=b,
        max_participations=k,
        coefficients=(1.0, 0.5, 0.4, 0.1, 0.1)[:n]
        if name is FactorisationName.BANDED_TOEPLITZ
        else (),
        decays=(0.95, 0.3) if blt else (),
        weights=(0.35, 0.2) if blt else (),
    )


def all_rounds(plan: Factorisation, *, dimension: int, std_steps: float = FINE) -> np.ndarray:
    """Stream every round's noise: float64[n, dimension], in deviations of the white noise."""
    state = init(factorisation=plan, dimension=dimension, key=KEY)
    rows = []
    for _ in range(plan.rounds):
        noise, state = apply(state, std_steps=std_steps)
        rows.append(noise / std_steps)
    return np.array(rows)


def white(streams: list[int], dimension: int) -> np.ndarray:
    """Give the white noise of these streams, one row each."""
    return np.array([normals_from_key(KEY, dimension, stream=stream) for stream in streams])


def dense(plan: Factorisation, *, dimension: int) -> np.ndarray:
    """Make the same noise from matrices: solve C X = Z; for trees, decode node by node."""
    n = plan.rounds
    if plan.name not in TREES:
        z = white(list(range(n)), dimension)
        return np.asarray(solve_triangular(plan.strategy_matrix(), z, lower=True))
    prefixes = [np.zeros(dimension)]
    for t in range(1, n + 1):
        total = np.zeros(dimension)
        for height, index in tree.expansion(t):
            if plan.name is FactorisationName.TREE:
                nodes = [(height, index)]
                estimate = np.ones(1)
            else:
                # Least squares over the node and all below it: Honaker's estimate of its sum.
                nodes = [
                    (low, (index << (height - low)) + i)
                    for low in range(height + 1)
                    for i in range(1 << (height - low))
                ]
                estimate = np.linalg.pinv(tree.node_matrix(1 << height)).sum(axis=0)
            z = white([low << 32 | i for low, i in nodes], dimension)
            total += estimate @ z
        prefixes.append(total)
    return np.diff(np.array(prefixes), axis=0)


class TestAgainstDense:
    """Recursions against linear algebra."""

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("dimension", [7, CHUNK + 3])
    def test_streamed_noise_equals_the_dense_matrix(
        self, name: FactorisationName, dimension: int
    ) -> None:
        """To 1e-12, over 20 rounds, within one chunk and across two."""
        plan = make(name)
        expected = dense(plan, dimension=dimension)
        got = all_rounds(plan, dimension=dimension)
        assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()

    def test_streamed_noise_of_the_issues_blt_equals_the_dense_matrix(self) -> None:
        """500 rounds: errors do not build up."""
        plan = factorisation_for(
            FactorisationName.BLT, rounds=500, min_separation=50, max_participations=10
        )
        expected = dense(plan, dimension=16)
        got = all_rounds(plan, dimension=16)
        assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()

    @settings(max_examples=40, deadline=None)
    @given(
        n=st.integers(1, 12),
        decays=st.lists(st.floats(0.01, 0.999), min_size=1, max_size=4),
        weight=st.floats(0.0, 1.0),
    )
    def test_streamed_noise_of_any_blt_equals_the_dense_matrix(
        self, n: int, decays: list[float], weight: float
    ) -> None:
        """Any number of buffers, any decays, equal ones included."""
        plan = Factorisation(
            name=FactorisationName.BLT,
            rounds=n,
            min_separation=1,
            max_participations=1,
            decays=tuple(decays),
            weights=(weight / len(decays) * 0.999,) * len(decays),
        )
        expected = dense(plan, dimension=3)
        got = all_rounds(plan, dimension=3)
        assert np.abs(got - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())


class TestVariance:
    """Monte Carlo: a running sum has the variance that its plan says."""

    @pytest.mark.parametrize("name", NAMES)
    def test_prefix_variance_is_the_planned_one_within_two_percent(
        self, name: FactorisationName
    ) -> None:
        """Relative deviation √(2/300,000) = 0.26 %: 2 % is more than seven of them."""
        plan = make(name, n=24)
        expected = plan.prefix_errors()
        state = init(factorisation=plan, dimension=300_000, key=KEY)
        total = np.zeros(state.dimension)
        for t in range(plan.rounds):
            noise, state = apply(state, std_steps=2.0**30)
            total += noise / 2.0**30
            assert float(np.mean(total**2)) == pytest.approx(expected[t], rel=0.02)

    def test_mean_prefix_variance_of_the_issues_blt_is_the_planned_one(self) -> None:
        """At n = 500, b = 50, k = 10: the average over all prefixes, within 2 %."""
        plan = factorisation_for(
            FactorisationName.BLT, rounds=500, min_separation=50, max_participations=10
        )
        noise = all_rounds(plan, dimension=8000, std_steps=2.0**30)
        got = float(np.mean(np.square(np.cumsum(noise, axis=0))))
        assert got == pytest.approx(float(plan.prefix_errors().mean()), rel=0.02)


class TestRetry:
    """One round, one noise, however often it is asked for."""

    @pytest.mark.parametrize("name", NAMES)
    def test_saved_state_gives_the_same_noise_to_the_end(self, name: FactorisationName) -> None:
        """Restored before every round, and once more for a retry."""
        plan = make(name)
        expected = all_rounds(plan, dimension=9)
        state = init(factorisation=plan, dimension=9, key=KEY)
        for t in range(plan.rounds):
            saved = state.to_bytes()
            first, _ = apply(NoiseState.from_bytes(saved), std_steps=FINE)
            again, state = apply(NoiseState.from_bytes(saved), std_steps=FINE)
            np.testing.assert_array_equal(first / FINE, expected[t])
            np.testing.assert_array_equal(again, first)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("t", [0, 1, 7, 19])
    def test_state_from_the_key_alone_gives_the_same_noise(
        self, name: FactorisationName, t: int
    ) -> None:
        """The noise of round t is a function of the key and t."""
        plan = make(name)
        start = init(factorisation=plan, dimension=9, key=KEY)
        noise, _ = apply(advance(start, to_round=t, std_steps=FINE), std_steps=FINE)
        np.testing.assert_array_equal(noise / FINE, all_rounds(plan, dimension=9)[t])

    @pytest.mark.parametrize("name", NAMES)
    def test_state_is_saved_to_the_last_bit(self, name: FactorisationName) -> None:
        """What is read back is saved as the same bytes."""
        state = init(factorisation=make(name), dimension=5, key=KEY)
        for _ in range(7):
            _, state = apply(state, std_steps=3.7e9)
        saved = state.to_bytes()
        read = NoiseState.from_bytes(saved)
        assert read.to_bytes() == saved
        assert (read.round_index, read.std_steps, read.key) == (7, 3.7e9, KEY)

    def test_other_keys_and_other_rounds_have_other_noise(self) -> None:
        """Reused noise would cancel between two sums."""
        rows = all_rounds(make(FactorisationName.INDEPENDENT_ROUNDS), dimension=4)
        assert len({row.tobytes() for row in rows}) == len(rows)
        other = init(
            factorisation=make(FactorisationName.INDEPENDENT_ROUNDS), dimension=4, key=bytes(32)
        )
        assert not np.array_equal(apply(other, std_steps=FINE)[0] / FINE, rows[0])

    def test_nodes_of_a_tree_never_share_a_stream(self) -> None:
        """Height and index name a node; no two are the same number."""
        rows = all_rounds(make(FactorisationName.TREE, n=32), dimension=4)
        assert len({row.tobytes() for row in rows}) == 32


class TestRefusals:
    """What must not be drawn."""

    def state(self, **changes: Any) -> NoiseState:
        """Give the state before round 0 of a run of two."""
        values: dict[str, Any] = {
            "factorisation": make(FactorisationName.BLT, n=2),
            "dimension": 5,
            "key": KEY,
        }
        return init(**{**values, **changes})

    def test_used_state_is_refused(self) -> None:
        """Its buffers belong to the state after it."""
        state = self.state()
        apply(state, std_steps=1e9)
        for call in (
            lambda: apply(state, std_steps=1e9),
            lambda: advance(state, to_round=1, std_steps=1e9),
            state.to_bytes,
        ):
            with pytest.raises(NoiseStateError, match="used"):
                call()

    def test_round_beyond_the_run_is_refused(self) -> None:
        """It was not paid for."""
        state = self.state()
        for _ in range(2):
            _, state = apply(state, std_steps=1e9)
        with pytest.raises(NoiseStateError, match="all 2 rounds"):
            apply(state, std_steps=1e9)

    def test_other_deviation_than_before_is_refused(self) -> None:
        """Also after the state was stored in between."""
        _, state = apply(self.state(), std_steps=1e9)
        restored = NoiseState.from_bytes(state.to_bytes())
        for later in (state, restored):
            with pytest.raises(ValueError, match="share one deviation"):
                apply(later, std_steps=1.0001e9)
            apply(later, std_steps=1e9)

    @pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), 2.0**51])
    def test_deviation_that_is_none_is_refused_and_the_state_stays_good(self, bad: float) -> None:
        """A caller's mistake does not cost the run its state."""
        state = self.state()
        with pytest.raises(ValueError, match=r"std_steps|lattice"):
            apply(state, std_steps=bad)
        apply(state, std_steps=1e9)

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"dimension": 0}, "dimension"),
            ({"dimension": 2.0}, "dimension"),
            ({"dimension": True}, "dimension"),
            ({"key": bytes(31)}, "32 bytes"),
        ],
    )
    def test_init_of_no_run_is_refused(self, changes: dict[str, Any], match: str) -> None:
        """A short key would be a weak one."""
        with pytest.raises(ValueError, match=match):
            self.state(**changes)

    @pytest.mark.parametrize("to_round", [-1, 3])
    def test_advance_out_of_the_run_is_refused(self, to_round: int) -> None:
        """There is no such round."""
        with pytest.raises(ValueError, match="round index"):
            advance(self.state(), to_round=to_round, std_steps=1e9)

    def test_advance_backwards_is_refused(self) -> None:
        """Noise runs forward; start from the key."""
        _, state = apply(self.state(), std_steps=1e9)
        with pytest.raises(ValueError, match="forward"):
            advance(state, to_round=0, std_steps=1e9)

    def test_bytes_that_are_damaged_anywhere_are_refused(self) -> None:
        """Every single byte, and every cut."""
        saved = self.state().to_bytes()
        for position in range(len(saved)):
            damaged = bytearray(saved)
            damaged[position] ^= 1
            with pytest.raises(NoiseStateError):
                NoiseState.from_bytes(bytes(damaged))
        for length in range(len(saved)):
            with pytest.raises(NoiseStateError):
                NoiseState.from_bytes(saved[:length])

    @pytest.mark.parametrize(
        "change",
        [
            {"round_index": 3},
            {"round_index": -1},
            {"round_index": "0"},
            {"dimension": 6},
            {"std_steps": "1"},
            {"std_steps": -1.0},
            {"factorisation": {}},
        ],
    )
    def test_bytes_with_a_digest_but_no_run_are_refused(self, change: dict[str, Any]) -> None:
        """Whole bytes of something else."""
        import hashlib

        saved = self.state().to_bytes()
        start = saved.index(b"{")
        end = start + int.from_bytes(saved[start - 4 : start], "big")
        header = json.dumps({**json.loads(saved[start:end]), **change}).encode()
        body = saved[: start - 4] + len(header).to_bytes(4, "big") + header + saved[end:-32]
        with pytest.raises(NoiseStateError, match="does not describe"):
            NoiseState.from_bytes(body + hashlib.sha256(body).digest())

    def test_words_about_a_state_hide_its_key(self) -> None:
        """A log or a traceback must not undo the noise."""
        assert repr(KEY) not in repr(self.state())
        assert "key" not in repr(self.state())


def test_blt_takes_three_arrays_of_the_size_of_the_sum() -> None:
    """Two buffers and the noise itself; the rest is a few chunks."""
    plan = make(FactorisationName.BLT)
    dimension = 2**20
    tracemalloc.start()
    try:
        state = init(factorisation=plan, dimension=dimension, key=KEY)
        for _ in range(3):
            noise, state = apply(state, std_steps=1e9)
            del noise
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 3.2 * 8 * dimension
