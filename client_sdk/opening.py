"""What a store is opened with: the device's own key, the consent text, the way to releases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from client_sdk.installed import Release, ReleaseSource, check
from client_sdk.keys import DeviceKey
from client_sdk.signals.vault import Record, Vault
from client_sdk.wire import DEFAULT_POLICY, ConsentPolicy

DELIVERY_FOLDER: Final = "delivery"
_IDENTITY: Final = ("identity", "device")
_POLICY: Final = ("policy", "given")


class KeptReleases:
    """The releases that a store has on disk already; there is no server to ask.

    Args:
        folder: The folder of the store.
    """

    def __init__(self, folder: Path) -> None:
        # Loaded on use, as everything of delivery is.
        from client_sdk.delivery.store import ReleaseStore

        self._store = ReleaseStore(folder / DELIVERY_FOLDER)

    def fetch(self) -> Release | None:
        """Give nothing newer."""
        return None

    def active(self) -> Release | None:
        """Give the newest release that is whole, or None."""
        return self._store.active()


def signer_of(vault: Vault) -> DeviceKey:
    """Read the device's key from its vault; make it where there is none."""
    kept = vault.read(*_IDENTITY)
    if kept is not None:
        return DeviceKey(bytes.fromhex(kept["seed"]))
    signer = DeviceKey.generate()
    stream, key = _IDENTITY
    vault.write(Record(stream=stream, key=key, value={"seed": signer.seed.hex()}))
    return signer


def policy_of(vault: Vault, given: ConsentPolicy | None) -> ConsentPolicy:
    """Give the consent text: the app's, which is remembered; else the remembered one; else ours."""
    stream, key = _POLICY
    kept = vault.read(stream, key)
    remembered = None if kept is None else ConsentPolicy.from_bytes(kept["policy"].encode())
    if given is None:
        return remembered or DEFAULT_POLICY
    if given != remembered:
        value = {"policy": given.to_bytes().decode()}
        vault.write(Record(stream=stream, key=key, value=value))
    return given


def delivery_of(
    folder: Path,
    server_url: str | None,
    trusted_root: bytes | None,
    *,
    features: Sequence[str],
) -> ReleaseSource | None:
    """Give the way to the model server, or None where the app named none.

    Args:
        folder: Of the store.
        server_url: The model server.
        trusted_root: Its first root metadata.
        features: The names of the features that the app has, for the journeys of a release.

    Raises:
        ValueError: a server without a trusted root, or the other way round.
    """
    if server_url is None and trusted_root is None:
        return None
    if server_url is None or trusted_root is None:
        raise ValueError("server_url and trusted_root belong together; got one of them")
    from client_sdk.delivery import Delivery

    # Refused before it is put to use, so that the last good one is what the next `open` finds.
    judge = partial(check, features=tuple(features))
    return Delivery(folder / DELIVERY_FOLDER, server_url, trusted_root, check=judge)
