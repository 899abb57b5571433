r"""Random numbers of a scenario, by counter: each is a function of what it is for.

Formula, all in 64-bit integers that wrap around, ``mix`` being the step and finaliser of SplitMix64
(Steele, Lea, Flood 2014):

    mix(z) = f(z + 0x9E3779B97F4A7C15)
    f(z):  z ^= z >> 30;  z \*= 0xBF58476D1CE4E5B9;  z ^= z >> 27;  z \*= 0x94D049BB133111EB;
           z ^= z >> 31
    u(seed, what, round, person) =
        ((mix(mix(mix(mix(mix(seed) ^ what) ^ round) ^ person)) >> 11) + 0.5) / 2^53

So a draw does not depend on who else is asked, on their order, on blocks or on workers. What is
drawn once for a person has the round `EVERY_ROUND`. For simulations; never for noise.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

EVERY_ROUND: Final = 2**64 - 1
_GAMMA: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB
_MASK: Final = 2**64 - 1


class Draw(IntEnum):
    """What is drawn; a number never changes its meaning, or old files give other people."""

    ZONE = 1
    REACHABLE = 2
    IDLE = 3
    CHARGING = 4
    UNMETERED = 5
    DROP_OUT = 6
    STRAGGLER = 7
    SKEW = 8
    WRONG_CLOCK = 9
    FIRST_ANSWER = 10
    WITHDRAW = 11
    ANSWER_AGAIN = 12
    ATTACK = 13
    HABIT = 14


def uniforms(
    seed: int, what: Draw, *, people: NDArray[np.int64], round_number: int = EVERY_ROUND
) -> NDArray[np.float64]:
    """Draw a number for each person.

    Args:
        seed: At least 0.
        what: What for.
        people: int64[m], by number.
        round_number: From 0; `EVERY_ROUND` for what stays.

    Returns:
        float64[m], in (0, 1).

    >>> uniforms(7, Draw.ZONE, people=np.array([3, 4])).round(6).tolist()
    [0.686308, 0.632714]
    """
    state = _mix(_mix(_mix(seed & _MASK) ^ what) ^ round_number)
    mixed = _mix_all(_mix_all(people.astype(np.uint64) ^ np.uint64(state)))
    drawn: NDArray[np.float64] = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return drawn


def _mix(value: int) -> int:
    value = (value + _GAMMA) & _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def _mix_all(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values + np.uint64(_GAMMA)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_FIRST)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_SECOND)
    return values ^ (values >> np.uint64(31))
