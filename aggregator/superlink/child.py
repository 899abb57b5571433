"""What runs inside the SuperLink's process: Flower's own command, which ends with its parent.

The parent holds the other end of standard input. However the parent dies, the pipe closes, and this
process asks itself to stop: no orphan holds a port.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def _stop_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run ``flower-superlink`` with this process's arguments."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    from flwr.superlink.cli.flower_superlink import flower_superlink

    flower_superlink()


if __name__ == "__main__":
    main()
