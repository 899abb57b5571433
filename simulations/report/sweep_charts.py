"""Charts of a sweep: utility against ε, what each setting does, training, answers, segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from simulations.report.charts import REASON_COLOURS, add_legend, framed, legible
from simulations.report.plots import GREENS, INK, QUIET, as_svg
from simulations.report.sweep_words import beside_label, goal_label, knob_label, worth
from simulations.report.words import ALONE, CENTRAL, POPULARITY, count, reason

_TEXT: Final = 9.5
_LINES: Final = ("#17664a", "#5aa3b5", "#9a86b4", "#c8705f", "#dca95a", "#5b6a9a", "#7b8790")
_BESIDE: Final = {
    POPULARITY: "#9aa1a6",
    ALONE: "#dca95a",
    CENTRAL: "#5b6a9a",
    "own-frequency": "#c9a9a6",
    "item-knn": "#7f6f4f",
    "central-ials": "#a05195",
}
_METRIC: Final = "hr@10"


def frontier_chart(result: Mapping[str, Any]) -> str:
    """Draw what is found at each ε on test, a line a population, beside the other arms.

    Args:
        result: See `simulations.sweeps.summary`.

    Returns:
        An ``<svg>`` element; empty where nothing was measured.
    """
    known = [goal for goal in result.get("goals", ()) if worth(goal, _METRIC)]
    if not known:
        return ""
    beside = [arm for arm in result.get("arms", ()) if worth(arm, _METRIC)]
    figure, axes = framed(height=4.2)
    for at, (_, goals) in enumerate(_over_epsilon(known)):
        label = f"Together, {_noise_words(goals[0])}"
        _points(axes, goals, _LINES[at % len(_LINES)], label)
    for at, (name, arms) in enumerate(_over_epsilon(beside)):
        label = f"{beside_label({'arm': name})}, {_noise_words(arms[0])}"
        _points(axes, arms, REASON_COLOURS[at % len(REASON_COLOURS)], label, ":")
    for arm in beside:
        if arm.get("epsilon") is None:
            _level(axes, arm, _beside_colour(arm), beside_label(arm), "--")
    for goal in known:
        if goal["epsilon"] is None:
            _level(axes, goal, "#5aa3b5", "Together, no noise", "-.")
    ticks = sorted({goal["epsilon"] for goal in known if goal["epsilon"] is not None})
    if ticks:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set_xlabel("ε, smaller is more private", fontsize=_TEXT, color=QUIET)
    axes.set_ylabel("HR@10 on test, %", fontsize=_TEXT, color=QUIET)
    axes.set_ylim(bottom=0)
    add_legend(axes)
    return as_svg(figure, "frontier", "What is found at each privacy budget, on the test split")


def knob_chart(result: Mapping[str, Any], knob: str) -> str:
    """Draw, for each goal, the best that was found on validation with each value of a setting.

    Returns:
        An ``<svg>`` element; empty where the setting does not vary.
    """
    lines: dict[str, dict[float, float]] = {}
    for row in result.get("tried", ()):
        value, found = row.get("settings", {}).get(knob), row.get("validation")
        if value is not None and found is not None:
            line = lines.setdefault(goal_label(row), {})
            line[value] = max(found, line.get(value, 0.0))
    values = sorted({value for line in lines.values() for value in line})
    if len(values) < 2:
        return ""
    figure, axes = framed(height=3.0)
    for at, (label, line) in enumerate(lines.items()):
        xs = sorted(line)
        axes.plot(
            xs,
            [100 * line[x] for x in xs],
            color=_LINES[at % len(_LINES)],
            linewidth=1.8,
            marker="o",
            markersize=4,
            label=legible(label),
        )
    if values[0] > 0 and values[-1] / values[0] >= 8:
        axes.set_xscale("log")
    if len(values) <= 10:
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    axes.set_xlabel(knob_label(knob), fontsize=_TEXT, color=QUIET, parse_math=False)
    name = str(result.get("choose_by", _METRIC)).upper()
    axes.set_ylabel(f"{name} on validation, %", fontsize=_TEXT, color=QUIET)
    axes.set_ylim(bottom=0)
    add_legend(axes)
    return as_svg(figure, f"knob-{knob}", f"What {knob_label(knob)} is worth, on validation")


def training_chart(result: Mapping[str, Any]) -> str:
    """Draw how training went on with the chosen settings, a line a goal.

    Returns:
        An ``<svg>`` element; empty where nothing was looked at.
    """
    looked = [goal for goal in result.get("goals", ()) if len(goal.get("course", ())) > 1]
    if not looked:
        return ""
    figure, axes = framed(height=3.0)
    for at, goal in enumerate(looked):
        axes.plot(
            [row["round"] for row in goal["course"]],
            [100 * row[_METRIC] for row in goal["course"]],
            color=_LINES[at % len(_LINES)],
            linewidth=1.8,
            marker="o",
            markersize=3,
            label=legible(goal_label(goal)),
        )
    axes.set_xlabel("rounds", fontsize=_TEXT, color=QUIET)
    axes.set_ylabel("HR@10, %", fontsize=_TEXT, color=QUIET)
    axes.set_ylim(bottom=0)
    add_legend(axes)
    return as_svg(figure, "training", "How training went on with the chosen settings")


def refusal_chart(result: Mapping[str, Any]) -> str:
    """Draw who was in the sums of the chosen settings, and why the others were not.

    Returns:
        An ``<svg>`` element; empty where nobody was invited.
    """
    rows = [
        (goal_label(goal), goal["answers"])
        for goal in result.get("goals", ())
        if goal.get("answers", {}).get("invited")
    ]
    if not rows:
        return ""
    words = list(dict.fromkeys(word for _, told in rows for word in told["rejected"]))
    figure, axes = framed(height=0.45 * len(rows) + 0.9)
    places = list(range(len(rows)))
    left = [0.0] * len(rows)
    parts = [("added to the sum", GREENS[2], [told["accepted"] for _, told in rows])]
    parts += [
        (
            f"not added: {reason(word)}",
            REASON_COLOURS[at % len(REASON_COLOURS)],
            [told["rejected"].get(word, 0) for _, told in rows],
        )
        for at, word in enumerate(words)
    ]
    for label, colour, counts in parts:
        shares = [
            100 * each / told["invited"] for each, (_, told) in zip(counts, rows, strict=True)
        ]
        axes.barh(places, shares, left=left, color=colour, label=legible(label), height=0.62)
        left = [low + more for low, more in zip(left, shares, strict=True)]
    axes.set_yticks(
        places, [label for label, _ in rows], fontsize=_TEXT, color=INK, parse_math=False
    )
    axes.set_xlim(0, 100)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("% of all invitations", fontsize=_TEXT, color=QUIET)
    add_legend(axes)
    return as_svg(figure, "refusals", "Who was in the sums, and why the others were not")


def segments_chart(result: Mapping[str, Any]) -> str:
    """Draw how often people with little, some and much history find something new, on test.

    Returns:
        An ``<svg>`` element; empty where nothing was measured.
    """
    groups = [str(group.get("name")) for group in result.get("segments", ())]
    goals = [goal for goal in result.get("goals", ()) if goal.get("segments")]
    arms = [
        arm for arm in result.get("arms", ()) if arm.get("segments") and arm.get("epsilon") is None
    ]
    bars = [(beside_label(arm), _beside_colour(arm), arm) for arm in arms]
    bars += [
        (f"Together, {goal_label(goal)}", _LINES[at % len(_LINES)], goal)
        for at, goal in enumerate(goals)
    ]
    if not groups or not bars:
        return ""
    figure, axes = framed(height=3.4)
    width = 0.84 / len(bars)
    for at, (label, colour, row) in enumerate(bars):
        told = [row["segments"].get(group, {}).get(_METRIC, {}) for group in groups]
        axes.bar(
            [group + (at - (len(bars) - 1) / 2) * width for group in range(len(groups))],
            [100 * (each.get("mean") or 0.0) for each in told],
            width=0.9 * width,
            color=colour,
            yerr=[100 * (each.get("std") or 0.0) for each in told],
            error_kw={"ecolor": INK, "elinewidth": 0.9},
            label=legible(label),
            zorder=2,
        )
    axes.set_xticks(
        range(len(groups)),
        [_group_words(group) for group in result["segments"]],
        fontsize=_TEXT,
        color=INK,
        parse_math=False,
    )
    axes.set_ylabel("HR@10 on test, %", fontsize=_TEXT, color=QUIET)
    add_legend(axes)
    return as_svg(figure, "segments", "Lists of people with little, some and much history")


def _beside_colour(arm: Mapping[str, Any]) -> str:
    return _BESIDE.get(str(arm.get("arm")), QUIET)


def _over_epsilon(
    rows: Sequence[Mapping[str, Any]],
) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Group what has a budget into lines over ε: an arm and a population each, with its name."""
    lines: dict[tuple[str, Any], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("epsilon") is not None:
            lines.setdefault((str(row.get("arm", "")), row["population"]), []).append(row)
    return [
        (name, sorted(line, key=lambda row: float(row["epsilon"])))
        for (name, _), line in lines.items()
    ]


def _noise_words(row: Mapping[str, Any]) -> str:
    assumed = " (assumed)" if row.get("assumed") else ""
    return f"noise for {count(row.get('population'))} people{assumed}"


def _points(
    axes: Any, rows: Sequence[Mapping[str, Any]], colour: str, label: str, style: str = "-"
) -> None:
    """Draw a line over ε, with the spread over the seeds."""
    told = [worth(row, _METRIC) for row in rows]
    axes.errorbar(
        [row["epsilon"] for row in rows],
        [100 * each["mean"] for each in told],
        yerr=[100 * (each.get("std") or 0.0) for each in told],
        color=colour,
        linestyle=style,
        linewidth=2.0,
        marker="o",
        markersize=5,
        capsize=3,
        label=legible(label),
        zorder=3,
    )


def _level(axes: Any, row: Mapping[str, Any], colour: str, label: str, style: str) -> None:
    """Draw a value that no ε changes, with the spread over the seeds."""
    told = worth(row, _METRIC)
    mean, std = 100 * told["mean"], 100 * (told.get("std") or 0.0)
    axes.axhline(mean, color=colour, linestyle=style, linewidth=1.4, label=legible(label), zorder=2)
    if std:
        axes.axhspan(mean - std, mean + std, color=colour, alpha=0.10, linewidth=0, zorder=1)


def _group_words(group: Mapping[str, Any]) -> str:
    start, end = int(group.get("from", 0)), int(group.get("to", 0))
    span = f"{start} to {end} items" if end > start else f"{end} items"
    return f"{group.get('name')}: {span}\n{count(group.get('people'))} people"
