"""Homebody's device SDK: personalization that stays home.

Importing this package loads the standard library only; a name loads its room when it is first used.

>>> import client_sdk
>>> client_sdk.Homebody.__name__
'Homebody'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from client_sdk.catalogue_updates import CatalogueUpdates
    from client_sdk.errors import (
        ConsentRequiredError,
        HomebodyError,
        ReleaseRejectedError,
        ServerUnreachableError,
        VaultError,
    )
    from client_sdk.experience.preferences import Preferences
    from client_sdk.federation.consent import ConsentState
    from client_sdk.home import Homebody
    from client_sdk.household import Household
    from client_sdk.keys import FileKeyStore, KeyringKeyStore
    from client_sdk.outcomes import Imported, Tracked, TrackedMany, UpdateResult
    from client_sdk.shelf import RankedItem
    from client_sdk.signals.events import Event, EventError, EventKind
    from client_sdk.signals.features import Context, FeatureSet, FeatureVector, PropertyFeature
    from client_sdk.signals.kinds import CustomKind, PropertyRule
    from client_sdk.signals.retention import RetentionPolicy
    from client_sdk.signals.signals import SignalRules
    from client_sdk.signals.taxonomy import Taxonomy
    from client_sdk.version import SDK_VERSION
    from client_sdk.wire import DEFAULT_POLICY, Catalogue, ConsentPolicy, Item, Purpose

_ROOMS: Final = {
    "client_sdk.catalogue_updates": ("CatalogueUpdates",),
    "client_sdk.errors": (
        "ConsentRequiredError",
        "HomebodyError",
        "ReleaseRejectedError",
        "ServerUnreachableError",
        "VaultError",
    ),
    "client_sdk.experience.preferences": ("Preferences",),
    "client_sdk.federation.consent": ("ConsentState",),
    "client_sdk.home": ("Homebody",),
    "client_sdk.household": ("Household",),
    "client_sdk.keys": ("FileKeyStore", "KeyringKeyStore"),
    "client_sdk.outcomes": ("Imported", "Tracked", "TrackedMany", "UpdateResult"),
    "client_sdk.shelf": ("RankedItem",),
    "client_sdk.signals.events": ("Event", "EventError", "EventKind"),
    "client_sdk.signals.features": ("Context", "FeatureSet", "FeatureVector", "PropertyFeature"),
    "client_sdk.signals.kinds": ("CustomKind", "PropertyRule"),
    "client_sdk.signals.retention": ("RetentionPolicy",),
    "client_sdk.signals.signals": ("SignalRules",),
    "client_sdk.signals.taxonomy": ("Taxonomy",),
    "client_sdk.version": ("SDK_VERSION",),
    "client_sdk.wire": ("DEFAULT_POLICY", "Catalogue", "ConsentPolicy", "Item", "Purpose"),
}
_ROOM_OF: Final = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "DEFAULT_POLICY",
    "SDK_VERSION",
    "Catalogue",
    "CatalogueUpdates",
    "ConsentPolicy",
    "ConsentRequiredError",
    "ConsentState",
    "Context",
    "CustomKind",
    "Event",
    "EventError",
    "EventKind",
    "FeatureSet",
    "FeatureVector",
    "FileKeyStore",
    "Homebody",
    "HomebodyError",
    "Household",
    "Imported",
    "Item",
    "KeyringKeyStore",
    "Preferences",
    "PropertyFeature",
    "PropertyRule",
    "Purpose",
    "RankedItem",
    "ReleaseRejectedError",
    "RetentionPolicy",
    "ServerUnreachableError",
    "SignalRules",
    "Taxonomy",
    "Tracked",
    "TrackedMany",
    "UpdateResult",
    "VaultError",
]


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'client_sdk' has no attribute {name!r}")
    value = getattr(import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
