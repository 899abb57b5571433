"""The noise of a run of rounds: `init` and `apply` with explicit state, saved and restored exactly.

Guarantee: with Z white noise of deviation ``noise_multiplier * factorisation.sensitivity()`` clip
norms, what all rounds together release is a function of C·x + Z: one Gaussian release with exactly
the curve of `privacy.gaussian` at ``noise_multiplier``, however the rounds depend on each other.

*Which sum.* `apply` returns the noise of **one round's own sum**. The running sum of what it
returned for the rounds 0, …, t is the noise on the prefix sum, of variance
``factorisation.prefix_errors()[t] * std_steps²``. With a Toeplitz C it is row t of C⁻¹·Z; for a
tree, the noise of the nodes of round t's prefix less that of the prefix before.

Neighbouring relation: add or remove one person with all their rounds, which lie at least
``min_separation`` apart and are at most ``max_participations``.

*A retried round.* White noise is AES-CTR of the run's key, one stream a round (a node, in trees):
the noise of round t is a function of the key and t. Restore the state that was saved before the
round (`NoiseState.from_bytes`), or make it from the key (`advance`), and apply again: the same
noise. It is never drawn anew, since two draws for one sum would halve its variance.

*float64, not float32.* C⁻¹ is applied by recursion. Rounding the buffers to float32 would shift
each entry by up to 1e-7 deviations a round, differently for two neighbouring transcripts: at 10⁷
entries and 500 rounds by up to 1e-2 deviations in L2, which no formula here covers. In float64 it
is below 1e-10. Values are rounded to the lattice of `privacy.bounded_sum` at the very end; sums are
integers, so that is post-processing.

| mechanism | buffers (float64[dimension]) | white noise a round |
|---|---|---|
| independent-rounds | 0 | 1 stream |
| tree | 0 | 2 streams on average |
| tree-honaker | ⌈log₂(n+1)⌉ | 2 streams on average |
| banded-toeplitz | bands - 1 | 1 stream |
| blt | 2 (as many as decays) | 1 stream |

With the int64 noise it returns, blt takes three arrays of the size of the lattice sum. `apply`
therefore *moves* the buffers to the next state and leaves the given one used up.

| case | outcome |
|---|---|
| a state that was applied before | `NoiseStateError`: restore it, or `advance` from the key |
| more rounds than the factorisation has | `NoiseStateError` |
| another deviation than in the rounds before | `ValueError`: C would no longer fit |
| deviation 0, negative, NaN, or beyond 2⁵³ steps | `ValueError`; the state is still good |
| stored bytes that are damaged, cut or of another version | `NoiseStateError` |

A state holds the key, which subtracts the noise: keep it secret, destroy it when the run ends.

Sources: Dvijotham et al. 2024, arXiv 2404.16706, algorithm 1 (blt); McKenna 2024, arXiv 2405.15913
(banded); Kairouz et al. 2021, arXiv 2103.00039 (tree). Test: tests/privacy/test_correlated.py.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import canonical_json
from privacy.errors import NoiseStateError
from privacy.factorisation import Factorisation, FactorisationName
from privacy.noise import CHUNK, KEY_BYTES, TAIL_SIGMA, NormalStream
from privacy.tree import honaker_variances

MAX_STEPS: Final = 2.0**53

_MAGIC: Final = b"homebody noise 1\n"
_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseState:
    """Where a run's noise stands, before round ``round_index``. Made by `init`; secret.

    Attributes:
        factorisation: The strategy.
        dimension: Length of every sum, at least 1.
        key: 32 bytes of the operating system, of this run alone.
        round_index: The round whose noise comes next, from 0 to ``factorisation.rounds``.
        std_steps: Deviation of the white noise in lattice steps; None before the first round.
        buffers: float64[buffers, dimension].
    """

    factorisation: Factorisation
    dimension: int
    key: bytes = field(repr=False)
    round_index: int
    std_steps: float | None
    buffers: NDArray[np.float64] = field(repr=False)
    _used: list[bool] = field(default_factory=lambda: [False], repr=False)

    @property
    def used(self) -> bool:
        """Whether `apply` moved the buffers to a later state."""
        return self._used[0]

    def to_bytes(self) -> bytes:
        """Return everything, exactly, with a digest; as secret as the key inside.

        Raises:
            NoiseStateError: the state was used.
        """
        _check_unused(self)
        header = canonical_json(
            {
                "factorisation": self.factorisation.to_values(),
                "dimension": self.dimension,
                "round_index": self.round_index,
                "std_steps": self.std_steps,
            }
        )
        parts: list[bytes | memoryview] = [
            _MAGIC,
            len(header).to_bytes(_LENGTH_BYTES, "big"),
            header,
            self.key,
            # Without a copy: joining makes the only one.
            self.buffers.astype("<f8", copy=False).reshape(-1).data.cast("B"),
        ]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        return b"".join([*parts, digest.digest()])

    @classmethod
    def from_bytes(cls, data: bytes) -> NoiseState:
        """Read what `to_bytes` returned.

        Raises:
            NoiseStateError: anything else.
        """
        body = memoryview(data)[: max(0, len(data) - _DIGEST_BYTES)]
        digest = hashlib.sha256(body).digest()
        if not data.startswith(_MAGIC) or not data.endswith(digest):
            raise NoiseStateError("stored noise state is damaged, cut or of another version")
        try:
            start = len(_MAGIC) + _LENGTH_BYTES
            end = start + int.from_bytes(body[len(_MAGIC) : start], "big")
            header = json.loads(bytes(body[start:end]))
            state = init(
                factorisation=Factorisation.from_values(header["factorisation"]),
                dimension=header["dimension"],
                key=bytes(body[end : end + KEY_BYTES]),
            )
            stored = np.frombuffer(body, dtype="<f8", offset=end + KEY_BYTES)
            state.buffers[:] = stored.reshape(state.buffers.shape)
            return replace(
                state,
                round_index=_checked_round(header["round_index"], state.factorisation),
                std_steps=_checked_std(header["std_steps"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise NoiseStateError("stored noise state does not describe a run") from error


def init(*, factorisation: Factorisation, dimension: int, key: bytes) -> NoiseState:
    """Return the state before round 0.

    Args:
        factorisation: The strategy.
        dimension: Length of every sum, at least 1.
        key: 32 bytes, used for this run and nothing else (`GaussianNoise.new_key`).

    Raises:
        ValueError: no such dimension or key.

    >>> plan = Factorisation(name=FactorisationName.BLT, rounds=3, min_separation=1,
    ...     max_participations=1, decays=(0.9, 0.3), weights=(0.3, 0.2))
    >>> state = init(factorisation=plan, dimension=4, key=bytes(32))
    >>> saved = state.to_bytes()
    >>> noise, state = apply(state, std_steps=2.0**30)
    >>> again, _ = apply(NoiseState.from_bytes(saved), std_steps=2.0**30)
    >>> noise.dtype.name, bool((noise == again).all()), state.round_index
    ('int64', True, 1)
    """
    if type(dimension) is not int or dimension < 1:
        raise ValueError(f"dimension must be at least 1; got {dimension}")
    if len(key) != KEY_BYTES:
        raise ValueError(f"a noise key has {KEY_BYTES} bytes; got {len(key)}")
    return NoiseState(
        factorisation=factorisation,
        dimension=dimension,
        key=bytes(key),
        round_index=0,
        std_steps=None,
        buffers=np.zeros((_buffer_count(factorisation), dimension)),
    )


def apply(state: NoiseState, *, std_steps: float) -> tuple[NDArray[np.int64], NoiseState]:
    """Return the noise of the next round's own sum, and the state after it.

    Args:
        state: Used up by this call.
        std_steps: Deviation of the white noise in lattice steps:
            ``noise_multiplier * factorisation.sensitivity() * STEPS``; the same in all rounds.

    Returns:
        int64[dimension] in lattice steps, to be added to the sum of this round's clipped vectors;
        and the next state.

    Raises:
        NoiseStateError: the state was used, or the run is over.
        ValueError: a deviation that is none, has changed, or is beyond the lattice.
    """
    _check_std(state, std_steps)
    noise = np.empty(state.dimension, dtype=np.int64)
    return noise, _advanced(state, std_steps=std_steps, noise=noise)


def advance(state: NoiseState, *, to_round: int, std_steps: float) -> NoiseState:
    """Return the state before a later round, without the noise of the rounds between.

    From `init` on, this restores a run from its key alone, and makes all white noise once more.

    Raises:
        ValueError: a round before the state's or after the run's end, or a bad deviation.
        NoiseStateError: the state was used.
    """
    _checked_round(to_round, state.factorisation)
    if to_round < state.round_index:
        raise ValueError(f"noise runs forward: at round {state.round_index}, asked {to_round}")
    while state.round_index < to_round:
        _check_std(state, std_steps)
        state = _advanced(state, std_steps=std_steps, noise=None)
    return state


def _advanced(
    state: NoiseState, *, std_steps: float, noise: NDArray[np.int64] | None
) -> NoiseState:
    state._used[0] = True  # noqa: SLF001 - its own module
    streams = {stream: NormalStream(state.key, stream=stream) for stream in _streams(state)}
    values = np.empty(min(CHUNK, state.dimension))
    work = np.empty((2, values.size))
    for start in range(0, state.dimension, CHUNK):
        size = min(CHUNK, state.dimension - start)
        chunk = values[:size]
        _round_chunk(
            state,
            streams=streams,
            start=start,
            out=chunk,
            work=work[:, :size],
        )
        if noise is not None:
            chunk *= std_steps
            np.rint(chunk, out=chunk)
            noise[start : start + size] = chunk
    return replace(
        state, round_index=state.round_index + 1, std_steps=float(std_steps), _used=[False]
    )


def _round_chunk(
    state: NoiseState,
    *,
    streams: dict[int, NormalStream],
    start: int,
    out: NDArray[np.float64],
    work: NDArray[np.float64],
) -> None:
    """Write one chunk of one round's noise, of unit white noise, and move its buffers on."""
    plan = state.factorisation
    buffers = state.buffers[:, start : start + out.size]
    spare = work[0]
    if plan.name in (FactorisationName.TREE, FactorisationName.TREE_HONAKER):
        _tree_chunk(state, streams=streams, start=start, out=out, work=work)
        return
    streams[state.round_index].fill(out, start=start)
    if plan.name is FactorisationName.BLT:
        for weight, buffer in zip(plan.weights, buffers, strict=True):
            np.multiply(buffer, weight, out=spare)
            out -= spare
        for decay, buffer in zip(plan.decays, buffers, strict=True):
            np.multiply(buffer, decay, out=buffer)
            np.add(buffer, out, out=buffer)
    elif plan.name is FactorisationName.BANDED_TOEPLITZ and len(buffers):
        # A ring: the noise of round s lies in row s mod (bands - 1).
        for age in range(1, min(state.round_index, len(buffers)) + 1):
            row = buffers[(state.round_index - age) % len(buffers)]
            np.multiply(row, plan.coefficients[age], out=spare)
            out -= spare
        buffers[state.round_index % len(buffers)] = out


