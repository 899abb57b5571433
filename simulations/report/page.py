"""What a run found as one HTML page that needs no network: styles and plots are inside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from simulations.report.charts import answer_chart, course_chart, segment_chart
from simulations.report.plots import arm_colours, bars, funnel
from simulations.report.template import open_template
from simulations.report.words import (
    ALONE,
    METRIC_LABELS,
    POPULARITY,
    PROTOCOLS,
    arm_label,
    best_private_arm,
    count,
    duration,
    engine_line,
    finding,
    in_order,
    judged_line,
    mean_of,
    on_devices,
    percent,
    seeds_of,
    std_of,
    total_seconds,
)

TEMPLATE: Final = "page.html"
_LIST_LENGTH: Final = 10


def render_page(result: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        result: What a run found; see the package's docstring. A section without content is left
            out, and every text is escaped.

    Returns:
        An HTML document.
    """
    from markupsafe import Markup

    metrics = result.get("metrics", {})
    real = result.get("privacy", {}).get("population", {}).get("real")
    headline, below = finding(result)
    return open_template(TEMPLATE).render(
        headline=headline,
        below=below.replace(" %", "\N{NO-BREAK SPACE}%"),
        cards=_cards(result),
        plots={
            metric: [
                {
                    "protocol": protocol,
                    "label": label,
                    "asks": asks,
                    "svg": Markup(  # noqa: S704 - matplotlib escapes the text it writes
                        bars(
                            metrics,
                            protocol,
                            metric,
                            title=f"{label}: {METRIC_LABELS[metric]} of each arm",
                            real=real,
                            wide=protocol == "discover",
                        )
                    ),
                }
                for protocol, (label, asks) in PROTOCOLS.items()
            ]
            for metric in METRIC_LABELS
        },
        table=_table(metrics, real),
        seeds=seeds_of(metrics),
        protocols=PROTOCOLS,
        metric_labels=METRIC_LABELS,
        privacy=_privacy(result),
        consent=result.get("consent", {}),
        **_course(result),
        funnel=Markup(funnel(result.get("consent", {}))),  # noqa: S704 - as above
        example=_example(result.get("example", {})),
        rollout=on_devices(result.get("rollout", {})),
        facts=_facts(result),
        total_s=total_seconds(result.get("seconds")),
    )


def _course(result: Mapping[str, Any]) -> dict[str, Any]:
    """How it went: charts of segments, training and answers, and what was left out."""
    from markupsafe import Markup

    metrics, tasks = result.get("metrics", {}), result.get("tasks", {})
    convergence = result.get("convergence", {})
    best = best_private_arm(tasks)
    arm = best if best is not None else next(iter(tasks), "")
    answers = answer_chart(tasks.get(arm, ()))
    return {
        # matplotlib escapes the text it writes
        "segments": Markup(segment_chart(result.get("segments", {}), metrics)),  # noqa: S704
        "training": Markup(course_chart(convergence, metrics)),  # noqa: S704
        "training_what": str(convergence.get("what", "")),
        "training_people": convergence.get("people"),
        "answers": Markup(answers),  # noqa: S704
        "answers_arm": arm_label(arm, result.get("privacy", {}).get("population", {}).get("real")),
        "engine": engine_line(result.get("engine", {})),
        "judged": judged_line(result.get("evaluated", {})),
        "left_out": [(arm_label(arm), why) for arm, why in result.get("left_out", {}).items()],
    }


