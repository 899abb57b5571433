"""The evidence of a bandit's arms: its bound, its packing, and its file."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.wire.bandit import (
    ArmEvidence,
    BanditPriorsError,
    arms_payload,
    contribution_length,
    read_arms_payload,
    read_priors,
    unpack_sum,
    write_priors,
)

D = 4


def evidence(
    n: int = 30, *, d: int = D, arms: tuple[str, ...] = ("b", "z"), size: float = 1.0, seed: int = 0
) -> ArmEvidence:
    """What n answers at random moments of each arm say."""
    rng = np.random.default_rng(seed)
    precision, response = np.zeros((len(arms), d, d)), np.zeros((len(arms), d))
    for at in range(len(arms)):
        rows = rng.standard_normal((n, d)) * size
        precision[at] = sum((np.outer(row, row) for row in rows), np.zeros((d, d)))
        response[at] = rng.random(n) @ rows
    return ArmEvidence(arms=arms, precision=precision, response=response)


@given(
    clip=st.floats(1e-6, 1e6),
    n=st.integers(0, 12),
    d=st.integers(1, 6),
    size=st.floats(0, 1e6),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_pack_norm_is_at_most_the_clip_norm(
    clip: float, n: int, d: int, size: float, seed: int
) -> None:
    """Whatever was seen: the bound holds for the float32 entries, exactly."""
    vector = evidence(n, d=d, size=size, seed=seed).pack(["z", "b", "other"], clip_norm=clip)
    assert vector.dtype == np.float32
    assert vector.shape == (contribution_length(n_arms=3, n_features=d),)
    assert math.sqrt(math.fsum(float(v) ** 2 for v in vector)) <= clip


@given(order=st.permutations(["b", "z", "new"]), seed=st.integers(0, 99))
def test_pack_and_unpack_give_the_arms_of_the_task_in_its_order(
    order: list[str], seed: int
) -> None:
    """Below the clip nothing is lost but the rounding to float32; an unknown arm is zeros."""
    seen = evidence(seed=seed)
    vector = seen.pack(order, clip_norm=1e9)
    whole = np.sqrt((seen.precision**2).sum() + (seen.response**2).sum())
    assert np.linalg.norm(vector.astype(np.float64)) == pytest.approx(whole, rel=1e-6)
    precision, response = unpack_sum(vector.astype(np.float64), n_arms=3, n_features=D)
    for at, arm in enumerate(order):
        if arm == "new":
            assert not precision[at].any()
            assert not response[at].any()
        else:
            row = seen.arms.index(arm)
            assert np.allclose(precision[at], seen.precision[row], rtol=1e-6, atol=1e-5)
            assert np.allclose(response[at], seen.response[row], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_pack_clip_that_is_none_is_refused(clip: float) -> None:
    """Without a bound nothing is packed."""
    with pytest.raises(ValueError, match="clip_norm"):
        evidence().pack(["b"], clip_norm=clip)


@pytest.mark.parametrize(
    "change",
    [
        {"arms": ("b", "b")},
        {"arms": ("b",)},
        {"arms": ("b", "")},
        {"precision": np.zeros((2, D, 3))},
        {"precision": np.full((2, D, D), np.nan)},
        {"precision": np.stack([-np.eye(D), np.eye(D)])},
        {"precision": np.stack([np.triu(np.ones((D, D)))] * 2)},
        {"response": np.full((2, D), np.inf)},
    ],
)
def test_arm_evidence_that_is_none_is_refused(change: dict[str, Any]) -> None:
    """Evidence is a sum of squares with a finite response for each arm."""
    with pytest.raises(ValueError, match="expected"):
        ArmEvidence(**{**vars(evidence()), **change})


@pytest.mark.parametrize("total", [np.zeros(13), np.full(14, np.nan), np.zeros((2, 7))])
def test_unpack_sum_of_another_form_is_refused(total: np.ndarray) -> None:
    """A sum of another length, or with a number that is none, is nobody's."""
    with pytest.raises(ValueError, match="14 finite numbers"):
        unpack_sum(total, n_arms=1, n_features=D)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8), st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=4
    ),
    st.integers(0, 99),
)
def test_priors_written_and_read_are_the_same(
    bandits: dict[str, tuple[int, int]], seed: int
) -> None:
    """Every bandit comes back to the bit, whatever the names and sizes."""
    priors = {
        name: evidence(3, d=d, arms=tuple(f"arm {at}" for at in range(n_arms)), seed=seed)
        for name, (n_arms, d) in bandits.items()
    }
    back = read_priors(write_priors(priors))
    assert back.keys() == priors.keys()
    for name, found in back.items():
        assert found.arms == priors[name].arms
        assert np.array_equal(found.precision, priors[name].precision)
        assert np.array_equal(found.response, priors[name].response)