def _tree_chunk(
    state: NoiseState,
    *,
    streams: dict[int, NormalStream],
    start: int,
    out: NDArray[np.float64],
    work: NDArray[np.float64],
) -> None:
    """Write the estimate of the node that round t completes, less those of the nodes it takes in.

    Honaker's buffers hold, for each height, the estimate of the node of the current prefix.
    """
    t = state.round_index
    honaker = state.factorisation.name is FactorisationName.TREE_HONAKER
    merged = _trailing_ones(t)
    estimate, removed = work
    if not honaker:
        streams[_node_stream(merged, t >> merged)].fill(out, start=start)
        for height in range(merged):
            streams[_node_stream(height, (t >> height) - 1)].fill(estimate, start=start)
            out -= estimate
        return
    buffers = state.buffers[:, start : start + out.size]
    variances = honaker_variances(merged + 1)
    streams[_node_stream(0, t)].fill(estimate, start=start)
    removed[:] = 0.0
    for height in range(merged):
        removed += buffers[height]
        estimate += buffers[height]
        # Weights by inverse variance: own noise 1, the children's sum 2·variances[height].
        estimate *= variances[height + 1] / (2.0 * variances[height])
        streams[_node_stream(height + 1, t >> (height + 1))].fill(out, start=start)
        out *= variances[height + 1]
        estimate += out
    buffers[merged] = estimate
    np.subtract(estimate, removed, out=out)


