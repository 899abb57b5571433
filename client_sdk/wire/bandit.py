"""What is known of a bandit's arms: the vector that leaves a device, and the priors that come back.

Rules a reader can check line by line:

1. Evidence of an arm is A = sum of x x' and b = sum of r x, over the answers r in [0, 1] at the
   moments x with an L2 norm of at most 1 (Li, Chu, Langford, Schapire 2010, arXiv 1003.0146).
2. The vector of a device is, arm by arm in the order that the task names, ``[upper triangle of A,
   b]``. Entries off the diagonal count √2, so the vector's L2 norm is that of the whole matrices
   and vectors, and clipping it clips nothing twice.
3. It is scaled as a whole, so clipping changes how much a device says and not what: b and A keep
   their ratio. Its norm is at most the clip norm, exactly: that of its float32 entries, in float64.
4. A file of priors is ``b"HBBP" | version | header length | header | arrays | SHA-256``: integers
   are big-endian, the header is canonical JSON (names, arms, sizes), the arrays are little-endian
   float64: of each bandit, arm by arm, the upper triangle of A, then b.
5. Reading priors is total: any bytes give sound priors, or `BanditPriorsError`. Lengths are checked
   before anything is allocated. The hash finds damage; who made the bytes, delivery proves.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.frame import canonical_json
from client_sdk.wire.vectors import packed_length, unpack_symmetric

MAX_ID_CHARS: Final = 128
MAX_FEATURES: Final = 128
MAX_TASK_ARMS: Final = 1_000
MAX_BANDITS: Final = 64
_MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
_MAGIC: Final = b"HBBP"
_VERSION: Final = 1
_PREFIX: Final = struct.Struct(">4sBI")
_HASH_BYTES: Final = 32
_ROUNDING: Final = 1e-9
_SQRT_2: Final = math.sqrt(2.0)

FloatArray = NDArray[np.float64]


class BanditPriorsError(ValueError):
    """The bytes are no priors that this version can read: fetch the release again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmEvidence:
    """What is known of some arms: what one device saw, or where all start. Without any ridge.

    Attributes:
        arms: Their ids, each once.
        precision: float64[k, d, d], A of each; symmetric, no eigenvalue below 0.
        response: float64[k, d], b of each.

    Raises:
        ValueError: another shape, not finite, or no such matrix.
    """

    arms: tuple[str, ...]
    precision: FloatArray
    response: FloatArray

    def __post_init__(self) -> None:
        check_arms(self.arms)
        shape = self.response.shape
        if len(shape) != 2 or shape[0] != len(self.arms) or shape[1] < 1:
            raise ValueError("response: expected float64[k, d] for k arms; got another shape")
        if self.precision.shape != (*shape, shape[1]):
            raise ValueError("precision: expected float64[k, d, d]; got another shape")
        if not (np.isfinite(self.precision).all() and np.isfinite(self.response).all()):
            raise ValueError("precision and response: expected finite numbers; got others")
        if not np.array_equal(self.precision, self.precision.transpose(0, 2, 1)):
            raise ValueError("precision: expected symmetric matrices; got others")
        values = np.linalg.eigvalsh(self.precision)
        if values.size and values.min() < -_ROUNDING * max(values.max(), 1.0):
            raise ValueError("precision: expected no eigenvalue below 0; got one")

    @property
    def n_features(self) -> int:
        """d, the numbers that describe a moment."""
        return int(self.response.shape[1])

    def pack(self, arms: Sequence[str], *, clip_norm: float) -> NDArray[np.float32]:
        """Give what is known of some arms as one vector of bounded norm.

        Args:
            arms: The task's, in its order; zeros for those of which nothing is known.
            clip_norm: Largest L2 norm, finite and above 0.

        Returns:
            float32[k (d (d + 1) / 2 + d)] as in rule 2, of norm at most ``clip_norm``.

        Raises:
            ValueError: an arm twice, or a clip norm out of range.

        >>> seen = ArmEvidence(arms=("tea",), precision=np.array([[[4.0]]]),
        ...                    response=np.array([[3.0]]))
        >>> seen.pack(["mug", "tea"], clip_norm=1.0).round(3).tolist()
        [0.0, 0.0, 0.800000011920929, 0.6000000238418579]
        """
        check_arms(arms)
        if not (math.isfinite(clip_norm) and clip_norm > 0):
            raise ValueError("clip_norm: expected a finite number above 0; got another")
        rows, columns = np.triu_indices(self.n_features)
        known = {arm: at for at, arm in enumerate(self.arms)}
        width = len(rows)
        table = np.zeros((len(arms), width + self.n_features))
        for at, arm in enumerate(arms):
            if arm in known:
                upper = self.precision[known[arm]][rows, columns]
                table[at, :width] = upper * np.where(rows == columns, 1.0, _SQRT_2)
                table[at, width:] = self.response[known[arm]]
        vector = table.ravel()
        norm = _norm(vector)
        clipped = (vector * min(1.0, clip_norm / norm) if norm else vector).astype(np.float32)
        # Rounding to float32 may go up; a step takes every entry one float32 closer to zero.
        while _norm(clipped) > clip_norm:
            clipped = np.nextafter(clipped, np.float32(0))
        return clipped


