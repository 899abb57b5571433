"""What a feature is: a name, a meaning, where it comes from, and the bins of its histogram.

Rules a reader can check line by line:

1. A definition is data and is checked when it is made.
2. Every value is a finite number. Where nothing is known, the value is the definition's ``unknown``
   and the feature is marked as not known: a model needs no rule for missing numbers, and nobody
   takes the number for a fact.
3. The bins never depend on data, so the histograms of two devices can be added.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

Mode = Literal["real-time", "batch"]
Sensitivity = Literal["ordinary", "sensitive", "protected"]
MODES: Final = get_args(Mode)
SENSITIVITIES: Final[tuple[Sensitivity, ...]] = get_args(Sensitivity)
"""From the least to the most."""

MAX_WINDOW_DAYS: Final = 31
MAX_NAME_CHARS: Final = 64
MAX_BINS: Final = 64
EVER: Final = "ever"
NOW: Final = "now"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_WINDOW: Final = re.compile(r"([1-9][0-9]?) days?")


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureDefinition:
    """One declared feature.

    Attributes:
        name: Lower case, digits and ``_``.
        meaning: One plain sentence that a person understands.
        sources: Kinds of events; none for what comes from the moment.
        window: ``"7 days"`` (calendar days, UTC, today is one of them; at most 31), ``"ever"``
            or ``"now"``.
        mode: ``"real-time"``: worth reading after each event; ``"batch"``: changes slowly, once a
            day is enough.
        sensitivity: See `client_sdk.signals.features.policy`.
        unit: ``"days"``, ``"events"``, ``"share"``...
        bins: The edges of the histogram, increasing; see `client_sdk.signals.features.histogram`.
        unknown: The value where nothing is known.
        codes: For a feature whose value is a place in a list: that list.

    Raises:
        ValueError: a field is not as promised; the message names it.

    >>> FeatureDefinition(name="visits", meaning="How often.", sources=("screen",), window="7 days",
    ...                   mode="real-time", unit="events", bins=(0.0, 1.0, 5.0)).window_days
    7
    """

    name: str
    meaning: str
    sources: tuple[str, ...]
    window: str
    mode: Mode
    unit: str
    bins: tuple[float, ...]
    sensitivity: Sensitivity = "ordinary"
    unknown: float = 0.0
    codes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > MAX_NAME_CHARS:
            raise ValueError(
                f"name: expected 1 to {MAX_NAME_CHARS} lower-case letters, digits and _, "
                "a letter first; got another name"
            )
        if not self.meaning.endswith("."):
            raise ValueError(f"meaning of {self.name}: expected a sentence with a full stop")
        if self.window not in (EVER, NOW) and not 1 <= window_days(self.window) <= MAX_WINDOW_DAYS:
            raise ValueError(
                f"window of {self.name}: expected 1 to {MAX_WINDOW_DAYS} days; got more"
            )
        if self.mode not in MODES:
            raise ValueError(f"mode of {self.name}: expected one of {MODES}; got another")
        if self.sensitivity not in SENSITIVITIES:
            raise ValueError(f"sensitivity of {self.name}: expected one of {SENSITIVITIES}")
        if not math.isfinite(self.unknown):
            raise ValueError(f"unknown of {self.name}: expected a finite number; got none")
        check_bins(self.name, self.bins)

    @property
    def window_days(self) -> int | None:
        """The length of the window; None for ``"ever"`` and ``"now"``."""
        return None if self.window in (EVER, NOW) else window_days(self.window)


def window_days(window: str) -> int:
    """Read the length of a window.

    Raises:
        ValueError: neither ``"1 day"`` nor ``"7 days"`` or alike.
    """
    found = _WINDOW.fullmatch(window)
    if found is None:
        raise ValueError('window: expected "ever", "now" or a number of days such as "7 days"')
    return int(found[1])


def check_bins(name: str, bins: tuple[float, ...]) -> None:
    """Refuse edges that are not finite, not increasing, or not 2 to 64 of them."""
    rises = all(low < high for low, high in itertools.pairwise(bins))
    good = rises and all(math.isfinite(edge) for edge in bins)
    if not good or not 2 <= len(bins) <= MAX_BINS:
        raise ValueError(f"bins of {name}: expected 2 to {MAX_BINS} increasing finite edges")