def _streams(state: NoiseState) -> list[int]:
    """Return the streams of white noise that the next round uses."""
    t = state.round_index
    merged = _trailing_ones(t)
    if state.factorisation.name is FactorisationName.TREE:
        removed = [_node_stream(height, (t >> height) - 1) for height in range(merged)]
        return [_node_stream(merged, t >> merged), *removed]
    if state.factorisation.name is FactorisationName.TREE_HONAKER:
        return [_node_stream(height, t >> height) for height in range(merged + 1)]
    return [t]


def _node_stream(height: int, index: int) -> int:
    return height << 32 | index


def _trailing_ones(value: int) -> int:
    return ((value + 1) & -(value + 1)).bit_length() - 1


def _buffer_count(factorisation: Factorisation) -> int:
    if factorisation.name is FactorisationName.BLT:
        return len(factorisation.decays)
    if factorisation.name is FactorisationName.BANDED_TOEPLITZ:
        return len(factorisation.coefficients) - 1
    if factorisation.name is FactorisationName.TREE_HONAKER:
        return factorisation.rounds.bit_length()
    return 0


@lru_cache(maxsize=64)
def _largest_gain(factorisation: Factorisation) -> float:
    """Return a bound on |one round's noise| in units of the largest white noise."""
    if factorisation.name in (FactorisationName.TREE, FactorisationName.TREE_HONAKER):
        return 1.0 + factorisation.rounds.bit_length()
    return float(np.abs(factorisation.inverse_column()).sum())


