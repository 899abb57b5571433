"""The plain words and number formats that the table and the page share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

POPULARITY: Final = "popularity"
ALONE: Final = "device-alone"
NO_NOISE: Final = "together-no-noise"
CENTRAL: Final = "central"

_TOGETHER: Final = re.compile(r"together-eps-(?P<epsilon>[0-9.e+-]+?)(?P<real>-as-is)?$")

PROTOCOLS: Final[Mapping[str, tuple[str, str]]] = {
    "discover": ("Something new", "an item they took for the first time, among all they never had"),
    "next": ("What comes next", "an item they took next, among the whole catalogue"),
    "sampled": ("As papers count", "an item they took next, among 99 that they never had"),
}
METRIC_LABELS: Final[Mapping[str, str]] = {"hr@10": "HR@10", "ndcg@10": "NDCG@10"}

REASONS: Final[Mapping[str, str]] = {
    "no-consent": "no consent",
    "consent-withdrawn": "consent withdrawn",
    "consent-expired": "consent expired",
    "too-little-data": "too little data",
    "not-finite": "not a finite number",
    "no-answer": "no answer in time",
    "too-soon": "was in a round too recently",
    "participations-spent": "was in as many rounds as allowed",
}


def budget_of(arm: str) -> float | None:
    """Give the ε in an arm's name, or None.

    Example:
        >>> budget_of("together-eps-8-as-is"), budget_of("central")
        (8.0, None)
    """
    found = _TOGETHER.match(arm)
    if found is None:
        return None
    try:
        return float(found["epsilon"])
    except ValueError:
        return None


def is_for_real_population(arm: str) -> bool:
    """Say whether the arm's noise is that of the real number of people."""
    return arm.endswith("-as-is")


def arm_label(arm: str, real: int | None = None) -> str:
    """Name an arm for a reader.

    Example:
        >>> arm_label("together-eps-2"), arm_label("together-eps-8-as-is", 798)
        ('Together, ε = 2', 'Together, ε = 8, only 798 people')
    """
    fixed = {
        POPULARITY: "Best sellers",
        ALONE: "This device alone",
        NO_NOISE: "Together, no noise",
        CENTRAL: "All data in one place",
    }
    epsilon = budget_of(arm)
    if epsilon is None:
        return fixed.get(arm, arm)
    label = f"Together, ε = {epsilon:g}"
    if is_for_real_population(arm):
        label += f", only {count(real)} people" if real else ", only the real people"
    return label


def in_order(arms: Iterable[str]) -> list[str]:
    """Sort arms from the simplest to the ceiling."""

    def key(arm: str) -> tuple[int, float, bool, str]:
        epsilon = budget_of(arm)
        if epsilon is not None:
            return (2, epsilon, is_for_real_population(arm), arm)
        place = {POPULARITY: 0, ALONE: 1, NO_NOISE: 4, CENTRAL: 5}.get(arm, 6)
        return (place, 0.0, False, arm)

    return sorted(arms, key=key)


def mean_of(metrics: Mapping[str, Any], arm: str, protocol: str, metric: str) -> float | None:
    """Give one mean, or None where it was not measured."""
    value = metrics.get(arm, {}).get(protocol, {}).get(metric, {}).get("mean")
    return None if value is None else float(value)


def std_of(metrics: Mapping[str, Any], arm: str, protocol: str, metric: str) -> float:
    """Give one spread over the seeds; 0 where it was not measured."""
    return float(metrics.get(arm, {}).get(protocol, {}).get(metric, {}).get("std") or 0.0)


def seeds_of(metrics: Mapping[str, Any]) -> int:
    """Give the number of seeds behind the numbers; with fewer than two no spread is known."""
    return max(
        (
            int(value.get("seeds") or 0)
            for arm in metrics.values()
            for protocol in arm.values()
            for value in protocol.values()
        ),
        default=0,
    )


def best_private_arm(metrics: Mapping[str, Any]) -> str | None:
    """Give the arm with the largest budget whose noise is that of the planned population."""
    private = [a for a in metrics if budget_of(a) is not None and not is_for_real_population(a)]
    return in_order(private)[-1] if private else None


