"""What a run found as plain text for a terminal, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

from simulations.report.words import (
    METRIC_LABELS,
    PROTOCOLS,
    arm_label,
    count,
    duration,
    engine_line,
    finding,
    in_order,
    judged_line,
    mean_of,
    on_devices,
    reason,
    seeds_of,
    std_of,
    total_seconds,
)

_WIDTH: Final = 80
_CELL: Final = 15


def format_report(result: Mapping[str, Any]) -> str:
    """Write the headline, the table, the privacy claim and the counts of consent.

    Args:
        result: What a run found; see the package's docstring. What is missing is left out.

    Returns:
        Lines that end with a line feed.
    """
    headline, below = finding(result)
    parts = [
        f"{headline}\n{_wrapped(below)}",
        *(_table(result, metric) for metric in METRIC_LABELS),
        _privacy(result.get("privacy", {})),
        _counts(result),
    ]
    return "\n" + "\n\n".join(part for part in parts if part) + "\n\n"


def _table(result: Mapping[str, Any], metric: str) -> str:
    """One metric: arms down, protocols across, mean ± spread over the seeds."""
    metrics = result.get("metrics", {})
    arms = in_order(metrics)
    protocols = [p for p in PROTOCOLS if any(p in metrics[arm] for arm in arms)]
    if not arms or not protocols:
        return ""
    real = result.get("privacy", {}).get("population", {}).get("real")
    labels = {arm: arm_label(arm, real) for arm in arms}
    width = max(len(label) for label in (*labels.values(), METRIC_LABELS[metric]))
    head = METRIC_LABELS[metric].ljust(width) + "".join(p.rjust(_CELL) for p in protocols)
    lines = [head.rstrip(), "-" * len(head)]
    for arm in arms:
        cells = (_cell(metrics, arm, protocol, metric).rjust(_CELL) for protocol in protocols)
        lines.append(labels[arm].ljust(width) + "".join(cells))
    return "\n".join(lines)


def _cell(metrics: Mapping[str, Any], arm: str, protocol: str, metric: str) -> str:
    mean = mean_of(metrics, arm, protocol, metric)
    if mean is None:
        return "–"
    spread = f" ± {std_of(metrics, arm, protocol, metric):.3f}"
    return f"{mean:.3f}{spread if seeds_of(metrics) > 1 else ''}"


def _privacy(privacy: Mapping[str, Any]) -> str:
    """The claim: ε, δ, adjacency, who is trusted, and for whom the noise was planned."""
    lines = []
    population = privacy.get("population", {})
    assumed, real = population.get("assumed"), population.get("real")
    for release in privacy.get("releases", ()):
        spent, delta, budget = (release.get(k) for k in ("epsilon", "delta", "budget"))
        if spent is None:
            continue
        line = f"  ε = {spent:.4g}"
        line += f" of {budget:g} allowed" if budget is not None else ""
        line += f", δ = {delta:.0e}" if delta is not None else ""
        lines.append(f"{line}  ({arm_label(str(release.get('arm', '')), real)})")
        if release.get("assumed"):
            lines.append(f"    {release['assumed']}")
    if assumed and real:
        planned = f"{count(assumed)} ASSUMED for the noise, " if assumed != real else ""
        kind = "SYNTHETIC" if population.get("synthetic") else "real"
        lines.append(f"  population: {planned}{count(real)} {kind}")
    lines += [
        _wrapped(f"{key}: {privacy[key]}", "  ")
        for key in ("adjacency", "trust", "mechanism", "real")
        if privacy.get(key)
    ]
    return "\n".join(["Privacy", *lines]) if lines else ""


def _counts(result: Mapping[str, Any]) -> str:
    """Engine, consent and time."""
    lines = []
    if engine := engine_line(result.get("engine", {})):
        lines.append(_wrapped(f"Engine: {engine}"))
    if judged := judged_line(result.get("evaluated", {})):
        lines.append(f"Judged on {judged}")
    for arm, why in result.get("left_out", {}).items():
        lines.append(_wrapped(f"Left out: {arm_label(arm)}: {why}"))
    consent = result.get("consent", {})
    if consent:
        words = ("granted", "refused", "withdrawn", "accepted")
        lines.append("Consent: " + ", ".join(f"{count(consent.get(w, 0))} {w}" for w in words))
        rejected = consent.get("rejected", {})
        if rejected:
            listed = ", ".join(f"{count(n)} {reason(word)}" for word, n in rejected.items())
            lines.append(_wrapped(f"Not added: {listed}"))
    if told := on_devices(result.get("rollout", {})):
        lines.append(_wrapped(told))
    seconds = total_seconds(result.get("seconds"))
    if seconds is not None:
        lines.append(f"Time: {duration(seconds)}")
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent + ("  " if indent else "")
    )