@given(data=st.data())
def test_priors_with_a_byte_changed_or_cut_are_refused(data: st.DataObject) -> None:
    """No part of a file goes unread."""
    good = write_priors({"home": evidence()})
    at = data.draw(st.integers(0, len(good) - 1))
    changed = bytearray(good)
    changed[at] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(changed), good[:at], good + b"x"):
        with pytest.raises(BanditPriorsError):
            read_priors(bad)


@given(st.binary(max_size=80))
def test_priors_of_any_bytes_are_refused(data: bytes) -> None:
    """Reading what came in is total."""
    with pytest.raises(BanditPriorsError):
        read_priors(b"HBBP" + data)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}x",
        b'{"":{"arms":[],"features":1}}',
        b'{"h":{"arms":["a","a"],"features":1}}',
        b'{"h":{"arms":[7],"features":1}}',
        b'{"h":{"arms":[[]],"features":1}}',
        b'{"h":{"arms":"a","features":1}}',
        b'{"h":{"arms":["a"],"features":0}}',
        b'{"h":{"arms":["a"],"features":129}}',
        b'{"h":{"arms":["a"],"features":true}}',
        b'{"h":{"arms":["a"],"features":1,"more":1}}',
        b'{"h":7}',
        b'{ "h":{"arms":["a"],"features":1}}',
        b"\xff",
    ],
)
@pytest.mark.parametrize("values", [(1.0, 1.0), (-1.0, 1.0), (math.nan, 1.0)])
def test_priors_that_are_forged_are_refused(header: bytes, values: tuple[float, float]) -> None:
    """A right hash makes no sound priors; the sound one of the same form is read."""

    def file(text: bytes, numbers: tuple[float, float]) -> bytes:
        prefix = b"HBBP\x01" + len(text).to_bytes(4, "big")
        body = prefix + text + np.array(numbers, "<f8").tobytes()
        return body + hashlib.sha256(body).digest()

    sound = b'{"h":{"arms":["a"],"features":1}}'
    assert read_priors(file(sound, (1.0, 1.0)))["h"].response.tolist() == [[1.0]]
    with pytest.raises(BanditPriorsError):
        read_priors(file(header, values))
    if values[0] != 1.0:
        with pytest.raises(BanditPriorsError):
            read_priors(file(sound, values))


def test_write_priors_of_names_that_are_none_are_refused() -> None:
    """A name is an id, and there is a bound on them."""
    for names in (("",), ("x" * 129,), tuple(str(n) for n in range(65))):
        with pytest.raises(ValueError, match="expected"):
            write_priors(dict.fromkeys(names, evidence()))


def test_arms_payload_written_and_read_is_the_same() -> None:
    """Ids of any script come back, in their order; anything else is refused."""
    arms = ("tea", "Tee für zwei", "茶")
    assert read_arms_payload(arms_payload(arms)) == arms
    for bad in (b"", b"{}", b'["a","a"]', b'[""]', b"[7]", b"\xff", b"[" * 99_999):
        with pytest.raises(ValueError, match="expected"):
            read_arms_payload(bad)
