"""Plots as inline SVG: text stays text, so that the page's own fonts are used."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from simulations.report.words import (
    ALONE,
    CENTRAL,
    NO_NOISE,
    POPULARITY,
    arm_label,
    budget_of,
    count,
    in_order,
    is_for_real_population,
    mean_of,
    reason,
    std_of,
)

INK: Final = "#24313a"
QUIET: Final = "#7b8790"
LINE: Final = "#e4e2da"
GREENS: Final = ("#9fcbb5", "#63ab8b", "#2f8763", "#17664a")
_FIXED: Final[Mapping[str, str]] = {
    POPULARITY: "#b9bec2",
    ALONE: "#dca95a",
    NO_NOISE: "#5aa3b5",
    CENTRAL: "#5b6a9a",
}
_RESET: Final = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_POINTS_AN_INCH: Final = 72
_TEXT: Final = 9.5


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """Give each arm its colour; more budget is a deeper green.

    Args:
        arms: The arms' names.

    Returns:
        Arm to hexadecimal colour.
    """
    private = [arm for arm in in_order(arms) if budget_of(arm) is not None]
    budgets = sorted({budget_of(arm) or 0.0 for arm in private})
    last = len(GREENS) - 1
    step = {budget: GREENS[last * (at + 1) // len(budgets)] for at, budget in enumerate(budgets)}
    chosen = {arm: step[budget_of(arm) or 0.0] for arm in private}
    return {arm: chosen.get(arm) or _FIXED.get(arm, QUIET) for arm in arms}


def bars(
    metrics: Mapping[str, Any],
    protocol: str,
    metric: str,
    *,
    title: str,
    real: int | None = None,
    wide: bool = False,
) -> str:
    """Draw one protocol: a bar an arm, with the spread over the seeds.

    Args:
        metrics: arm -> protocol -> metric -> mean, std, seeds.
        protocol: Which protocol.
        metric: Which metric.
        title: What the picture says, for readers who cannot see it.
        real: The real number of people, for the label of an as-is arm.
        wide: Whether it has the page's whole width.

    Returns:
        An ``<svg>`` element; empty where nothing was measured.
    """
    arms = [arm for arm in in_order(metrics) if mean_of(metrics, arm, protocol, metric) is not None]
    if not arms:
        return ""
    means = [mean_of(metrics, arm, protocol, metric) or 0.0 for arm in arms]
    spreads = [std_of(metrics, arm, protocol, metric) for arm in arms]
    colours = arm_colours(list(metrics))
    share = metric.startswith("hr")
    figure, axes = empty_figure(width=9.6 if wide else 4.6, height=0.42 * len(arms) + 0.25)
    rows = range(len(arms))
    edge = max(mean + spread for mean, spread in zip(means, spreads, strict=True)) or 1.0
    drawn = axes.barh(rows, means, height=0.62, color=[colours[arm] for arm in arms], zorder=2)
    for arm, bar in zip(arms, drawn, strict=True):
        if is_for_real_population(arm):
            bar.set_hatch("////")
            bar.set_edgecolor("#ffffff")
            bar.set_linewidth(0)
    if any(spreads):
        axes.errorbar(
            means, rows, xerr=spreads, fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.6, zorder=3
        )
    for row, (mean, spread) in enumerate(zip(means, spreads, strict=True)):
        text = f"{100 * mean:.1f} %" if share else f"{mean:.3f}"
        axes.text(mean + spread + edge * 0.03, row, text, va="center", color=INK, fontsize=_TEXT)
    axes.set_yticks(
        list(rows),
        [arm_label(arm, real) for arm in arms],
        fontsize=_TEXT,
        color=INK,
        parse_math=False,
    )
    axes.set_xlim(0, edge * 1.22)
    axes.set_ylim(len(arms) - 0.45, -0.55)
    axes.set_xticks([])
    return as_svg(figure, f"{protocol}-{metric}", title)


def funnel(consent: Mapping[str, Any]) -> str:
    """Draw what became of those who were asked: consent, withdrawal, what was added, what was not.

    Args:
        consent: The counts; see the package's docstring.

    Returns:
        An ``<svg>`` element; empty without counts.
    """
    granted, refused = (int(consent.get(key, 0)) for key in ("granted", "refused"))
    steps = [
        ("asked", granted + refused, "#cfd4d6"),
        ("said yes", granted, GREENS[1]),
        ("said no", refused, "#d9c7a8"),
        ("took it back", int(consent.get("withdrawn", 0)), "#dca95a"),
        ("added to the sum", int(consent.get("accepted", 0)), GREENS[3]),
    ]
    steps += [
        (f"not added: {reason(word)}", int(number), "#c8705f")
        for word, number in sorted(consent.get("rejected", {}).items(), key=lambda pair: -pair[1])
    ]
    if not any(number for _, number, _ in steps):
        return ""
    figure, axes = empty_figure(width=9.6, height=0.36 * len(steps) + 0.25)
    edge = max(number for _, number, _ in steps)
    rows = list(range(len(steps)))
    axes.barh(
        rows,
        [number for _, number, _ in steps],
        height=0.64,
        color=[colour for _, _, colour in steps],
        zorder=2,
    )
    for row, (_, number, _) in zip(rows, steps, strict=True):
        axes.text(number + edge * 0.012, row, count(number), va="center", color=INK, fontsize=_TEXT)
    axes.set_yticks(
        rows, [label for label, _, _ in steps], fontsize=_TEXT, color=INK, parse_math=False
    )
    axes.set_xlim(0, edge * 1.1)
    axes.set_ylim(len(steps) - 0.45, -0.55)
    axes.set_xticks([])
    return as_svg(figure, "consent", "What became of the devices that were asked")


def empty_figure(*, width: float, height: float) -> tuple[Any, Any]:
    """Make an empty figure, in inches, without pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color("#c9ccca")
    axes.tick_params(length=0, pad=7)
    axes.patch.set_alpha(0)
    return figure, axes


def as_svg(figure: Any, name: str, title: str) -> str:
    """Write a figure as an element that scales with the page, the same bytes each time.

    Args:
        figure: From `empty_figure`.
        name: Of the picture, once a page: its ids begin with it.
        title: What it says, for readers who cannot see it.
    """
    import matplotlib as mpl

    stream = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "hatch.linewidth": 1.6}
    with mpl.rc_context(settings):
        figure.savefig(
            stream, format="svg", transparent=True, metadata={"Date": None, "Title": title}
        )
    element = _RESET.sub("", stream.getvalue())
    width_px = round(figure.get_size_inches()[0] * _POINTS_AN_INCH * 4 / 3)
    # Ids are unique within one plot only; several share the page.
    plain = re.sub(r"[^a-z0-9]", "-", name)
    element = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{plain}-", element)
    element = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", element, count=1)
    element = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", element, count=1)
    return element.replace("<svg ", f'<svg role="img" style="max-width:{width_px}px" ', 1)
