"""What this person may need next, said only where enough is known: plain formulas, no model.

Rules a reader can check line by line:

1. Everything is computed from the person's own purchases, or choices, and the time that is passed
   in. Nothing is drawn, stored or sent.
2. Each function gives None, or leaves the item out, where there is less than the evidence that its
   docstring names. Silence is the default.
3. A confidence is a chance where the docstring says "chance", and else a measure of how much
   evidence there is, from 0 to 1. Neither was calibrated: measure before you promise.
4. A sentence says what was computed, addressed to the person. It says "may" of what is guessed.
5. A day is a calendar day in UTC, unless an offset is passed.

| what              | how                                                    | needs           |
|-------------------|--------------------------------------------------------|-----------------|
| replenishment due | share of the own gaps that were shorter than this one  | 3 days          |
| churn risk        | BG/NBD, 1 - P(alive) (Fader, Hardie, Lee 2005)         | 3 days          |
| next category     | own changes of category, smoothed by own frequency     | 5 changes       |
| spend insight     | two whole calendar months of one category              | 2 in each month |
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

MIN_PURCHASE_DAYS: Final = 3
MIN_TRANSITIONS: Final = 5
MIN_FROM_LAST: Final = 3
MIN_MONTH_PURCHASES: Final = 2
MIN_CHANGE: Final = 0.1
"""A smaller change of spending is not worth a sentence."""

LAPSED_AFTER: Final = 3.0
"""So many cycles after the last purchase a habit counts as ended, as in the features."""

DAY_S: Final = 86_400.0
LAST_TIME_S: Final = 253_402_300_799.0
_WEEK_S: Final = 7 * DAY_S
_FARTHEST_OFFSET_S: Final = 15 * 3600
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Purchase:
    """One line that was bought and kept; leave out what was returned.

    Attributes:
        time_s: Seconds since 1970 (UTC).
        item_id: What.
        category: Its category, or empty.
        amount: What it cost in all, 0 or more, or None where that is not known.
    """

    time_s: float
    item_id: str
    category: str = ""
    amount: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.time_s <= LAST_TIME_S:
            raise ValueError("time_s: expected seconds since 1970, before the year 10000")
        if not self.item_id:
            raise ValueError("item_id: expected at least 1 character; got none")
        if self.amount is not None and not (math.isfinite(self.amount) and self.amount >= 0):
            raise ValueError("amount: expected a finite number of 0 or more, or None")


@dataclass(frozen=True, kw_only=True, slots=True)
class Anticipation:
    """One thing that is expected or was noticed.

    Attributes:
        kind: ``"replenishment"``, ``"churn"``, ``"category"`` or ``"spend"``.
        about: The item or the category; empty where it is about the person.
        value: The number, in ``unit``.
        unit: What the number is.
        confidence: From 0 to 1; see the function that made it.
        sentence: What to say, addressed to the person.
    """

    kind: str
    about: str
    value: float
    unit: str
    confidence: float
    sentence: str


def replenishment_due(
    purchases: Iterable[Purchase],
    *,
    now_s: float,
    names: Mapping[str, str] | None = None,
    least: float = 0.5,
) -> tuple[Anticipation, ...]:
    """Say which items may be needed again about now.

    An item's cycle is the median gap between its days of purchase. Its confidence is the chance,
    by its own gaps, that it would have been bought again by today: (shorter or equal gaps + 1) /
    (gaps + 2), Laplace's rule of succession. Needed: 3 days of purchase; after 3 cycles without
    one the habit counts as ended.

    Args:
        purchases: In any order; those after now are left out.
        now_s: Now, seconds since 1970 (UTC).
        names: What to call the items; their ids by default.
        least: The least confidence to mention, from 0 to 1.

    Returns:
        The surest first; the value is how many days it is overdue, below 0 for still to come.

    >>> bought = [Purchase(time_s=day * DAY_S, item_id="oats") for day in (0, 7, 14, 21)]
    >>> [due.sentence for due in replenishment_due(bought, now_s=28 * DAY_S)]
    ['You buy oats about every 7 days, and last bought it 7 days ago: you may need it again.']
    """
    days: dict[str, set[int]] = {}
    for bought in purchases:
        if bought.time_s <= now_s:
            days.setdefault(bought.item_id, set()).add(int(bought.time_s // DAY_S))
    today, found = int(now_s // DAY_S), []
    for item_id, on in sorted(days.items()):
        if len(on) < MIN_PURCHASE_DAYS:
            continue
        gaps = _gaps(sorted(on))
        cycle, elapsed = _median(gaps), today - max(on)
        chance = (sum(gap <= elapsed for gap in gaps) + 1) / (len(gaps) + 2)
        if chance < least or elapsed > LAPSED_AFTER * cycle:
            continue
        name = (names or {}).get(item_id, item_id)
        found.append(
            Anticipation(
                kind="replenishment",
                about=item_id,
                value=elapsed - cycle,
                unit="days overdue",
                confidence=chance,
                sentence=f"You buy {name} about every {_days(cycle)}, and last bought it "
                f"{_days(elapsed)} ago: you may need it again.",
            )
        )
    return tuple(sorted(found, key=lambda due: (-due.confidence, -due.value, due.about)))


@dataclass(frozen=True, kw_only=True, slots=True)
class ChurnParameters:
    """How the people of a shop buy and leave (BG/NBD); time is counted in weeks.

    People buy at rates that are gamma distributed (shape r, rate alpha) and leave after a purchase
    with chances that are beta distributed (a, b). The defaults are Fader, Hardie and Lee's fit to
    CDNOW, a shop for music: right for the formula, a guess for another shop. Fit your own.
    """

    r: float = 0.243
    alpha: float = 4.414
    a: float = 0.793
    b: float = 2.426

    def __post_init__(self) -> None:
        if not all(math.isfinite(x) and x > 0 for x in (self.r, self.alpha, self.a, self.b)):
            raise ValueError("r, alpha, a, b: expected finite numbers above 0; got others")


CDNOW: Final = ChurnParameters()


def chance_alive(
    *, repeats: int, last_week: float, weeks: float, parameters: ChurnParameters = CDNOW
) -> float:
    """Give the chance that a person still buys here: P(alive) of the BG/NBD model.

    1 / (1 + a / (b + x - 1) ((alpha + T) / (alpha + t))^(r + x)) for x > 0 (Fader, Hardie, Lee
    2005, Marketing Science 24 (2), and their note of 2008).

    Args:
        repeats: x, purchases after the first, 0 or more.
        last_week: t, weeks from the first purchase to the last.
        weeks: T, weeks from the first purchase to now, at least t.
        parameters: Of the shop's people.

    Returns:
        The chance; 1 for x = 0, where the model has nothing to go by.

    Raises:
        ValueError: out of range.

    >>> round(chance_alive(repeats=2, last_week=30.43, weeks=38.86), 3)
    0.727
    """
    if repeats < 0 or not 0 <= last_week <= weeks < math.inf:
        raise ValueError("expected repeats of 0 or more, and 0 <= last_week <= weeks; got others")
    if repeats == 0:
        return 1.0
    p = parameters
    log_odds = math.log(p.a / (p.b + repeats - 1)) + (p.r + repeats) * math.log(
        (p.alpha + weeks) / (p.alpha + last_week)
    )
    return 0.5 * (1.0 - math.tanh(0.5 * log_odds))


def churn_risk(
    purchases: Iterable[Purchase], *, now_s: float, parameters: ChurnParameters = CDNOW
) -> Anticipation | None:
    """Say how likely it is that this person buys here no more: 1 - `chance_alive`.

    Days of purchase count as purchases. The confidence is evidence, x / (x + 2) for x repeats: how
    much of the estimate is this person's own, and not the shop's parameters.

    Args:
        purchases: In any order; those after now are left out.
        now_s: Now, seconds since 1970 (UTC).
        parameters: Of the shop's people.

    Returns:
        The risk, from 0 to 1; None with less than 3 days of purchase.
    """
    days = sorted({int(bought.time_s // DAY_S) for bought in purchases if bought.time_s <= now_s})
    if len(days) < MIN_PURCHASE_DAYS:
        return None
    repeats, elapsed = len(days) - 1, int(now_s // DAY_S) - days[-1]
    alive = chance_alive(
        repeats=repeats,
        last_week=(days[-1] - days[0]) * DAY_S / _WEEK_S,
        weeks=(days[-1] - days[0] + elapsed) * DAY_S / _WEEK_S,
        parameters=parameters,
    )
    return Anticipation(
        kind="churn",
        about="",
        value=1.0 - alive,
        unit="chance of no further purchase",
        confidence=repeats / (repeats + 2),
        sentence=f"You used to buy about every {_days(_median(_gaps(days)))}, and last did "
        f"{_days(elapsed)} ago.",
    )


def next_category(categories: Sequence[str], *, smoothing: float = 2.0) -> Anticipation | None:
    """Say which other category this person may turn to after the one they were in last.

    The chance of c after the last category l is (n(l, c) + k f(c)) / (n(l) + k), where n counts the
    person's own changes from one category to another, f(c) is the share of all changes that led
    to c (l left out), and k is the smoothing.

    Args:
        categories: What was bought or looked at, oldest first; empty ones are left out, and a
            category that follows itself counts once.
        smoothing: k, above 0: how many changes the frequency counts as.

    Returns:
        The likeliest, with its chance as value and as confidence; None with less than 5 changes,
        less than 3 of them from the last category, or where two are equally likely.

    Raises:
        ValueError: another smoothing.

    >>> next_category(["tea", "mugs"] * 4 + ["tea"]).sentence
    'After tea you often turn to mugs: you may look for it next.'
    """
    if not (math.isfinite(smoothing) and smoothing > 0):
        raise ValueError("smoothing: expected a finite number above 0; got another")
    stays = [at for at in categories if at]
    visits = [at for place, at in enumerate(stays) if place == 0 or stays[place - 1] != at]
    changes = Counter(pairwise(visits))
    last = visits[-1] if visits else ""
    from_last = sum(n for (start, _), n in changes.items() if start == last)
    if changes.total() < MIN_TRANSITIONS or from_last < MIN_FROM_LAST:
        return None
    into: Counter[str] = Counter()
    for (_, end), n in changes.items():
        into[end] += n
    del into[last]
    share = {end: n / into.total() for end, n in into.items()}
    chance = {
        end: (changes[last, end] + smoothing * share[end]) / (from_last + smoothing)
        for end in sorted(share)
    }
    best, *others = sorted(chance, key=lambda end: -chance[end])
    if others and math.isclose(chance[others[0]], chance[best]):
        return None
    return Anticipation(
        kind="category",
        about=best,
        value=chance[best],
        unit="chance",
        confidence=chance[best],
        sentence=f"After {last} you often turn to {best}: you may look for it next.",
    )


def spend_insight(
    purchases: Iterable[Purchase], *, category: str, now_s: float, utc_offset_s: int = 0
) -> Anticipation | None:
    """Compare the last whole month's spending on a category with the month before.

    Arithmetic, not a forecast: the confidence is evidence, n / (n + 2) for the n purchases of the
    poorer month.

    Args:
        purchases: In any order, of any category, in one currency.
        category: Which one.
        now_s: Now, seconds since 1970 (UTC).
        utc_offset_s: Local time minus UTC, seconds, within 15 hours: where a month begins.

    Returns:
        The change as a share, such as 0.18; None where a month has less than 2 purchases of the
        category or one without an amount, where nothing at all was bought before the earlier month
        began (it may not be whole), or where the change is below 10 %.

    Raises:
        ValueError: another offset.
    """
    if abs(utc_offset_s) > _FARTHEST_OFFSET_S:
        raise ValueError("utc_offset_s: expected seconds within 15 hours; got others")
    this = _month(now_s, utc_offset_s)
    bought = [(_month(one.time_s, utc_offset_s), one) for one in purchases if one.time_s <= now_s]
    latest, earlier = this - 1, this - 2
    sums = []
    for month in (earlier, latest):
        amounts = [one.amount for of, one in bought if of == month and one.category == category]
        known = [amount for amount in amounts if amount is not None]
        if len(amounts) < MIN_MONTH_PURCHASES or len(known) < len(amounts):
            return None
        sums.append((math.fsum(known), len(known)))
    (before, n_before), (after, n_after) = sums
    whole = any(of < earlier for of, _ in bought)
    change = after / before - 1.0 if before > 0 else 0.0
    if not whole or abs(change) < MIN_CHANGE:
        return None
    evidence = min(n_before, n_after)
    return Anticipation(
        kind="spend",
        about=category,
        value=change,
        unit="share",
        confidence=evidence / (evidence + 2),
        sentence=f"In {_MONTHS[latest % 12]} you spent {abs(change) * 100:.0f} % "
        f"{'more' if change > 0 else 'less'} on {category} than in {_MONTHS[earlier % 12]}.",
    )


def _month(time_s: float, utc_offset_s: int) -> int:
    """Number the local month: 12 a year, January is a multiple of 12."""
    local = datetime.fromtimestamp(min(max(time_s + utc_offset_s, 0.0), LAST_TIME_S), tz=UTC)
    return local.year * 12 + local.month - 1


def _gaps(days: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(days)]


def _median(values: Sequence[int]) -> float:
    ordered = sorted(values)
    middle = len(ordered) - 1
    return (ordered[middle // 2] + ordered[(middle + 1) // 2]) / 2


def _days(days: float) -> str:
    number = round(days)
    return f"{number} day" if number == 1 else f"{number} days"
