"""The data-protection summary: what a privacy officer prints, from the ledger and the model cards.

Guarantee: every number in it is computed from a ledger whose chain was verified, or is what a model
card or an audit says, named as such; nothing is typed in here. Names and reasons in a ledger are
somebody's text: the page escapes all of it, loads nothing and runs nothing.

Neighbouring relation: that of the events; it stands beside each ε.

Edge cases:

| input | outcome |
|---|---|
| an empty ledger | a summary that says so |
| a tampered ledger, or accountants that disagree | no summary: the error is raised |
| a population, reason or card that holds markup | shown as the text it is |
| a scope without a budget in its rows | its ε at the default δ, no picture |
| an audit that is not what ``homebody privacy audit --json`` prints | `ValueError` |
| a simulation's releases | a scope of its own, marked as a forecast |

Test: tests/aggregator/test_protection_summary.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

from aggregator.burn_down import burn_down
from aggregator.ledger_reading import Booked, booked, when
from aggregator.published import PublishedRelease
from aggregator.spending import parts_of, scopes_of
from aggregator.summary_words import (
    ALWAYS_LEAVES,
    GLOSSARY,
    LEAVES,
    NEVER_LEAVES,
    OTHER_TASK,
    PURPOSES,
    TO_FILL_IN,
)
from client_sdk.wire import PURPOSE_OF
from privacy.budget import Scope
from privacy.chain import LedgerRow, RowKind, head_of, reservations_of, verify_chain
from privacy.statement import PRV_MISSING

TEMPLATE: Final = "protection_summary.html"
_MAX_AUDIT_BYTES: Final = 1_000_000
_AUDIT_NUMBERS: Final = ("claimed_epsilon", "estimated_epsilon", "lower_bound")


def summarise(
    rows: Sequence[LedgerRow],
    *,
    made_at_s: float,
    releases: Sequence[PublishedRelease] = (),
    audit: Mapping[str, Any] | None = None,
    delta: float | None = None,
) -> dict[str, Any]:
    """Put together what the summary says, as plain JSON values.

    Args:
        rows: The whole ledger, unverified.
        made_at_s: When, seconds since 1970 (UTC).
        releases: What devices were given, oldest first.
        audit: What `read_audit` gave.
        delta: In place of each budget's.

    Raises:
        LedgerTamperedError: the chain is broken.
        AccountantsDisagreeError: an ε can't be stated.
    """
    verify_chain(rows)
    found = booked(rows, reservations_of(rows))
    head = head_of(rows)
    kinds = dict.fromkeys(each.reservation.event.kind for each in found)
    policy = releases[-1].policy if releases else None
    return {
        "made_at": when(int(made_at_s * 1000)),
        "ledger": {
            "rows": len(rows),
            "head": f"{head.seq}:{head.hash}",
            "first_at": when(rows[0].at_ms) if rows else None,
            "last_at": when(rows[-1].at_ms) if rows else None,
        },
        "leaves": {
            "tasks": [
                {
                    "task": kind.value,
                    "purpose": PURPOSE_OF[kind].value,
                    "what": LEAVES.get(kind, OTHER_TASK),
                }
                for kind in kinds
            ],
            "always": list(ALWAYS_LEAVES),
            "never": list(NEVER_LEAVES),
        },
        "purposes": [
            {
                "purpose": purpose.value,
                "what": what,
                "consent_text": None if policy is None else policy.texts.get(purpose),
            }
            for purpose, what in PURPOSES.items()
        ],
        "consent_version": None if policy is None else policy.version,
        "scopes": [_scope(scope, rows, found, delta) for scope in scopes_of(found)],
        "cards": [_card(each) for each in releases],
        "audit": None if audit is None else dict(audit),
        "to_fill_in": list(TO_FILL_IN),
        "glossary": dict(GLOSSARY),
    }


def render_summary(summary: Mapping[str, Any]) -> str:
    """Write the page: one HTML file that needs no network, for the screen and for paper.

    Args:
        summary: What `summarise` gave.
    """
    from jinja2 import Environment, StrictUndefined

    source = resources.files("aggregator").joinpath("templates", TEMPLATE)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(epsilon=_epsilon, number=lambda value: f"{value:,}")
    page = environment.from_string(source.read_text(encoding="utf-8"))
    return page.render(**summary, prv_missing=PRV_MISSING)


def read_audit(data: bytes) -> dict[str, Any]:
    """Read what ``homebody privacy audit --json`` printed; believe its form, not its verdict.

    Raises:
        ValueError: it is something else.
    """
    if len(data) > _MAX_AUDIT_BYTES:
        raise ValueError(f"an audit has at most {_MAX_AUDIT_BYTES:,} bytes; got {len(data):,}")
    expected = "expected what homebody privacy audit --json prints"
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{expected}; got no JSON") from error
    if not isinstance(told, dict):
        raise ValueError(f"{expected}; got no object")  # noqa: TRY004 - a file's content
    for name in _AUDIT_NUMBERS:
        if type(told.get(name)) not in (int, float) or math.isnan(told[name]):
            raise ValueError(f"{expected}; {name} must be a number")
    if type(told.get("canaries")) is not int or type(told.get("holds")) is not bool:
        raise ValueError(f"{expected}; canaries must be a whole number, holds true or false")
    looks = told.get("looks", [])
    if not isinstance(looks, list) or not all(_is_look(each) for each in looks):
        raise ValueError(f"{expected}; each of looks has name, says and contradicts")
    return {
        **{name: _plain(told[name]) for name in _AUDIT_NUMBERS},
        "canaries": told["canaries"],
        "holds": told["holds"],
        "mechanism": str(told["mechanism"]) if "mechanism" in told else None,
        "looks": [{name: each[name] for name in ("name", "says", "contradicts")} for each in looks],
    }


def _is_look(look: Any) -> bool:
    return (
        isinstance(look, dict)
        and all(isinstance(look.get(name), str) for name in ("name", "says"))
        and type(look.get("contradicts")) is bool
    )


def _scope(
    scope: Scope, rows: Sequence[LedgerRow], found: Sequence[Booked], delta: float | None
) -> dict[str, Any]:
    own = [each for each in found if each.scope == scope]
    total, *parts = parts_of(scope, own, delta)
    reasons = {row.reservation: row for row in rows if row.kind == RowKind.VOID}
    limits: dict[str, None] = {}
    for row in rows:
        if row.seq in {each.reservation.row for each in own}:
            told = json.loads(row.body).get("limits", [])
            limits.update(dict.fromkeys(str(each) for each in told))
    return {
        "scope": str(scope),
        "total": total,
        "parts": parts,
        "limits": list(limits),
        "burn_down": burn_down(own),
        "releases": [_release(each) for each in own if each.reservation.counts],
        "voids": [
            {
                "row": each.reservation.row,
                "at": when(reasons[each.reservation.id].at_ms),
                "task": each.reservation.event.kind.value,
                "reason": str(json.loads(reasons[each.reservation.id].body).get("reason", "")),
            }
            for each in own
            if each.reservation.id in reasons
        ],
    }


def _release(each: Booked) -> dict[str, Any]:
    reservation, event = each.reservation, each.reservation.event
    realised = next(
        (note["realised"] for note in reservation.notes if isinstance(note.get("realised"), dict)),
        None,
    )
    return {
        "row": reservation.row,
        "at": when(each.reserved_at_ms),
        "state": reservation.state.value,
        "task": event.kind.value,
        "purpose": event.purpose.value,
        "window": event.window,
        "mechanism": event.mechanism.value,
        "noise_source": event.noise_source.value,
        "noise_multiplier": event.noise_multiplier,
        "clip_norm": event.clip_norm,
        "sensitivity": event.sensitivity,
        "dimension": event.dimension,
        "report_goal": event.report_goal,
        "accepted": reservation.accepted,
        "rounds": event.rounds,
        "min_separation": event.min_separation,
        "max_participations": event.max_participations,
        "realised": realised
        and {name: realised.get(name) for name in ("min_separation", "max_participations")},
        "supplements": reservation.supplements,
    }


def _card(release: PublishedRelease) -> dict[str, Any]:
    manifest, card = release.manifest, release.card
    told: dict[str, Any] = {
        "release": manifest.version,
        "made_at": when(manifest.created_at_s * 1000),
        "card": None,
    }
    if card is not None:
        told["card"] = {
            "name": card.name,
            "purpose": card.purpose,
            "data_used": list(card.data_used),
            "forbidden_features": list(card.forbidden_features),
            "guarantee": card.guarantee.to_json(),
            "parity": {
                "cases": card.parity.cases,
                "tolerance": card.parity.tolerance,
                "largest": max(card.parity.largest_difference.values(), default=0.0),
                "reference": card.parity.reference,
            },
        }
    return told


def _plain(number: float) -> float | str:
    return "infinite" if number == math.inf else number


def _epsilon(value: Any) -> str:
    """Write an ε; at four digits, which is what the accountants agree to.

    >>> _epsilon(1.99999), _epsilon("infinite"), _epsilon(None)
    ('2.0000', 'infinite', '–')
    """
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, (int, float)) else str(value)
