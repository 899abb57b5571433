"""The doctor: looks at a store from the outside in, and says what to do. It changes nothing.

Rules a reader can check line by line:

1. Each finding is sound or a problem; a problem says what to do. Nothing of the person is in it.
2. What depends on something that failed is not looked at: the first problem is the one to solve.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from client_sdk.errors import VaultError
from client_sdk.federation.consent import ConsentState
from client_sdk.home import Homebody
from client_sdk.opening import DELIVERY_FOLDER, KeptReleases
from client_sdk.ports import KeyStore
from client_sdk.signals.signals import SignalRules
from client_sdk.signals.vault import Vault


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at, and how it is."""

    sound: bool
    text: str


def examine(folder: Path, key_store: KeyStore, rules: SignalRules) -> list[Finding]:
    """Look at everything that can be wrong with one person's store.

    Args:
        folder: The folder of the store.
        key_store: Where its key lies.
        rules: To open it with.

    Returns:
        The findings, in the order in which they were looked at.
    """
    findings: list[Finding] = []
    try:
        vault = Vault.open(folder, key_store)
    except VaultError as error:
        return [Finding(sound=False, text=f"the store does not open: {error}")]
    try:
        problems = vault.check()
        findings += [Finding(sound=False, text=problem) for problem in problems]
        if not problems:
            findings.append(
                Finding(
                    sound=True,
                    text=f"every page and record opens: {vault.count:,} events, "
                    f"{vault.size_bytes / 1024:,.0f} KiB, readable by its owner only",
                )
            )
    finally:
        vault.close()
    return findings if problems else findings + _inside(folder, key_store, rules)


def _inside(folder: Path, key_store: KeyStore, rules: SignalRules) -> list[Finding]:
    started = time.perf_counter()
    try:
        home = Homebody.open(
            folder, key_store=key_store, releases=KeptReleases(folder), rules=rules
        )
    except (VaultError, ValueError) as error:
        return [Finding(sound=False, text=f"what the store holds is not readable: {error}")]
    opened_ms = (time.perf_counter() - started) * 1000
    with home:
        return [
            Finding(sound=True, text=f"opens in {opened_ms:.0f} ms"),
            _folded(home),
            _released(home, folder),
            _consented(home),
            _good(home),
            _learned(home),
        ]


def _folded(home: Homebody) -> Finding:
    if home.signals.equals_refold():
        return Finding(sound=True, text="the features equal a recomputation from every event")
    return Finding(
        sound=False,
        text="the features differ from a recomputation: export, erase, import, and report it",
    )


def _learned(home: Homebody) -> Finding:
    kept, dropped = len(home.models.kept()), home.models.dropped
    text = f"{kept:,} model(s) go on from what they learned"
    if dropped:
        text += f"; {dropped:,} could not be read at some time, and began anew"
    return Finding(sound=True, text=text)


def _released(home: Homebody, folder: Path) -> Finding:
    if home.version:
        return Finding(sound=True, text=f"release {home.version} is in use")
    if any((folder / DELIVERY_FOLDER).rglob("*.release")):
        return Finding(
            sound=False, text="no kept release can be used: let the app update, or update the app"
        )
    return Finding(sound=True, text="no release yet; the app's own catalogue is used")


def _consented(home: Homebody) -> Finding:
    asks = [
        f"{purpose.value} ({status.state.value})"
        for purpose, status in home.consent.status().items()
        if status.state in (ConsentState.EXPIRED, ConsentState.TEXT_CHANGED)
    ]
    if asks:
        return Finding(
            sound=False, text=f"consent must be asked again for {', '.join(asks)}: show the text"
        )
    return Finding(sound=True, text="no consent is waiting to be asked again")


def _good(home: Homebody) -> Finding:
    refused = sum(home.signals.quality().rejected.values())
    kept = home.signals.quality().accepted
    if refused > kept:
        return Finding(
            sound=False,
            text=f"more events were refused ({refused:,}) than kept ({kept:,}): see the reasons "
            "under 'homebody device show', and correct what the app sends",
        )
    return Finding(sound=True, text=f"{kept:,} events were kept, {refused:,} refused")
