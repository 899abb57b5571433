"""Gaussian noise that nobody can predict: AES-256-CTR, 53-bit uniforms, Box-Muller in float64.

Guarantee: with `GaussianNoise.from_system`, each draw is keyed by 32 fresh bytes of the operating
system, used once and forgotten; the normals are as unpredictable as AES-256-CTR is.

Neighbouring relation: none; noise knows nothing of data.

Edge cases:

| input | outcome |
|---|---|
| 0 values | an empty array; no key is drawn |
| a negative count | `ValueError` |
| the uniform that would give log(0) | cannot occur: uniforms of the radius lie in (0, 1] |
| the tail | ends at √(2·53·ln 2) = 8.57 deviations; the true mass beyond is 1e-17 |
| the angle of an infinite tangent | cannot occur: π/2 is no float64; its tangent is 1.6e16 |
| a fork | harmless: no state is kept between draws |
| a seeded source | repeats its draws; its events are simulations and never count as real ones |

Values are used only after rounding to an integer lattice (`privacy.mechanisms`), so the low bits
of a float64 (Mironov 2012) are never published.

One key has 2⁶⁴ streams of 2⁶⁴ blocks: the upper half of the counter block names the stream (a round
of a run), the lower half counts. So any chunk of any round can be made by itself, again.

Test: tests/privacy/test_noise.py (independent AES-CTR and Box-Muller; the right scale accepted, two
wrong ones rejected; the tail).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from privacy.events import NoiseSource

TAIL_SIGMA: Final = float(np.sqrt(2.0 * 53.0 * np.log(2.0)))

KEY_BYTES: Final = 32
# Normals made at a time: the working set stays in the second-level cache.
CHUNK: Final = 16384
_ZEROS: Final = memoryview(bytes(8 * CHUNK))
_LOW_BITS: Final = np.uint64(11)
_TO_UNIT: Final = 2.0**-53
_TO_HALF_TURN: Final = np.pi * _TO_UNIT


class GaussianNoise:
    """A source of standard normal values.

    Make one with `from_system`; `from_seed_for_simulation` is for tests and simulations, and says
    so in ``source``, which every release event records.
    """

    def __init__(self, *, source: NoiseSource, next_key: Callable[[], bytes]) -> None:
        self._source = source
        self._next_key = next_key

    @classmethod
    def from_system(cls) -> GaussianNoise:
        """Noise keyed afresh by the operating system for every draw."""
        return cls(source=NoiseSource.OPERATING_SYSTEM, next_key=lambda: os.urandom(KEY_BYTES))

    @classmethod
    def from_seed_for_simulation(cls, seed: int) -> GaussianNoise:
        """Repeatable noise. It protects nobody: whoever knows the seed can subtract it."""
        drawn = 0

        def next_key() -> bytes:
            nonlocal drawn
            drawn += 1
            return hashlib.sha256(f"homebody simulated noise {seed} {drawn}".encode()).digest()

        return cls(source=NoiseSource.SEEDED_SIMULATION, next_key=next_key)

    def new_key(self) -> bytes:
        """Draw 32 bytes that one release, or one run of rounds, uses and then forgets."""
        return self._next_key()

    @property
    def source(self) -> NoiseSource:
        """Where the key comes from."""
        return self._source

    def standard_normal(self, count: int) -> NDArray[np.float64]:
        """Draw ``count`` independent standard normal values under one new key.

        Returns:
            float64[count], each within ±`TAIL_SIGMA`.

        Raises:
            ValueError: a negative count.

        >>> GaussianNoise.from_system().standard_normal(3).shape
        (3,)
        """
        if count < 0:
            raise ValueError(f"count must be at least 0; got {count}")
        return np.empty(0) if count == 0 else normals_from_key(self._next_key(), count)


def normals_from_key(key: bytes, count: int, *, stream: int = 0) -> NDArray[np.float64]:
    """Return the ``count`` standard normals that ``key`` and ``stream`` determine.

    Args:
        key: 32 bytes, to be used for one release only.
        count: How many; at least 1.
        stream: Which of the key's independent streams, in [0, 2⁶⁴): one for each round.
    """
    values = np.empty(count, dtype=np.float64)
    source = NormalStream(key, stream=stream)
    for start in range(0, count, CHUNK):
        source.fill(values[start : start + CHUNK], start=start)
    return values


class NormalStream:
    """One stream of standard normals of one key, made chunk by chunk, in any order.

    The values at ``start`` depend on the key, the stream, ``start`` and the chunk's length alone:
    a chunk can be made again, or by another thread, without those before it.

    Args:
        key: 32 bytes.
        stream: Upper half of AES-CTR's counter block, in [0, 2⁶⁴).

    Raises:
        ValueError: another length of key, or no such stream.
    """

    def __init__(self, key: bytes, *, stream: int = 0) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a noise key has {KEY_BYTES} bytes; got {len(key)}")
        if not 0 <= stream < 1 << 64:
            raise ValueError(f"a stream is a number of 64 bits; got {stream}")
        self._cipher = algorithms.AES(key)
        self._stream = stream
        self._words = np.empty(CHUNK + 2, dtype="<u8")
        self._work = np.empty((3, CHUNK // 2))

    def fill(self, out: NDArray[np.float64], *, start: int) -> None:
        """Fill ``out`` with the chunk that begins at ``start``.

        Args:
            out: float64 of at most `CHUNK` values; overwritten.
            start: A multiple of `CHUNK`.
        """
        if start % CHUNK or not 0 < out.size <= CHUNK:
            raise ValueError(f"chunks of at most {CHUNK} values start at its multiples")
        pairs = (out.size + 1) // 2
        # One AES block makes one pair.
        counter = (self._stream << 64 | start // 2).to_bytes(16, "big")
        encryptor = Cipher(self._cipher, modes.CTR(counter)).encryptor()
        encryptor.update_into(_ZEROS[: 16 * pairs], self._words[: 2 * pairs + 2].data.cast("B"))
        words = self._words[: 2 * pairs]
        if out.size % 2:
            whole = np.empty(2 * pairs)
            _box_muller(words, out=whole, work=self._work[:, :pairs])
            out[:] = whole[: out.size]
        else:
            _box_muller(words, out=out, work=self._work[:, :pairs])


def _box_muller(
    words: NDArray[np.uint64], *, out: NDArray[np.float64], work: NDArray[np.float64]
) -> None:
    """Turn random words into normals: radii from the first half, angles from the second.

    Cosine and sine of an angle come from the tangent t of its half, (1 - t²)/(1 + t²) and
    2t/(1 + t²): numpy computes one tangent five times as fast as a sine and a cosine. ``words`` are
    overwritten.
    """
    pairs = out.size // 2
    first, second = out[:pairs], out[pairs:]
    radius, tangent, square = work
    np.right_shift(words, _LOW_BITS, out=words)
    # Words of 53 bits are exact as signed integers, which convert faster than unsigned ones.
    signed = words.view("<i8")
    np.multiply(signed[:pairs], _TO_UNIT, out=radius)
    radius += _TO_UNIT
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    np.multiply(signed[pairs:], _TO_HALF_TURN, out=tangent)
    np.tan(tangent, out=tangent)
    np.multiply(tangent, tangent, out=square)
    np.subtract(1.0, square, out=first)
    square += 1.0
    radius /= square
    first *= radius
    np.add(tangent, tangent, out=second)
    second *= radius
