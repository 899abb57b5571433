"""Signals: events, the encrypted vault that keeps them, and what the ranker needs of them."""

from client_sdk.signals.activity import Activity, ItemActivity
from client_sdk.signals.events import Event, EventKind
from client_sdk.signals.vault import Record, Vault

__all__ = ["Activity", "Event", "EventKind", "ItemActivity", "Record", "Vault"]
