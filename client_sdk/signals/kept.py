"""What is kept in the vault beside the events: the digest, the counters, what was set aside, a key.

Rules a reader can check line by line:

1. `restored_digest` gives what folding every event of the vault gives: the snapshot and the pages
   after it, where together they hold as many events as the vault, else every event.
2. Records of what is set aside and of the counters are read strictly; the vault has checked that
   nobody changed them.
3. The account key is made once for a store, and never leaves it.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

from client_sdk.signals.digest import Digest
from client_sdk.signals.features.feature_set import FeatureSet
from client_sdk.signals.quality import QualityCounters, Quarantined
from client_sdk.signals.vault import Record, Vault

_SNAPSHOT: Final = ("digest", "snapshot")
_COUNTERS: Final = ("quality", "counters")
_QUARANTINE: Final = ("quality", "quarantine")
_ACCOUNT_KEY: Final = ("identity", "account-key")
_KEY_BYTES: Final = 32


def restored_digest(vault: Vault, features: FeatureSet) -> tuple[Digest, int]:
    """Give the digest of a vault's events, and how many of them the snapshot does not have."""
    found = _from_snapshot(vault, features)
    if found is not None and found[0].n_events == vault.count:
        return found
    events = [event for _, event in vault.events()]
    digest = Digest(features)
    digest.add(events)
    return digest, len(events)


def snapshot(digest: Digest, vault: Vault) -> Record:
    """Give the record of a digest that holds every event of the vault."""
    data = base64.b64encode(digest.to_bytes()).decode("ascii")
    return _record(_SNAPSHOT, {"through_page": vault.last_page, "digest": data})


def read_counters(vault: Vault) -> QualityCounters:
    """Give the counters; zeros before any."""
    kept = vault.read(*_COUNTERS)
    return QualityCounters() if kept is None else QualityCounters.from_json(kept)


def counters(value: QualityCounters) -> Record:
    """Give the record of the counters."""
    return _record(_COUNTERS, value.to_json())


def read_quarantine(vault: Vault) -> list[Quarantined]:
    """Give what is set aside, oldest first."""
    kept = vault.read(*_QUARANTINE)
    return [] if kept is None else [Quarantined.from_json(value) for value in kept["events"]]


def quarantine(held: Iterable[Quarantined]) -> Record:
    """Give the record of what is set aside."""
    return _record(_QUARANTINE, {"events": [one.to_json() for one in held]})


def account_key(vault: Vault) -> bytes:
    """Give the store's key of account hashes; make it where there is none."""
    kept = vault.read(*_ACCOUNT_KEY)
    if kept is not None:
        return bytes.fromhex(kept["key"])
    key = secrets.token_bytes(_KEY_BYTES)
    vault.write(_record(_ACCOUNT_KEY, {"key": key.hex()}))
    return key


def _from_snapshot(vault: Vault, features: FeatureSet) -> tuple[Digest, int] | None:
    kept = vault.read(*_SNAPSHOT)
    if kept is None or kept["through_page"] > vault.last_page:
        return None
    try:
        data = base64.b64decode(kept["digest"], validate=True)
        digest = Digest.from_bytes(data, features)
    except (ValueError, binascii.Error):
        return None
    later = [event for _, event in vault.events(after_page=kept["through_page"])]
    digest.add(later)
    return digest, len(later)


def _record(place: tuple[str, str], value: Mapping[str, Any]) -> Record:
    stream, key = place
    return Record(stream=stream, key=key, value=value)