def contribution_length(*, n_arms: int, n_features: int) -> int:
    """Say how long the vector of a device is.

    >>> contribution_length(n_arms=2, n_features=3)
    18
    """
    return n_arms * (packed_length(n_features) + n_features)


def unpack_sum(total: FloatArray, *, n_arms: int, n_features: int) -> tuple[FloatArray, FloatArray]:
    """Undo the packing of a (noisy) sum of contributions.

    Args:
        total: float64[k (d (d + 1) / 2 + d)], finite.
        n_arms: k, of the task.
        n_features: d.

    Returns:
        A of each arm, float64[k, d, d], symmetric but with noise no sum of squares; and b of each,
        float64[k, d].

    Raises:
        ValueError: another length, or not finite.
    """
    length = contribution_length(n_arms=n_arms, n_features=n_features)
    if n_features < 1 or total.shape != (length,) or not np.isfinite(total).all():
        raise ValueError(f"total: expected {length} finite numbers; got others")
    width = packed_length(n_features)
    table = total.reshape(n_arms, width + n_features)
    precision = np.zeros((n_arms, n_features, n_features))
    for at in range(n_arms):
        precision[at] = unpack_symmetric(table[at, :width], n_features)
    return precision, table[:, width:].copy()


def arms_payload(arms: Sequence[str]) -> bytes:
    """Write the arms of a task as the payload of its order.

    >>> arms_payload(["tea", "mug"])
    b'["tea","mug"]'
    """
    check_arms(arms)
    return json.dumps(list(arms), separators=(",", ":")).encode("ascii")


def read_arms_payload(payload: bytes) -> tuple[str, ...]:
    """Read what `arms_payload` wrote.

    Raises:
        ValueError: anything else.
    """
    try:
        arms = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ValueError("arms: expected a JSON list of ids; got something else") from error
    if not isinstance(arms, list):
        raise ValueError("arms: expected a JSON list of ids; got another value")  # noqa: TRY004 - every refusal is a ValueError
    check_arms(arms)
    return tuple(arms)


