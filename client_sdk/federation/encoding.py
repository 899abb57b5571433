"""What every encoder needs: what it may see, its three refusals, and strict parameters.

An encoder is the device half of a federated task. It sees an `EncoderInput` and nothing else, keeps
nothing, and either gives a vector or refuses by one of the errors here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import History
from client_sdk.intelligence.propensity_steps import PropensityCases
from client_sdk.signals.features.vector import FeatureVector
from client_sdk.wire import Order, SparseVector
from client_sdk.wire.bandit import ArmEvidence
from client_sdk.wire.outcomes import ExperimentOutcome
from client_sdk.wire.table import RankerSettings

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class OrderOutOfBoundsError(ValueError):
    """The order asks for what its task does not allow; nothing was computed."""


class TooLittleDataError(ValueError):
    """The history holds nothing that this task could use."""


class TaskUnavailableError(ValueError):
    """This device has no model, or no runtime, for the task."""


@dataclass(frozen=True, kw_only=True)
class EncoderInput:
    """What an encoder may see.

    Attributes:
        history: What the person did, by catalogue row.
        n_items: Size of the catalogue.
        graph: The active release's ``.tflite`` bytes; None before any model.
        settings: The active release's ranker settings; None before any model.
        experiments: By the hash of the definition, the experiments whose windows are over for this
            person, and what came of them.
        bandits: By name, what each bandit of this device saw.
        propensities: By name, the cases that each propensity of this device kept.
        features: Computes the person's features; None where there are none.
        categories: The catalogue's categories, for a ranker that uses them.
    """

    history: History
    n_items: int
    graph: bytes | None = None
    settings: RankerSettings | None = None
    experiments: Mapping[str, ExperimentOutcome] = field(default_factory=dict)
    bandits: Mapping[str, ArmEvidence] = field(default_factory=dict)
    propensities: Mapping[str, PropensityCases] = field(default_factory=dict)
    features: Callable[[], FeatureVector] | None = None
    categories: Callable[[], ItemCategories] | None = None


Encoder = Callable[[Order, EncoderInput], SparseVector]


class Parameters:
    """Typed, bounded reading of an order's parameters; nothing may be left over."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._left = dict(parameters)

    def whole(self, name: str, low: int, high: int) -> int:
        """Take a whole number in a range."""
        value = self._left.pop(name, None)
        if type(value) is not int or not low <= value <= high:
            raise OrderOutOfBoundsError(f"{name}: expected a whole number from {low} to {high}")
        return value

    def number(self, name: str, high: float) -> float:
        """Take a finite number above 0."""
        value = self._left.pop(name, None)
        if type(value) not in (int, float) or not 0 < value <= high:
            raise OrderOutOfBoundsError(f"{name}: expected a number above 0 and at most {high:g}")
        if not math.isfinite(number := float(value)):
            raise OrderOutOfBoundsError(f"{name}: expected a finite number")
        return number

    def sha256(self, name: str) -> str:
        """Take 64 hexadecimal digits."""
        value = self._left.pop(name, None)
        if not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise OrderOutOfBoundsError(f"{name}: expected 64 hexadecimal digits")
        return value

    def text(self, name: str, max_chars: int) -> str:
        """Take a text that is not empty."""
        value = self._left.pop(name, None)
        if not isinstance(value, str) or not 0 < len(value) <= max_chars:
            raise OrderOutOfBoundsError(f"{name}: expected 1 to {max_chars} characters")
        return value

    def done(self) -> None:
        """Refuse what is left over."""
        if self._left:
            raise OrderOutOfBoundsError("there is a parameter that the task does not have")
