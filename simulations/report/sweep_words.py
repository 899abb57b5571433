"""The plain words that a sweep's table and page share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simulations.report.words import ALONE, CENTRAL, METRIC_LABELS, POPULARITY, arm_label, count

UNPAID: Final = (
    "Choosing looked at validation without paying for it. In a simulation that is free; on real "
    "people, trying settings spends privacy as well."
)
_KNOBS: Final[Mapping[str, str]] = {
    "clip": "clip norm",
    "cohort": "people in a round",
    "top_items": "items covered (K)",
    "min_separation": "rounds between two of one person (b)",
    "rounds": "rounds",
}
_ARMS: Final[Mapping[str, str]] = {
    "item-knn": "Neighbouring items, all data in one place",
    "central-ials": "iALS, all data in one place",
    "central-dp-sgd": "DP-SGD, all data in one place",
    "local-dp": "Noise on each device",
    "own-frequency": "What the person had most often",
}


def knob_label(name: str) -> str:
    """Name a setting that varies."""
    return _KNOBS.get(name, name)


def goal_label(goal: Mapping[str, Any]) -> str:
    """Name a goal, with its assumption where there is one.

    Example:
        >>> goal_label({"epsilon": 2.0, "population": 1000, "assumed": "simulation: ..."})
        'ε = 2, noise as if 1,000 people (assumed)'
        >>> goal_label({"epsilon": None})
        'no noise'
    """
    epsilon = goal.get("epsilon")
    if epsilon is None:
        return "no noise"
    label = f"ε = {epsilon:g}"
    if goal.get("assumed"):
        label += f", noise as if {count(goal.get('population'))} people (assumed)"
    return label


def beside_label(arm: Mapping[str, Any]) -> str:
    """Name an arm to compare with."""
    name = str(arm.get("arm", ""))
    label = arm_label(name) if name in {POPULARITY, ALONE, CENTRAL} else _ARMS.get(name, name)
    return label if arm.get("epsilon") is None else f"{label}, {goal_label(arm)}"


def settings_words(settings: Mapping[str, Any] | None) -> str:
    """Write settings.

    Example:
        >>> settings_words({"clip": 0.5, "rounds": 8}), settings_words({}), settings_words(None)
        ('clip 0.5, rounds 8', 'nothing was varied', 'all settings failed')
    """
    if settings is None:
        return "all settings failed"
    written = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    return written or "nothing was varied"


def choice_line(result: Mapping[str, Any], goal: Mapping[str, Any]) -> str:
    """Say which settings were chosen, on what, and where the numbers are from."""
    seeds, of = result.get("seeds", {}), int(goal.get("of") or 0)
    if goal.get("chosen") is None:
        return f"chosen on validation: none, as all {of} settings failed; nothing reported"
    metric = METRIC_LABELS.get(str(result.get("choose_by")), str(result.get("choose_by")))
    tried = f"of {of} {'setting' if of == 1 else 'settings'}"
    return (
        f"chosen on validation: {settings_words(goal['chosen'])}, {tried} "
        f"(best {metric} of {seed_words(seeds.get('validation'))}); "
        f"reported on test, {seed_words(seeds.get('test'))}"
    )


def seed_words(seeds: Any) -> str:
    """Write how many seeds.

    Example:
        >>> seed_words(1), seed_words(3)
        ('1 seed', '3 seeds')
    """
    number = int(seeds or 0)
    return f"{number} seed{'' if number == 1 else 's'}"


def worth(row: Mapping[str, Any], metric: str, protocol: str = "discover") -> dict[str, Any]:
    """Give mean, std and seeds on test; empty where nothing was measured."""
    found = row.get("test", {}).get(protocol, {}).get(metric, {})
    return dict(found) if found.get("mean") is not None else {}


def headline(result: Mapping[str, Any]) -> tuple[str, str]:
    """Say what a sweep found: a headline and a paragraph, true also when nothing was gained."""
    goals = result.get("goals", ())
    known = [goal for goal in goals if goal.get("epsilon") is not None and worth(goal, "hr@10")]
    kind = "synthetic people" if result.get("synthetic") else "people"
    seeds = seed_words(result.get("seeds", {}).get("test"))
    lead = (
        f"{count(len(result.get('tried', ())))} cells were tried on validation with "
        f"{count(result.get('people'))} {kind}; the best settings for each budget were run once "
        f"more on test, {seeds}."
    )
    if not known:
        return "What these settings are worth", f"{lead} No budget has a number."
    low = min(known, key=lambda goal: goal["epsilon"])
    found = worth(low, "hr@10")["mean"]
    arms = [each for each in result.get("arms", ()) if each.get("arm") == POPULARITY]
    popular = worth(arms[0], "hr@10").get("mean") if arms else None
    title = f"At {goal_label(low)}: {100 * found:.1f} % of new favourites found"
    if popular is not None:
        title += f"; best sellers find {100 * popular:.1f} %"
    if result.get("synthetic"):
        lead += (
            " These people are synthetic: they show what noise and numbers of people do, not how "
            "good the lists are for anyone."
        )
    return title, lead
