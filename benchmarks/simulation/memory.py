"""A process's own peak memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_rss_mb() -> float:
    """Give this process's peak resident memory in MiB.

    On Linux from its status: ``getrusage`` also counts what the parent held when it forked.
    """
    try:
        for line in (
            Path("/proc/self/status").read_text(encoding="ascii", errors="replace").split("\n")
        ):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