def _check_std(state: NoiseState, std_steps: float) -> None:
    _check_unused(state)
    if state.round_index >= state.factorisation.rounds:
        raise NoiseStateError(f"all {state.factorisation.rounds} rounds have their noise")
    if not (math.isfinite(std_steps) and std_steps > 0.0):
        raise ValueError(f"std_steps must be finite and above 0; got {std_steps}")
    if std_steps * TAIL_SIGMA * _largest_gain(state.factorisation) >= MAX_STEPS:
        raise ValueError(f"noise of {std_steps} steps is beyond the lattice")
    if state.std_steps is not None and std_steps != state.std_steps:
        raise ValueError(
            f"the rounds of a run share one deviation, {state.std_steps} steps; got {std_steps}"
        )


def _check_unused(state: NoiseState) -> None:
    if state.used:
        raise NoiseStateError("this noise state was used; restore it, or advance from the key")


def _checked_round(value: object, factorisation: Factorisation) -> int:
    if type(value) is not int or not 0 <= value <= factorisation.rounds:
        raise ValueError(f"a round index lies in 0 to {factorisation.rounds}; got {value!r}")
    return value


def _checked_std(value: object) -> float | None:
    if value is None:
        return None
    if type(value) not in (float, int) or not 0.0 < value < math.inf:  # type: ignore[operator]
        raise ValueError(f"a deviation is a number above 0; got {value!r}")
    return float(value)  # type: ignore[arg-type]
