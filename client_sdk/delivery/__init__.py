"""Delivery: the only door in. Signed releases of data, never code, checked before and after.

`release` says what is acceptable, `store` keeps it on disk, `fetcher` is the network, `delivery`
puts them together with the TUF client. An auditor of what can reach a device reads this folder and
`client_sdk.wire.release`.
"""

from client_sdk.delivery.delivery import Delivery
from client_sdk.delivery.release import Limits, Release

__all__ = ["Delivery", "Limits", "Release"]
