"""Charts of how it went: who gets good lists, how training went on, who was in each round's sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from simulations.report.plots import GREENS, INK, LINE, QUIET, arm_colours, as_svg, empty_figure
from simulations.report.words import (
    ALONE,
    CENTRAL,
    POPULARITY,
    arm_label,
    best_private_arm,
    count,
    in_order,
    is_for_real_population,
    mean_of,
    reason,
    std_of,
)

_TEXT: Final = 9.5
_MOST_BARS: Final = 60
REASON_COLOURS: Final = (
    "#dca95a",
    "#c8705f",
    "#9a86b4",
    "#5aa3b5",
    "#b9bec2",
    "#d9c7a8",
    "#5b6a9a",
)


def segment_chart(segments: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Draw how often people with little, some and much history find something new.

    Args:
        segments: ``groups`` and ``metrics``; see the package's docstring.
        metrics: Of all arms, for their order and colours.

    Returns:
        An ``<svg>`` element; empty where nothing was measured.
    """
    found = segments.get("metrics", {})
    groups = [str(group.get("name")) for group in segments.get("groups", ())]
    best = best_private_arm(found)
    arms = [arm for arm in (POPULARITY, ALONE, best, CENTRAL) if arm is not None and arm in found]
    values = {arm: [mean_of(found, arm, group, "hr@10") for group in groups] for arm in arms}
    if not any(value is not None for row in values.values() for value in row):
        return ""
    colours = arm_colours(list(metrics) or arms)
    figure, axes = framed(height=3.0)
    width = 0.8 / len(arms)
    for at, arm in enumerate(arms):
        places = [group + (at - (len(arms) - 1) / 2) * width for group in range(len(groups))]
        drawn = axes.bar(
            places,
            [100 * (value or 0.0) for value in values[arm]],
            width=0.92 * width,
            color=colours.get(arm, QUIET),
            yerr=[100 * std_of(found, arm, group, "hr@10") for group in groups],
            error_kw={"ecolor": INK, "elinewidth": 1.0},
            label=legible(arm_label(arm)),
            zorder=2,
        )
        texts = ["–" if value is None else f"{100 * value:.1f}" for value in values[arm]]
        axes.bar_label(drawn, labels=texts, color=INK, fontsize=_TEXT - 1, padding=2)
    axes.set_xticks(
        range(len(groups)),
        [_group_label(group) for group in segments["groups"]],
        fontsize=_TEXT,
        color=INK,
        parse_math=False,
    )
    axes.set_ylabel("HR@10, %", fontsize=_TEXT, color=QUIET)
    add_legend(axes)
    return as_svg(figure, "segments", "Lists of people with little, some and much history")


def course_chart(convergence: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Draw how the table's quality went on, round by round, a line an arm.

    Args:
        convergence: ``arms``: arm to what was seen after which round.
        metrics: Of all arms, for their colours.

    Returns:
        An ``<svg>`` element; empty where nothing was seen.
    """
    arms = {arm: rows for arm, rows in convergence.get("arms", {}).items() if len(rows) > 1}
    if not arms:
        return ""
    colours = arm_colours(list(metrics) or list(arms))
    figure, axes = framed(height=3.0)
    for arm in in_order(arms):
        axes.plot(
            [row["round"] for row in arms[arm]],
            [100 * row["hr@10"] for row in arms[arm]],
            color=colours.get(arm, QUIET),
            linestyle=":" if is_for_real_population(arm) else "-",
            linewidth=1.8,
            marker="o",
            markersize=3,
            label=legible(arm_label(arm)),
        )
    axes.set_xlabel("rounds", fontsize=_TEXT, color=QUIET)
    axes.set_ylabel("HR@10, %", fontsize=_TEXT, color=QUIET)
    axes.set_ylim(bottom=0)
    add_legend(axes)
    return as_svg(figure, "convergence", "How training went on, round by round")


def answer_chart(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Draw who was in each task's sum, and why the others were not.

    Args:
        tasks: ``task``, ``round``, ``invited``, ``accepted`` and ``rejected`` of each.

    Returns:
        An ``<svg>`` element; empty where nobody was invited.
    """
    if not any(task.get("invited") for task in tasks):
        return ""
    words = sorted({word for task in tasks for word in task.get("rejected", {})})
    rows = [[_share(task, task.get("accepted", 0)) for task in tasks]]
    rows += [
        [_share(task, task.get("rejected", {}).get(word, 0)) for task in tasks] for word in words
    ]
    labels = ["added to the sum", *(f"not added: {reason(word)}" for word in words)]
    colours = [GREENS[2], *(REASON_COLOURS[at % len(REASON_COLOURS)] for at in range(len(words)))]
    figure, axes = framed(height=3.0)
    places = list(range(1, len(tasks) + 1))
    if len(tasks) > _MOST_BARS:
        shown = [legible(label) for label in labels]
        axes.stackplot(places, rows, labels=shown, colors=colours, zorder=2)
        axes.set_xlabel("tasks, in order", fontsize=_TEXT, color=QUIET)
    else:
        below = [0.0] * len(tasks)
        for row, label, colour in zip(rows, labels, colours, strict=True):
            axes.bar(
                places, row, bottom=below, color=colour, label=legible(label), width=0.8, zorder=2
            )
            below = [low + more for low, more in zip(below, row, strict=True)]
        few = len(tasks) <= 4
        axes.set_xticks(
            places,
            [_task_label(task) if few else str(at) for at, task in enumerate(tasks, start=1)],
            fontsize=_TEXT if few else _TEXT - 3,
            color=INK,
            parse_math=False,
        )
        if not few:
            axes.set_xlabel("tasks, in order", fontsize=_TEXT, color=QUIET)
    axes.set_ylabel("% of those invited", fontsize=_TEXT, color=QUIET)
    axes.set_ylim(0, 100)
    add_legend(axes)
    return as_svg(figure, "answers", "Who was in each sum, and why the others were not")


def _group_label(group: Mapping[str, Any]) -> str:
    start, end = int(group.get("from", 0)), int(group.get("to", 0))
    span = f"{start} to {end} items" if end > start else f"{end} items"
    return f"{group.get('name')}: {span}\n{count(group.get('people'))} people"


def _task_label(task: Mapping[str, Any]) -> str:
    return f"{task.get('task')}, {task.get('round')}\n{count(task.get('invited'))} invited"


def _share(task: Mapping[str, Any], people: Any) -> float:
    """Give per cent of those invited; tasks differ in how many are."""
    return 100.0 * float(people) / float(task.get("invited") or 1)


def legible(label: str) -> str:
    """Keep a label out of the legend's own rules: one that begins with a line would be left out."""
    return f" {label}" if label.startswith("_") else label


def framed(*, height: float) -> tuple[Any, Any]:
    """Make a figure of the page's width, with a floor and a faint grid."""
    figure, axes = empty_figure(width=9.6, height=height)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color("#c9ccca")
    axes.grid(axis="y", color=LINE, linewidth=0.8, zorder=0)
    axes.tick_params(labelsize=_TEXT, labelcolor=INK)
    return figure, axes


def add_legend(axes: Any) -> None:
    """Name the colours beside the chart; a dollar sign is no formula."""
    legend = axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=_TEXT, labelcolor=INK
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
