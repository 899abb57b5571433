"""What a sweep found as one HTML page that needs no network, and as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

from simulations.report.sweep_charts import (
    frontier_chart,
    knob_chart,
    refusal_chart,
    segments_chart,
    training_chart,
)
from simulations.report.sweep_words import (
    UNPAID,
    beside_label,
    choice_line,
    goal_label,
    headline,
    knob_label,
    settings_words,
    worth,
)
from simulations.report.template import open_template
from simulations.report.words import METRIC_LABELS, PROTOCOLS

TEMPLATE: Final = "sweep.html"
_WIDTH: Final = 80


def render_sweep(result: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        result: From `simulations.sweeps.summary.summarise_sweep`. What is missing is left out,
            and every text is escaped.

    Returns:
        An HTML document.
    """
    from markupsafe import Markup

    title, lead = headline(result)
    knobs = [(knob_label(knob), knob_chart(result, knob)) for knob in result.get("knobs", ())]
    charts = {
        "frontier": frontier_chart(result),
        "training": training_chart(result),
        "refusals": refusal_chart(result),
        "segments": segments_chart(result),
    }
    return open_template(TEMPLATE).render(
        headline=title.replace(" %", "\N{NO-BREAK SPACE}%"),
        below=lead.replace(" %", "\N{NO-BREAK SPACE}%"),
        name=str(result.get("name", "")),
        # matplotlib escapes the text it writes
        charts={name: Markup(svg) for name, svg in charts.items()},  # noqa: S704
        knobs=[(label, Markup(svg)) for label, svg in knobs if svg],  # noqa: S704
        choices=[
            {
                "label": goal_label(goal),
                "line": choice_line(result, goal),
                "assumed": goal.get("assumed", ""),
                "spent": None if goal.get("spent") is None else f"{goal['spent']:.3g}",
            }
            for goal in result.get("goals", ())
        ],
        table=_table(result),
        protocols=PROTOCOLS,
        metric_labels=METRIC_LABELS,
        tried=[
            {
                "label": goal_label(row),
                "settings": settings_words(row.get("settings")),
                "value": "–" if row.get("validation") is None else f"{row['validation']:.4f}",
                "note": row.get("failed") or ("chosen" if row.get("chosen") else ""),
                "chosen": bool(row.get("chosen")),
            }
            for row in result.get("tried", ())
        ],
        seeds={"validation": 0, "test": 0, **result.get("seeds", {})},
        choose_by=METRIC_LABELS.get(str(result.get("choose_by")), ""),
        unpaid=UNPAID,
        people=result.get("people"),
        synthetic=bool(result.get("synthetic")),
    )


def format_sweep(result: Mapping[str, Any]) -> str:
    """Write the headline, the table of what was reported on test, and how settings were chosen."""
    title, lead = headline(result)
    metric = str(result.get("choose_by", "hr@10"))
    rows = [(label, worth(row, metric), row) for label, row in _rows(result)]
    width = max((len(label) for label, _, _ in rows), default=0)
    lines = [f"{METRIC_LABELS.get(metric, metric)}, new items, test".ljust(width)]
    lines.append("-" * max(len(lines[0]), width + 18))
    for label, told, row in rows:
        value = str(row.get("failed") or "–")
        if told:
            spread = f" ± {told.get('std') or 0.0:.4f}" if int(told.get("seeds") or 0) > 1 else ""
            value = f"{told['mean']:.4f}{spread}"
        lines.append(f"{label.ljust(width)}  {value}")
    chosen = [
        textwrap.fill(
            f"{goal_label(goal)}: {choice_line(result, goal)}",
            _WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
        )
        for goal in result.get("goals", ())
    ]
    parts = [
        f"{textwrap.fill(title, _WIDTH)}\n{textwrap.fill(lead, _WIDTH)}",
        "\n".join(lines),
        "\n".join(["Settings", *chosen, textwrap.fill(UNPAID, _WIDTH, initial_indent="  ",
                                                      subsequent_indent="  ")]),
    ]  # fmt: skip
    return "\n" + "\n\n".join(parts) + "\n\n"


def _rows(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    beside = [(beside_label(arm), arm) for arm in result.get("arms", ())]
    return [*((f"Together, {goal_label(goal)}", goal) for goal in result.get("goals", ())), *beside]


def _table(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row an arm: its name, what it spent, whom it trusts, and its cells."""
    rows = []
    for label, row in _rows(result):
        cells: list[tuple[str, str] | None] = []
        for protocol in PROTOCOLS:
            for metric in METRIC_LABELS:
                told = worth(row, metric, protocol)
                spread = f"{told.get('std') or 0.0:.3f}" if told.get("seeds", 0) > 1 else ""
                cells.append((f"{told['mean']:.3f}", spread) if told else None)
        rows.append(
            {
                "label": label,
                "cells": cells,
                "failed": str(row.get("failed") or ""),
                "spent": None if row.get("spent") is None else f"{row['spent']:.3g}",
                "trusted": str(row.get("trusted") or ""),
                "ours": "arm" not in row,
            }
        )
    return rows