def write_priors(priors: Mapping[str, ArmEvidence]) -> bytes:
    """Write the priors of some bandits, by name, as a file of a release.

    Raises:
        ValueError: a name that is none, or too many of them.

    >>> flat = ArmEvidence(arms=("tea",), precision=np.eye(2)[None], response=np.ones((1, 2)))
    >>> read_priors(write_priors({"home": flat}))["home"].precision[0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    check_arms(list(priors))
    if len(priors) > MAX_BANDITS:
        raise ValueError(f"priors: expected at most {MAX_BANDITS} bandits; got {len(priors)}")
    header = canonical_json(
        {
            name: {"arms": list(evidence.arms), "features": evidence.n_features}
            for name, evidence in priors.items()
        }
    )
    parts = [_PREFIX.pack(_MAGIC, _VERSION, len(header)), header]
    for name in sorted(priors):
        rows, columns = np.triu_indices(priors[name].n_features)
        upper = priors[name].precision[:, rows, columns]
        table = np.concatenate([upper, priors[name].response], axis=1)
        parts.append(np.ascontiguousarray(table, "<f8").tobytes())
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def read_priors(data: bytes) -> dict[str, ArmEvidence]:
    """Read what `write_priors` wrote.

    Raises:
        BanditPriorsError: cut, changed, of another version, or no sound evidence.
    """
    if len(data) < _PREFIX.size + _HASH_BYTES:
        raise BanditPriorsError("expected a file of priors; got too few bytes")
    magic, version, header_bytes = _PREFIX.unpack_from(data)
    if magic != _MAGIC or version != _VERSION or header_bytes > _MAX_HEADER_BYTES:
        raise BanditPriorsError(f"expected priors of version {_VERSION}; got other bytes")
    at, end = _PREFIX.size + header_bytes, len(data) - _HASH_BYTES
    if at > end or hashlib.sha256(data[:end]).digest() != data[end:]:
        raise BanditPriorsError("the priors are damaged (their hash differs), fetch them again")
    shapes = _read_header(data[_PREFIX.size : at])
    lengths = {
        name: contribution_length(n_arms=len(arms), n_features=d)
        for name, (arms, d) in shapes.items()
    }
    if at + 8 * sum(lengths.values()) != end:
        raise BanditPriorsError("the priors are as long as their header says; got another length")
    found: dict[str, ArmEvidence] = {}
    for name, (arms, d) in shapes.items():
        flat = np.frombuffer(data, "<f8", lengths[name], at).astype(np.float64)
        at += flat.nbytes
        table = flat.reshape(len(arms), packed_length(d) + d)
        rows, columns = np.triu_indices(d)
        precision = np.zeros((len(arms), d, d))
        precision[:, rows, columns] = table[:, : len(rows)]
        precision[:, columns, rows] = table[:, : len(rows)]
        try:
            found[name] = ArmEvidence(
                arms=arms, precision=precision, response=table[:, len(rows) :].copy()
            )
        except (ValueError, np.linalg.LinAlgError) as error:
            raise BanditPriorsError(f"the priors hold a forbidden value: {error}") from error
    return found


def check_arms(arms: Sequence[str]) -> None:
    """Refuse ids that are no ids, or twice the same.

    Raises:
        ValueError: one is not 1 to 128 characters, or is there twice.
    """
    for arm in arms:
        if not isinstance(arm, str) or not 0 < len(arm) <= MAX_ID_CHARS:
            raise ValueError(f"arms: expected ids of 1 to {MAX_ID_CHARS} characters; got another")
    if len(set(arms)) != len(arms):
        raise ValueError("arms: expected each once; got one twice")


def _read_header(encoded: bytes) -> dict[str, tuple[tuple[str, ...], int]]:
    """Read names, arms and sizes; sorted by name, as the arrays are."""
    try:
        header = json.loads(encoded)
        good = isinstance(header, dict) and canonical_json(header) == encoded
        shapes = {name: _read_shape(entry) for name, entry in header.items()} if good else {}
        check_arms(list(shapes))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BanditPriorsError("the header of the priors cannot be read") from error
    if not good or len(shapes) > MAX_BANDITS:
        raise BanditPriorsError(f"expected canonical JSON of at most {MAX_BANDITS} bandits")
    return shapes


def _read_shape(entry: Any) -> tuple[tuple[str, ...], int]:
    arms, d = entry["arms"], entry["features"]
    if set(entry) != {"arms", "features"} or not isinstance(arms, list) or type(d) is not int:
        raise ValueError("expected arms and features of each bandit; got others")
    check_arms(arms)
    if not 1 <= d <= MAX_FEATURES:
        raise ValueError(f"expected 1 to {MAX_FEATURES} features; got others")
    return tuple(arms), d


def _norm(vector: NDArray[np.floating[Any]]) -> float:
    """Give the L2 norm in float64; the largest entry is taken out, so that nothing overflows."""
    wide = vector.astype(np.float64)
    largest = float(np.abs(wide).max(initial=0.0))
    if not largest:
        return 0.0
    return largest * math.sqrt(float(np.square(wide / largest).sum()))
