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
| a fork | harmless: no state is kept between draws |
| a seeded source | repeats its draws; its events are simulations and never count as real ones |

Values are used only after rounding to an integer lattice (`privacy.mechanisms`), so the low bits
of a float64 (Mironov 2012) are never published.

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

_KEY_BYTES: Final = 32
_ZERO_COUNTER: Final = bytes(16)
# Pairs of normals made at a time: the working set stays in the second-level cache.
_CHUNK_PAIRS: Final = 8192
_TO_UNIT: Final = 2.0**-53
_TO_TURN: Final = 2.0 * np.pi * _TO_UNIT


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
        return cls(source=NoiseSource.OPERATING_SYSTEM, next_key=lambda: os.urandom(_KEY_BYTES))

    @classmethod
    def from_seed_for_simulation(cls, seed: int) -> GaussianNoise:
        """Repeatable noise. It protects nobody: whoever knows the seed can subtract it."""
        drawn = 0

        def next_key() -> bytes:
            nonlocal drawn
            drawn += 1
            return hashlib.sha256(f"homebody simulated noise {seed} {drawn}".encode()).digest()

        return cls(source=NoiseSource.SEEDED_SIMULATION, next_key=next_key)

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


def normals_from_key(key: bytes, count: int) -> NDArray[np.float64]:
    """Return the ``count`` standard normals that ``key`` determines.

    Args:
        key: 32 bytes, to be used for one draw only.
        count: How many; at least 1.
    """
    encryptor = Cipher(algorithms.AES(key), modes.CTR(_ZERO_COUNTER)).encryptor()
    values = np.empty(count + count % 2, dtype=np.float64)
    zeros = bytes(16 * _CHUNK_PAIRS)
    for start in range(0, values.size, 2 * _CHUNK_PAIRS):
        chunk = values[start : start + 2 * _CHUNK_PAIRS]
        pairs = chunk.size // 2
        words = np.frombuffer(encryptor.update(zeros[: 16 * pairs]), dtype="<u8")
        _box_muller(words, out=chunk)
    return values[:count]


def _box_muller(words: NDArray[np.uint64], *, out: NDArray[np.float64]) -> None:
    """Turn random words into normals: radii from the first half, angles from the second."""
    pairs = out.size // 2
    high = (words >> np.uint64(11)).astype(np.float64)
    radius = high[:pairs]
    radius += 1.0
    radius *= _TO_UNIT
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle = high[pairs:]
    angle *= _TO_TURN
    np.cos(angle, out=out[:pairs])
    np.sin(angle, out=out[pairs:])
    out[:pairs] *= radius
    out[pairs:] *= radius
