"""Adapters: what other tracking tools sent, in our JSON form. Pure; each reads one foreign form.

>>> from client_sdk.signals.adapters import segment
>>> done = segment.events_from({"type": "track", "event": "Product Viewed", "messageId": "m-1",
...     "timestamp": "2026-01-01T00:00:00Z", "properties": {"product_id": "SKU-987"}})
>>> done.events[0]["event"], done.events[0]["product_id"], done.events[0]["event_id"]
('product_view', 'SKU-987', 'm-1')
"""

from client_sdk.signals.adapters import ga4, segment
from client_sdk.signals.adapters.converted import Converted, Skipped, SkipReason

__all__ = ["Converted", "SkipReason", "Skipped", "ga4", "segment"]
