"""The device's own noise, for people who trust nobody: clipped first, then noised, then sent.

Guarantee: what leaves is the Gaussian mechanism at sensitivity 2 · clip norm (replace one person's
whole contribution by any other), against everybody, the aggregator included. The server half, with
what the sum then carries, is `privacy.local`; this file repeats its few lines because the device
imports nothing of the server, and a test holds them against each other.

| case | outcome |
|---|---|
| an order without local noise | the vector, bit for bit |
| an all-zero vector | gets the same noise as any other |
| a promise to trust nobody, without local noise | `OrderOutOfBoundsError` |
| a vector above the clip norm, or not finite | `ValueError`: the guard comes first |
| a second message | other noise: each has a key of its own from the operating system |

The clipped vector is truncated to multiples of clip norm · 2⁻³⁰ and the noise is rounded to them,
so that no float's low bits tell the vector; what is rounded to float32 afterwards is already noisy.
The tail of the normals ends at 8.6 standard deviations (53-bit uniforms, Box and Muller 1958).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.federation.encoding import OrderOutOfBoundsError
from client_sdk.wire import Order, SparseVector

LOCAL_NOISE: Final = "local_noise_multiplier"
"""The parameter: standard deviation at the device over 2 · clip norm, above 0."""
MAX_NOISE_MULTIPLIER: Final = 1e6
STEPS: Final = 2**30
_KEY_BYTES: Final = 32
_LOW_BITS: Final = 11
_TO_UNIT: Final = 2.0**-53
_ROUNDING: Final = 1e-6
_NOBODY: Final = "nobody"


def read_local_noise(order: Order) -> float:
    """Give the order's local noise multiplier; 0 where the aggregator adds the noise."""
    value = order.parameters.get(LOCAL_NOISE, 0.0)
    return float(value) if type(value) in (int, float) else 0.0


def check_promise(order: Order) -> None:
    """Refuse an order that promises that nobody need be trusted, and asks for no noise here.

    Raises:
        OrderOutOfBoundsError: it does.
    """
    trusted = order.promise.get("trusted", "")
    if str(trusted).startswith(_NOBODY) and not read_local_noise(order) > 0.0:
        raise OrderOutOfBoundsError("trusting nobody needs this device's own noise")


def message_norm(*, clip_norm: float, noise_multiplier: float, dimension: int) -> float:
    """Give the norm that an honest message exceeds with a chance below 1e-9 (`privacy.local`).

    >>> message_norm(clip_norm=1.0, noise_multiplier=0.0, dimension=4)
    1.0
    """
    reach = math.sqrt(dimension) + math.sqrt(2.0 * math.log(1e9))
    return clip_norm + 2.0 * clip_norm * noise_multiplier * reach


def standard_normals(count: int, *, key: bytes) -> NDArray[np.float64]:
    """Make normals of AES-256-CTR's key stream.

    Args:
        count: How many, at least 1.
        key: 32 bytes, used once.

    >>> standard_normals(3, key=bytes(32)).shape
    (3,)
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    pairs = (count + 1) // 2
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    words = np.frombuffer(encryptor.update(bytes(16 * pairs)), dtype="<u8") >> _LOW_BITS
    # (0, 1]: a radius of 0 is possible, an infinite one is not.
    uniform = (words + 1) * _TO_UNIT
    radius = np.sqrt(-2.0 * np.log(uniform[:pairs]))
    angle = 2.0 * np.pi * uniform[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def add_local_noise(
    vector: SparseVector,
    *,
    clip_norm: float,
    noise_multiplier: float,
    new_key: Callable[[], bytes] = lambda: os.urandom(_KEY_BYTES),
) -> SparseVector:
    """Give what may leave: every entry of the clipped vector with noise.

    Args:
        vector: Of norm at most ``clip_norm``, as the outbound guard gives it.
        clip_norm: That of the order.
        noise_multiplier: Standard deviation over 2 · ``clip_norm``; 0 changes nothing.
        new_key: Draws 32 bytes; the operating system's by default.

    Raises:
        ValueError: the vector was not clipped.
    """
    if not noise_multiplier:
        return vector
    if not vector.norm() <= clip_norm * (1.0 + _ROUNDING):
        raise ValueError("expected a vector that was clipped; got another")
    dense = vector.to_dense().astype(np.float64)
    steps = np.trunc(dense * (STEPS / clip_norm))
    noise = standard_normals(dense.size, key=new_key())
    steps += np.rint(noise * (2.0 * noise_multiplier * STEPS))
    return SparseVector.from_dense((steps * (clip_norm / STEPS)).astype(np.float32))
