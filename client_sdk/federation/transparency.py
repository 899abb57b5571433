"""The transparency log: everything that left the device, in plain words.

One entry for each message that answers a verified order: invitations accepted, orders answered,
refusals. Answers to what no trusted aggregator signed are one entry with a count, so that a flood
of forgeries can't fill the log. An entry is in the vault before the message may leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal

from client_sdk.signals.vault import Record

TRANSPARENCY_STREAM: Final = "transparency"

Sent = Literal["acceptance", "contribution", "refusal", "unverified"]

_TASKS: Final[Mapping[str, str]] = {
    "item-counts": "which items are popular",
    "item-statistics": "which items go together",
    "item-training": "better suggestions for everyone",
    "bandit-statistics": "which messages and offers are welcome, and when",
    "propensity-training": "how likely something is, such as a purchase or a goodbye",
    "survey": "how many people use the app in which way",
    "model-evaluation": "how good the suggestions are",
    "experiment-outcomes": "which of several ways of doing something works better",
}
_REASONS: Final[Mapping[str, str]] = {
    "no-consent": "you have not agreed to it",
    "consent-withdrawn": "you took your consent back; the signed withdrawal was sent along",
    "consent-expired": "your consent has expired",
    "too-little-data": "there is too little on this device to take part",
    "unknown-task": "this device does not know the task",
    "stale-catalogue": "it was about another catalogue than this device's",
    "out-of-bounds-order": "it asked for more than the protocol allows",
    "already-contributed": "this device had taken part already",
    "too-soon": "this device took part in a round shortly before",
    "participations-spent": "this device took part in this run as often as was promised",
    "participation-unknown": "this device can't know whether it took part in this run before",
    "clock-rolled-back": "the clock of this device was put back",
    "not-idle": "you were using the device",
    "not-charging": "the device was not charging",
    "metered": "the network was paid for by the byte",
    "low-storage": "there was too little room on the device",
    "outbound-guard": "the result did not pass the last check before sending",
    "device-error": "the work failed on this device",
    "late": "the time to answer was over",
}


@dataclass(frozen=True, kw_only=True)
class TransparencyEntry:
    """One thing that left.

    Attributes:
        time_s: When it was made ready to leave, seconds since 1970 (UTC).
        sent: What kind of message; ``unverified`` stands for all answers to forgeries together.
        bytes_sent: Length of the message (the last one, for ``unverified``).
        times: How many messages this entry stands for.
        task_id: The order that was answered; empty for ``unverified``.
        task: The kind of task, and `purpose` the consent it needs.
        population: The ledger's name of those who are asked.
        round: The round within the task.
        reason: Why it was declined; empty otherwise.
        norm: L2 norm of the vector that left; None without one.
        clip_norm: The bound on it.
        entries: How many numbers of the vector are not zero.
        promise: What the aggregator claims for the sum, as in the order.
    """

    time_s: float
    sent: Sent
    bytes_sent: int
    times: int = 1
    task_id: str = ""
    task: str = ""
    purpose: str = ""
    population: str = ""
    round: int = 0
    reason: str = ""
    norm: float | None = None
    clip_norm: float | None = None
    entries: int = 0
    promise: Mapping[str, Any]

    def to_record(self) -> Record:
        """Give the record that keeps this entry: one for each task, message and reason."""
        key = f"{self.sent}/{self.task_id}/{self.reason}"
        return Record(stream=TRANSPARENCY_STREAM, key=key, value=self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Give the entry as plain JSON."""
        return {**vars(self), "promise": dict(self.promise)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TransparencyEntry:
        """Read what `to_json` wrote."""
        return cls(**{entry.name: value[entry.name] for entry in fields(cls)})

    def sentence(self) -> str:
        """Say in plain words what left, why, and what was promised for it."""
        when = datetime.fromtimestamp(self.time_s, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
        about = _TASKS.get(self.task, self.task)
        if self.sent == "unverified":
            return (
                f"{when}: refused {self.times} request(s) that the trusted server had not signed. "
                "Nothing about your history was sent."
            )
        if self.sent == "acceptance":
            return (
                f"{when}: said yes to an invitation to help learn {about} and sent the receipt of "
                f"your consent ({self.bytes_sent} bytes). Nothing about your history was sent."
            )
        if self.sent == "refusal":
            why = _REASONS.get(self.reason, "it is not allowed")
            return (
                f"{when}: declined to help learn {about}, because {why} ({self.bytes_sent} bytes). "
                "Nothing about your history was sent."
            )
        return (
            f"{when}: sent one bounded summary of your history to help learn {about} "
            f"({self.entries} numbers, {self.bytes_sent} bytes, size {self.norm:.3g} of at most "
            f"{self.clip_norm:.3g}). {_promise(self.promise)}"
        )


def _promise(promise: Mapping[str, Any]) -> str:
    if "epsilon" not in promise:
        return "No privacy guarantee was stated for the sum."
    parts = [f"ε = {promise['epsilon']}"]
    if "delta" in promise:
        parts.append(f"δ = {promise['delta']}")
    parts.extend(f"{name}: {promise[name]}" for name in ("adjacency", "trusted") if name in promise)
    return f"The server promises for the sum: {', '.join(parts)}."
