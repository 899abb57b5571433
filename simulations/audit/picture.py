"""The audit as a picture: the scores of those who were in and of those who were not."""

from __future__ import annotations

import io
from typing import Final

import numpy as np

from privacy.audit import MOST_SEPARATION
from simulations.audit.verdict import AuditResult
from simulations.report.plots import GREENS, INK, QUIET

_OUT: Final = "#b9bec2"
_LEAK: Final = "#c8705f"
_BINS: Final = 48


def draw(result: AuditResult) -> str:
    """Draw the histogram of both groups' scores, with what the claim says they look like.

    Returns:
        An SVG document; the same result gives the same bytes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    scores = result.scores
    edge = max(4.5, float(np.abs(np.concatenate([scores.inside, scores.outside])).max()))
    # A leak without any noise would stretch the axis to where nothing can be seen.
    reach = min(edge, MOST_SEPARATION)
    bins = np.linspace(-reach, reach, _BINS + 1).tolist()
    colour = GREENS[2] if result.holds else _LEAK
    axes.hist(scores.outside, bins, density=True, color=_OUT, alpha=0.75, label="were not in")
    axes.hist(scores.inside, bins, density=True, color=colour, alpha=0.6, label="were in")
    grid = np.linspace(-reach, reach, 400)
    for mean, label in ((0.0, None), (scores.mu, "at most, by the claim")):
        density = np.exp(-0.5 * np.square(grid - mean)) / np.sqrt(2.0 * np.pi)
        axes.plot(grid, density, color=INK, linewidth=1.2, linestyle="--", label=label)
    axes.set_xlabel("score of a canary, in deviations of the noise", color=INK)
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=QUIET)
    axes.legend(frameon=False, labelcolor=INK)
    verdict = "holds" if result.holds else "DOES NOT HOLD"
    axes.set_title(
        f"{result.claim.mechanism.value}: the claim {verdict}. "
        f"Claimed ε {result.claimed_epsilon:.3g}, estimated {result.estimated_epsilon:.3g}",
        loc="left",
        color=INK,
        fontsize=11,
        parse_math=False,
    )
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "audit"}):
        figure.savefig(
            stream, format="svg", metadata={"Date": None, "Title": "Scores of the canaries"}
        )
    return stream.getvalue()