def _cards(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The three numbers that a reader takes away."""
    metrics, consent = result.get("metrics", {}), result.get("consent", {})
    arm = best_private_arm(metrics)
    cards = []
    if arm is not None:
        for protocol in ("discover", "next"):
            label, asks = PROTOCOLS[protocol]
            ours = mean_of(metrics, arm, protocol, "hr@10")
            others = [
                f"{percent(value)} {name}"
                for other, name in ((POPULARITY, "best sellers"), (ALONE, "device alone"))
                if (value := mean_of(metrics, other, protocol, "hr@10")) is not None
            ]
            if ours is not None:
                cards.append(
                    {
                        "label": label,
                        "value": percent(ours),
                        "note": f"of top-ten lists hold {asks}",
                        "against": " · ".join(others),
                    }
                )
    granted, refused = consent.get("granted", 0), consent.get("refused", 0)
    if granted + refused:
        cards.append(
            {
                "label": "Said yes",
                "value": percent(granted / (granted + refused), 0),
                "note": f"of {count(granted + refused)} devices that were asked",
                "against": f"{count(refused)} said no · {count(consent.get('withdrawn', 0))} "
                "took it back",
            }
        )
    return cards


def _table(metrics: Mapping[str, Any], real: int | None) -> list[dict[str, Any]]:
    """One row an arm: its colour, name and cells, the best private one marked."""
    colours, best = arm_colours(list(metrics)), best_private_arm(metrics)
    rows = []
    for arm in in_order(metrics):
        cells = []
        for protocol in PROTOCOLS:
            for metric in METRIC_LABELS:
                mean = mean_of(metrics, arm, protocol, metric)
                spread = std_of(metrics, arm, protocol, metric)
                shown = f"{spread:.3f}" if seeds_of(metrics) > 1 else ""
                cells.append(None if mean is None else (f"{mean:.3f}", shown))
        rows.append(
            {
                "label": arm_label(arm, real),
                "colour": colours[arm],
                "cells": cells,
                "best": arm == best,
            }
        )
    return rows


def _privacy(result: Mapping[str, Any]) -> dict[str, Any]:
    """The claim, with what was spent of each budget."""
    privacy = result.get("privacy", {})
    population = privacy.get("population", {})
    releases = []
    for release in privacy.get("releases", ()):
        spent, budget = release.get("epsilon"), release.get("budget")
        if spent is None:
            continue
        delta = release.get("delta", privacy.get("delta"))
        releases.append(
            {
                "label": arm_label(str(release.get("arm", "")), population.get("real")),
                "spent": f"{spent:.3g}",
                "budget": None if budget is None else f"{budget:g}",
                "share": min(1.0, spent / budget) if budget else None,
                "delta": None if delta is None else _power(delta),
                "assumed": release.get("assumed") or "",
            }
        )
    assumed, real = population.get("assumed"), population.get("real")
    return {
        "releases": releases,
        "assumed": assumed,
        "real": real,
        "synthetic": bool(population.get("synthetic")),
        "is_assumed": bool(assumed and real and assumed != real),
        "facts": [
            (label, str(privacy[key]))
            for key, label in (
                ("adjacency", "Who is protected"),
                ("mechanism", "How"),
                ("trust", "Who is trusted"),
            )
            if privacy.get(key)
        ],
        "what_real_gets": privacy.get("real") or "",
    }


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    """One device's two lists, cut to ten."""
    sides = {
        side: [
            {
                "name": str(row.get("name") or row.get("item") or "").strip(),
                "category": str(row.get("category") or ""),
                "reason": str(row.get("reason") or "").rstrip("."),
                "taken": bool(row.get("taken")),
            }
            for row in list(example.get(side, ()))[:_LIST_LENGTH]
        ]
        for side in ("before", "after")
    }
    return {**sides, "history": [str(name) for name in example.get("history", ())][:_LIST_LENGTH]}


def _facts(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Data, settings and timing as plain pairs of words."""
    groups = []
    for key, title in (("data", "Data"), ("settings", "Settings"), ("seconds", "Time")):
        values = result.get(key)
        if key == "seconds" and isinstance(values, (int, float)):
            values = {"total": values}
        if values:
            pairs = [
                (str(name).replace("_", " ").removesuffix(" s"), _shown(str(name), value, key))
                for name, value in values.items()
                if value not in (None, [], ())
            ]
            groups.append({"title": title, "pairs": pairs})
    return groups


def _shown(name: str, value: Any, group: str) -> str:
    """Write one value of the facts."""
    if group == "seconds" and isinstance(value, (int, float)):
        return duration(float(value))
    if name.endswith("_time_s"):
        return f"{datetime.fromtimestamp(float(value), UTC):%Y-%m-%d}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(name, inner, group) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and "seed" not in name:
        return count(value)
    return _power(value) if isinstance(value, float) else str(value)


def _power(value: float) -> str:
    """Write a small number as a power of ten, as people say it.

    Example:
        >>> _power(1e-6), _power(2.5e-7), _power(0.01)
        ('10⁻⁶', '2.5 · 10⁻⁷', '0.01')
    """
    if not 0 < value < 1e-3:
        return f"{value:g}"
    digits, exponent = f"{value:.3e}".split("e")
    raised = str(abs(int(exponent))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = f"{float(digits):g}"
    return f"10⁻{raised}" if mantissa == "1" else f"{mantissa} · 10⁻{raised}"
