"""The noise source: against an independent AES-CTR and Box-Muller, and by its statistics."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.events import NoiseSource
from privacy.noise import (
    CHUNK,
    TAIL_SIGMA,
    GaussianNoise,
    NormalStream,
    _box_muller,
    normals_from_key,
)

KEY = bytes(range(32))
CHUNK_PAIRS = CHUNK // 2


def words_by_hand(key: bytes, blocks: int, first: int = 0) -> list[int]:
    """AES in counter mode from single AES blocks: the cipher of 0, 1, 2 … (NIST SP 800-38A)."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - single blocks
    counters = b"".join(n.to_bytes(16, "big") for n in range(first, first + blocks))
    return list(struct.unpack(f"<{2 * blocks}Q", encryptor.update(counters)))


def accepts_scale(values: np.ndarray, scale: float) -> bool:
    """Say whether the sum of squares fits N(0, scale²), at a level of 1e-6 (chi-square)."""
    statistic = float(np.sum((values / scale) ** 2))
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], df=values.size)
    return bool(low < statistic < high)


class TestNormalsFromKey:
    """The deterministic part."""

    def test_aes_256_gives_the_published_block(self) -> None:
        """The independent counter mode rests on AES itself: FIPS 197, appendix C.3."""
        encryptor = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()  # noqa: S305
        block = encryptor.update(bytes.fromhex("00112233445566778899aabbccddeeff"))
        assert block.hex() == "8ea2b7ca516745bfeafc49904b496089"

    @given(key=st.binary(min_size=32, max_size=32), count=st.integers(1, 9))
    @settings(max_examples=30)
    def test_normals_equal_box_muller_by_hand(self, key: bytes, count: int) -> None:
        """Radii from the first half of the words, angles from the second."""
        pairs = (count + 1) // 2
        words = [word >> 11 for word in words_by_hand(key, pairs)]
        radii = [math.sqrt(-2 * math.log((word + 1) * 2.0**-53)) for word in words[:pairs]]
        angles = [2 * math.pi * word * 2.0**-53 for word in words[pairs:]]
        pair = list(zip(radii, angles, strict=True))
        expected = [r * math.cos(a) for r, a in pair] + [r * math.sin(a) for r, a in pair]
        got = normals_from_key(key, count)
        np.testing.assert_allclose(got, expected[:count], rtol=1e-12, atol=1e-12)

    def test_second_chunk_continues_the_key_stream(self) -> None:
        """A key stream that began anew in each chunk would repeat the noise."""
        got = normals_from_key(KEY, 2 * CHUNK_PAIRS + 2)[-2:]
        radius_word, angle_word = (w >> 11 for w in words_by_hand(KEY, 1, first=CHUNK_PAIRS))
        radius = math.sqrt(-2 * math.log((radius_word + 1) * 2.0**-53))
        angle = 2 * math.pi * angle_word * 2.0**-53
        expected = [radius * math.cos(angle), radius * math.sin(angle)]
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)

    def test_extreme_words_give_the_stated_tail_and_zero(self) -> None:
        """The smallest uniform is 2^-53, never 0: its logarithm is finite. The largest is 1."""
        normals = np.empty(4)
        words = np.array([0, 2**64 - 1, 0, 0], np.uint64)
        _box_muller(words, out=normals, work=np.empty((3, 2)))
        assert normals.tolist() == [TAIL_SIGMA, 0.0, 0.0, 0.0]
        assert pytest.approx(8.5716, abs=1e-3) == TAIL_SIGMA

    @pytest.mark.parametrize("turn", [0.25, 0.5, 0.75, 0.5 + 2.0**-53, 1 - 2.0**-53])
    def test_angles_where_a_tangent_is_steep_are_exact(self, turn: float) -> None:
        """At half a turn the tangent of the half angle is 1.6e16: the cosine is -1 all the same."""
        normals = np.empty(2)
        words = np.array([0, int(turn * 2.0**53) << 11], np.uint64)
        _box_muller(words, out=normals, work=np.empty((3, 1)))
        angle = 2 * math.pi * turn
        expected = [TAIL_SIGMA * math.cos(angle), TAIL_SIGMA * math.sin(angle)]
        np.testing.assert_allclose(normals, expected, rtol=0, atol=1e-14)


