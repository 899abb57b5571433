"""A journey as a picture: Mermaid text, and an SVG that needs nothing else.

Rules a reader can check line by line:

1. States stand in one column, by the fewest moves from the start, then by the order of the file.
   Arrows down go on the right, arrows up on the left: none crosses a box.
2. An arrow has a number; the list under the picture says what it means.
3. Text from the file is escaped; the SVG has no script, no link and no outer resource.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Final

from client_sdk.experience.journeys.parts import Plan, State
from client_sdk.experience.journeys.words import trigger_in_words

_BOX: Final = (210.0, 54.0)
_ROW: Final = 96.0
_TOP: Final = 106.0
_MARGIN: Final = 48.0
_LINE: Final = 22.0
_LEGEND_CHARS: Final = 116
_CHAR: Final = 6.6
_STYLE: Final = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#1f2933}"
    ".t{font-size:20px;font-weight:600}.n{font-size:15px;font-weight:600}"
    ".s,.l{font-size:12.5px;fill:#52606d}.l{font-size:13px}"
    ".b{font-size:11px;font-weight:700;fill:#fff}"
    ".e{fill:none;stroke:#9aa5b1;stroke-width:1.8}"
)

_MARKER: Final = (
    '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
    'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#9aa5b1"/></marker></defs>'
)


def mermaid(plan: Plan) -> str:
    """Write the journey as a Mermaid state diagram.

    Names of states are made of letters, digits and ``_``, which Mermaid takes as they are.
    """
    ids = {name: name.replace("-", "_") for name in plan.states}
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{name}" as {ids[name]}' for name in plan.states]
    lines.append(f"    [*] --> {ids[plan.start]}")
    for one in plan.transitions:
        label = trigger_in_words(one).replace(":", " ").replace(";", ",").replace("\n", " ")
        lines.append(f"    {ids[one.source]} --> {ids[one.target]}: {label}")
    lines += [f"    {ids[name]} --> [*]" for name, state in plan.states.items() if state.terminal]
    return "\n".join(lines) + "\n"


def svg(plan: Plan) -> str:
    """Draw the journey as one SVG file."""
    rows = _rows(plan)
    legend = [
        _cut(f"{one.source} → {one.target}: {trigger_in_words(one)}") for one in plan.transitions
    ]
    arrows = [_arrow(plan, rows, number) for number in range(len(plan.transitions))]
    left = min([-_BOX[0] / 2, *(apex[0] for _, apex in arrows)]) - _MARGIN
    right = max([_BOX[0] / 2, *(apex[0] for _, apex in arrows)]) + _MARGIN
    width = max([right - left, *(90 + _CHAR * len(line) for line in legend)])
    bottom = _TOP + _ROW * len(rows)
    height = bottom + _LINE * len(legend) + _MARGIN / 2
    shift = (width - right - left) / 2
    parts = [
        _head(width, height),
        f"<title>{_safe(plan.title)}</title><style>{_STYLE}</style>",
        _MARKER,
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="14" fill="#f8fafc"/>',
        f'<text class="t" x="{_MARGIN}" y="44">{_safe(plan.title)}</text>',
        f'<g transform="translate({shift:.1f} 0)">',
    ]
    parts += [f'<path class="e" d="{path}" marker-end="url(#a)"/>' for path, _ in arrows]
    parts += [_state(plan, state, _middle(rows[name])) for name, state in plan.states.items()]
    parts += [_badge(*apex, number + 1) for number, (_, apex) in enumerate(arrows)]
    parts.append("</g>")
    for number, line in enumerate(legend):
        y = bottom + _LINE * number + 8
        parts.append(_badge(_MARGIN + 8, y, number + 1))
        parts.append(
            f'<text class="l" x="{_MARGIN + 28:.0f}" y="{y + 4.5:.1f}">{_safe(line)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(width: float, height: float) -> str:
    size = f"{width:.0f} {height:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img">'
    )


def _rows(plan: Plan) -> dict[str, int]:
    """Give each state its row."""
    moves = {plan.start: 0}
    waiting = [plan.start]
    for name in waiting:
        for one in plan.leaving(name):
            if one.target not in moves:
                moves[one.target] = moves[name] + 1
                waiting.append(one.target)
    # A fallback that nobody reaches by a move stands below all others.
    far = len(plan.states)
    order = sorted(plan.states, key=lambda name: moves.get(name, far))
    return {name: row for row, name in enumerate(order)}


def _arrow(plan: Plan, rows: Mapping[str, int], number: int) -> tuple[str, tuple[float, float]]:
    """Give the path of an arrow, and where its number stands."""
    one = plan.transitions[number]
    twins = [
        place
        for place, other in enumerate(plan.transitions)
        if (other.source, other.target) == (one.source, one.target)
    ]
    twin = twins.index(number)
    down = rows[one.target] - rows[one.source]
    y1, y2 = _middle(rows[one.source]), _middle(rows[one.target])
    if down == 1 and twin == 0:
        x, start, end = 0.0, y1 + _BOX[1] / 2, y2 - _BOX[1] / 2
        return f"M{x:.1f} {start:.1f}L{x:.1f} {end:.1f}", (x, (start + end) / 2)
    side = 1 if down > 0 else -1
    edge = side * _BOX[0] / 2
    far = edge + side * (30 + 44 * max(abs(down), 1) + 40 * twin)
    start, end = y1 + side * 11, y2 - side * 11
    path = f"M{edge:.1f} {start:.1f}C{far:.1f} {start:.1f} {far:.1f} {end:.1f} {edge:.1f} {end:.1f}"
    # The middle of the curve (Bernstein): three quarters of the way to its control points.
    return path, ((edge + 3 * far) / 4, (start + end) / 2)


def _middle(row: int) -> float:
    return _TOP + _ROW * row


def _state(plan: Plan, state: State, y: float) -> str:
    left, top = -_BOX[0] / 2, y - _BOX[1] / 2
    fill, stroke = "#ffffff", "#486581"
    if state.name == plan.start:
        fill, stroke = "#e3f8ef", "#147d64"
    elif state.terminal:
        fill, stroke = "#e4e7eb", "#7b8794"
    channels = dict.fromkeys(rule.channel for rule in (*state.enter, *state.exit))
    below = " · ".join(channels) or ("the end" if state.terminal else "listens")
    return (
        f'<g><title>{_safe(state.meaning)}</title><rect x="{left:.1f}" y="{top:.1f}" '
        f'width="{_BOX[0]:.0f}" height="{_BOX[1]:.0f}" rx="12" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="1.8"/><text class="n" x="0" y="{y - 4:.1f}" text-anchor="middle">'
        f'{_safe(state.name)}</text><text class="s" x="0" y="{y + 16:.1f}" '
        f'text-anchor="middle">{_safe(below)}</text></g>'
    )


def _badge(x: float, y: float, number: int) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="10" fill="#334e68"/><text class="b" x="{x:.1f}" '
        f'y="{y + 4:.1f}" text-anchor="middle">{number}</text>'
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LEGEND_CHARS else f"{text[: _LEGEND_CHARS - 1]}…"


def _safe(text: str) -> str:
    return html.escape(text)
