"""The operating system's clock, behind the port."""

from __future__ import annotations

import time


class SystemClock:
    """Tells the operating system's time."""

    def now_s(self) -> float:
        """Seconds since 1970 (UTC)."""
        return time.time()