def count(number: float | None) -> str:
    """Write a whole number with thin groups.

    Example:
        >>> count(100000)
        '100,000'
    """
    return "–" if number is None else f"{number:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share.

    Example:
        >>> percent(0.0513)
        '5.1 %'
    """
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def reason(word: str) -> str:
    """Write the reason of a refusal in plain words."""
    return REASONS.get(word, word.replace("-", " "))


def total_seconds(seconds: Any) -> float | None:
    """Give the whole time from a number or from stages."""
    if isinstance(seconds, Mapping):
        known = [float(v) for v in seconds.values() if isinstance(v, (int, float))]
        return float(seconds["total"]) if "total" in seconds else sum(known)
    return float(seconds) if isinstance(seconds, (int, float)) else None


def duration(seconds: float | None) -> str:
    """Write a time.

    Example:
        >>> duration(95), duration(3.21)
        ('1 min 35 s', '3.2 s')
    """
    if seconds is None:
        return "–"
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 60 else f"{whole // 60} min {whole % 60:02d} s"


def on_devices(rollout: Mapping[str, Any]) -> str:
    """Say what the devices did with the release, or nothing where none was rolled out.

    Example:
        >>> on_devices({"version": 2, "updated": 9})
        'Release 2 was verified and loaded by 9 devices.'
    """
    if not rollout:
        return ""
    text = f"Release {rollout.get('version')} was verified and loaded by "
    text += f"{count(rollout.get('updated'))} devices"
    median_s = rollout.get("seconds_median")
    text += f", in {1000 * median_s:.0f} ms each (median)." if median_s else "."
    if rollout.get("asked"):
        text += (
            f" Their own top tens held {count(rollout.get('hits'))} of {count(rollout['asked'])} "
            f"targets; {count(rollout.get('same_lists'))} of these lists are, item by item, those "
            f"of the vectorised score that judged the arm."
        )
    return text


def engine_line(engine: Mapping[str, Any]) -> str:
    """Say who asked people, where that was a choice.

    Example:
        >>> engine_line({"name": "kernel", "why": "as asked"})
        'kernel (as asked)'
    """
    why = engine.get("why")
    return f"{engine.get('name')} ({why})" if why else ""


def judged_line(evaluated: Mapping[str, Any]) -> str:
    """Say on how many people the lists were judged, where not on all.

    Example:
        >>> judged_line({"people": 10_000, "of": 100_000}), judged_line({"people": 5, "of": 5})
        ('10,000 of 100,000 people', '')
    """
    people, of = evaluated.get("people"), evaluated.get("of")
    if people is None or of is None or people >= of:
        return ""
    return f"{count(people)} of {count(of)} people"


def finding(result: Mapping[str, Any]) -> tuple[str, str]:
    """Say what a run found: a headline and a paragraph, true also when nothing was gained.

    Args:
        result: What a run found; see the package's docstring.

    Returns:
        The headline and the sentences below it.
    """
    if result.get("superlink"):
        return _superlink_round(result["superlink"], result.get("consent", {}))
    metrics, privacy = result.get("metrics", {}), result.get("privacy", {})
    arm = best_private_arm(metrics) or (NO_NOISE if NO_NOISE in metrics else None)
    ours = mean_of(metrics, arm, "discover", "hr@10") if arm else None
    popular = mean_of(metrics, POPULARITY, "discover", "hr@10")
    if arm is None or ours is None or not popular:
        return "What these devices learned", "There is too little data to compare the lists."
    spread = std_of(metrics, arm, "discover", "hr@10")
    ratio = ours / popular
    epsilon = budget_of(arm)
    under = "without noise" if epsilon is None else f"under differential privacy (ε = {epsilon:g})"
    if ours - spread > popular:
        headline = (
            f"Learning together finds {ratio:.1f} times as many new favourites as best sellers"
        )
    elif ours + spread < popular:
        headline = (
            f"Here, learning together finds fewer new favourites than best sellers ({ratio:.1f} ×)"
        )
    else:
        headline = "Here, learning together is as good as the list of best sellers"
    alone = mean_of(metrics, ALONE, "discover", "hr@10")
    beside = "" if alone is None else f" and {percent(alone)} from the device alone"
    found = (
        f"Of the items that people took for the first time, {percent(ours)} were in the top ten "
        f"that their own device had put together, against {percent(popular)} from best "
        f"sellers{beside}. What was shared: one bounded summary a device, {under}."
    )
    population = privacy.get("population", {})
    assumed, real = population.get("assumed"), population.get("real")
    if epsilon is not None and assumed and real and assumed != real:
        found += (
            f" The noise is as if {count(assumed)} people took part (assumed); the data has "
            f"{count(real)}."
        )
    if population.get("synthetic"):
        found += (
            " These people are synthetic: they show what noise and numbers of people do, not how "
            "good the lists are for anyone."
        )
    if seeds_of(metrics) < 2:
        found += " This is a single seed: the spread is not known."
    return headline, found


def _superlink_round(superlink: Mapping[str, Any], consent: Mapping[str, Any]) -> tuple[str, str]:
    """Say how one round over a SuperLink went, good or bad."""
    good = superlink.get("counted_as_expected") and superlink.get("sum_equals_honest_sum")
    headline = (
        "One round over a real SuperLink: everyone was counted, nobody moved the sum"
        if good
        else "One round over a real SuperLink did not go as it should"
    )
    rejected = sum(consent.get("rejected", {}).values())
    text = (
        f"{count(superlink.get('devices'))} devices took part over TLS with node keys: "
        f"{count(consent.get('accepted'))} were added, {count(rejected)} were not, each under "
        "its reason. "
    )
    equal = "equals" if superlink.get("sum_equals_honest_sum") else "DIFFERS from"
    as_due = "as expected" if superlink.get("counted_as_expected") else "NOT as expected"
    return headline, (
        f"{text}The reasons were counted {as_due}, and the noisy sum {equal} the one of the same "
        "honest devices in one process."
    )
