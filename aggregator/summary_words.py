"""The fixed words of the data-protection summary: what leaves a device, what officers fill in.

Each sentence about the software is in docs/threat-model.md too, with the tests that hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from client_sdk.wire import Purpose, TaskKind

LEAVES: Final[Mapping[TaskKind, str]] = {
    TaskKind.ITEM_COUNTS: (
        "One number for each item of the catalogue: whether the person had it, scaled so that the "
        "whole vector stays within the clip norm."
    ),
    TaskKind.ITEM_STATISTICS: (
        "One number for each pair of the most frequent items: how much of the person's history is "
        "both, scaled so that the whole vector stays within the clip norm."
    ),
    TaskKind.ITEM_TRAINING: (
        "The change that a few learning steps on the person's history make to the item table, "
        "clipped; in as many rounds as the table of releases says."
    ),
    TaskKind.EXPERIMENT_OUTCOMES: (
        "For the one arm of an experiment that the person was in: what they did, within bounds "
        "fixed beforehand."
    ),
    TaskKind.BANDIT_STATISTICS: (
        "Sums over the decisions that the device took: in which situation, and whether they were "
        "answered, clipped."
    ),
    TaskKind.PROPENSITY_TRAINING: (
        "The change that a few learning steps on the device's own cases (what was known, and "
        "whether it happened) make to the weights of one propensity, clipped; in as many rounds as "
        "the table of releases says."
    ),
    TaskKind.SURVEY: (
        "For each question, in which of a few bins fixed beforehand the person is; all questions "
        "together stay within one clip norm."
    ),
    TaskKind.MODEL_EVALUATION: (
        "How well one or two models placed the person's latest item: a few numbers between 0 and "
        "1, clipped."
    ),
}
OTHER_TASK: Final = "One vector of numbers, clipped, as the task's documentation describes it."

ALWAYS_LEAVES: Final = (
    "The device's public key, a pseudonym, with each vector and each consent receipt.",
    "A consent receipt for each answer: purpose, day, version of the text, signature.",
    "What any connection shows to whoever carries it: a network address, the time, and the size.",
)
NEVER_LEAVES: Final = (
    "Single events, with their times, order and prices.",
    (
        "The private taste vector, the decision log, reasons and wishes. What a task above takes "
        "from them leaves inside its one clipped vector only."
    ),
    "Names, addresses, account identifiers; the SDK keeps accounts as keyed hashes, on the device.",
)

PURPOSES: Final[Mapping[Purpose, str]] = {
    Purpose.PERSONALISE: "Sorting what this person sees, on this device. Nothing leaves it.",
    Purpose.TRAIN: "Learning together: one model for everyone, from noisy sums.",
    Purpose.STATISTICS: "Counting together: how popular, how often, how much, from noisy sums.",
}

TO_FILL_IN: Final = (
    "Controller, and contact",
    "Data protection officer",
    "Legal basis for personalise (on the device; access to the device's storage)",
    "Legal basis for train",
    "Legal basis for statistics",
    "Recipients and processors (who runs the aggregator and the model server, where)",
    "Retention: consent receipts, ledger, releases",
    "Impact assessment: reference, and day",
    "Why this epsilon is acceptable for these people and purposes",
    "Next review",
)

GLOSSARY: Final[Mapping[str, str]] = {
    "adjacency": (
        "Which two situations the claim compares: everybody, and everybody but this one person."
    ),
    "aggregator": "The server that adds vectors up. It sees each one, and is trusted not to look.",
    "budget": "The most ε, at a δ, that all releases about one population may cost; a hard stop.",
    "clip norm": "The largest length that one person's vector may have; the noise is set by it.",
    "δ (delta)": "The small chance, one in a million for 1e-6, that the bound by ε does not hold.",
    "ε (epsilon)": (
        "How much a release may reveal of one person's taking part: any conclusion is at most e^ε "
        "times as likely as without them. 0 reveals nothing; it adds up over releases."
    ),
    "head": "Number and fingerprint of the ledger's last row; noted elsewhere, it dates the book.",
    "ledger": "The append-only book of releases; each row seals the one before.",
    "mechanism": "How noise was added; its name in the literature.",
    "minimum separation": "The fewest rounds between two contributions of one device in a run.",
    "noise multiplier": "Deviation of the noise over the most that one person can change.",
    "participations": "In how many rounds of a run one device may be, at most.",
    "PLD, PRV, Rényi DP": (
        "Three ways of computing ε. PLD's is stated, PRV's (another library's) is an upper bound "
        "beside it, Rényi DP's a looser one. Where they contradict each other nothing is stated."
    ),
    "population": "The people whose releases share one budget.",
    "report goal": "How many people a sum is divided by; fixed before anybody answers.",
    "void": "A reservation that was given back because nothing was released.",
    "window": "The label, such as a quarter, under which a release is booked.",
}