class TestNormalStream:
    """Chunks of streams, in any order."""

    def test_stream_is_the_upper_half_of_the_counter(self) -> None:
        """So two rounds of one key never use the same block of AES."""
        for stream in (1, 7, 2**64 - 1):
            got = normals_from_key(KEY, 2, stream=stream)
            radius_word, angle_word = (w >> 11 for w in words_by_hand(KEY, 1, first=stream << 64))
            radius = math.sqrt(-2 * math.log((radius_word + 1) * 2.0**-53))
            angle = 2 * math.pi * angle_word * 2.0**-53
            expected = [radius * math.cos(angle), radius * math.sin(angle)]
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)

    def test_chunks_made_in_any_order_are_the_same(self) -> None:
        """Each depends on its place alone, so threads could share the work."""
        count = 3 * CHUNK + 5
        expected = normals_from_key(KEY, count, stream=3)
        source = NormalStream(KEY, stream=3)
        got = np.empty(count)
        for start in (3 * CHUNK, CHUNK, 0, 2 * CHUNK, CHUNK):
            source.fill(got[start : start + CHUNK], start=start)
        np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize(("size", "start"), [(2, 1), (0, 0), (CHUNK + 1, 0)])
    def test_chunk_off_the_grid_is_refused(self, size: int, start: int) -> None:
        """It would share blocks with its neighbour."""
        with pytest.raises(ValueError, match="chunks"):
            NormalStream(KEY).fill(np.empty(size), start=start)

    def test_key_or_stream_that_is_none_is_refused(self) -> None:
        """A short key is a weak one; a stream has 64 bits."""
        with pytest.raises(ValueError, match="32 bytes"):
            NormalStream(bytes(16))
        for stream in (-1, 2**64):
            with pytest.raises(ValueError, match="64 bits"):
                NormalStream(KEY, stream=stream)


class TestStatistics:
    """A million values: the right distribution is accepted, wrong ones are not."""

    values = normals_from_key(KEY, 1_000_000)

    def test_scale_one_is_accepted_and_two_wrong_scales_are_rejected(self) -> None:
        """One percent more or less noise would be noticed."""
        assert accepts_scale(self.values, 1.0)
        assert not accepts_scale(self.values, 0.99)
        assert not accepts_scale(self.values, 1.01)

    def test_shape_is_normal_and_two_wrong_shapes_are_rejected(self) -> None:
        """Kolmogorov-Smirnov at 1e-4; a Student t of 50 and a shifted normal fail it."""
        assert stats.kstest(self.values, "norm").pvalue > 1e-4
        assert stats.kstest(self.values, "t", args=(20,)).pvalue < 1e-4
        assert stats.kstest(self.values, "norm", args=(0.01, 1.0)).pvalue < 1e-4

    def test_neighbours_and_pairs_are_uncorrelated(self) -> None:
        """Cosine and sine of one pair lie half a chunk apart."""
        for lag in (1, 2, CHUNK_PAIRS, 2 * CHUNK_PAIRS):
            correlation = float(np.corrcoef(self.values[:-lag], self.values[lag:])[0, 1])
            assert abs(correlation) < 6 / math.sqrt(self.values.size)
            squares = self.values**2
            correlation = float(np.corrcoef(squares[:-lag], squares[lag:])[0, 1])
            assert abs(correlation) < 6 / math.sqrt(self.values.size)


class TestGaussianNoise:
    """The two sources, and their edge cases."""

    def test_system_noise_never_repeats(self) -> None:
        """Each draw has its own key."""
        noise = GaussianNoise.from_system()
        assert noise.source is NoiseSource.OPERATING_SYSTEM
        assert not np.array_equal(noise.standard_normal(8), noise.standard_normal(8))
        other = GaussianNoise.from_system()
        assert not np.array_equal(noise.standard_normal(8), other.standard_normal(8))

    def test_system_noise_takes_one_key_of_256_bits_a_draw(self) -> None:
        """A port in place of the operating system shows what is asked of it."""
        keys: list[bytes] = []

        def next_key() -> bytes:
            keys.append(bytes([len(keys)]) * 32)
            return keys[-1]

        noise = GaussianNoise(source=NoiseSource.OPERATING_SYSTEM, next_key=next_key)
        first, second = noise.standard_normal(4), noise.standard_normal(4)
        np.testing.assert_array_equal(first, normals_from_key(keys[0], 4))
        np.testing.assert_array_equal(second, normals_from_key(keys[1], 4))

    def test_seeded_noise_repeats_and_says_so(self) -> None:
        """The same seed gives the same draws; one seed does not repeat within itself."""
        one, same, other = (GaussianNoise.from_seed_for_simulation(seed) for seed in (1, 1, 2))
        assert one.source is NoiseSource.SEEDED_SIMULATION
        first = one.standard_normal(8)
        np.testing.assert_array_equal(first, same.standard_normal(8))
        assert not np.array_equal(first, one.standard_normal(8))
        assert not np.array_equal(first, other.standard_normal(8))

    def test_no_values_take_no_key(self) -> None:
        """An empty draw is empty."""

        def next_key() -> bytes:
            raise AssertionError

        noise = GaussianNoise(source=NoiseSource.OPERATING_SYSTEM, next_key=next_key)
        assert noise.standard_normal(0).shape == (0,)

    def test_negative_count_is_refused(self) -> None:
        """A caller's mistake."""
        with pytest.raises(ValueError, match="count"):
            GaussianNoise.from_system().standard_normal(-1)
