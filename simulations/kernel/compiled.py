"""The C file beside this one, compiled once for this machine.

It is compiled on first use with the system's C compiler (``$CC``, else ``cc``) and kept in the
user's cache folder under a name made of the source, the compiler and the machine, so that a change
of any of them compiles anew. Where there is no compiler the error says so, and the engine
``devices`` does the same work without one.

Numba was tried first: its inner loops are 4 to 8 times slower here, because LLVM cannot know that
the rows don't overlap.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("kernel.c")
_FLAGS: Final = (
    *("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC"),
    # Results must not depend on the instruction set: no fused multiply-add, no reordering.
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
_COMPILE_TIMEOUT_S: Final = 120


class KernelUnavailableError(RuntimeError):
    """There is no compiled kernel, and none could be made; the message says what to do."""


@functools.cache
def load(source: Path = SOURCE) -> ctypes.CDLL:
    """Return the compiled library, compiling it where this machine has none yet.

    Args:
        source: The C file; another one than `SOURCE` only to show that a test would notice.

    Raises:
        KernelUnavailableError: no compiler, or it failed.
    """
    text = source.read_bytes()
    compiler = shlex.split(os.environ.get("CC", "cc"))
    found = shutil.which(compiler[0]) if compiler else None
    if found is None:
        raise KernelUnavailableError(
            "the kernel engine needs a C compiler (Debian: apt install gcc; macOS: xcode-select "
            "--install; or set CC); --engine devices does the same without one, more slowly"
        )
    name = hashlib.sha256(
        b"\0".join([text, " ".join([found, *compiler[1:], *_FLAGS]).encode(), _machine()])
    ).hexdigest()[:32]
    folder = _cache_folder()
    library = folder / f"kernel-{name}.so"
    if not library.exists():
        _compile([found, *compiler[1:]], source, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        library.unlink(missing_ok=True)
        raise KernelUnavailableError(f"the compiled kernel can't be loaded: {error}") from error


def _compile(compiler: list[str], source: Path, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / "kernel.so"
        command = [*compiler, *_FLAGS, str(source), "-o", str(made), "-lm"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_COMPILE_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KernelUnavailableError(f"{compiler[0]} did not run: {error}") from error
        if done.returncode != 0:
            first = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise KernelUnavailableError(f"{compiler[0]} failed on the kernel: {first}")
        # Another process may be doing the same: both files are right, and the move is atomic.
        made.replace(library)


def _cache_folder() -> Path:
    """Return a folder that only this user can write to, or the code in it could be another's."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "homebody"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError as error:
        raise KernelUnavailableError(f"no folder for the compiled kernel: {error}") from error
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise KernelUnavailableError(
            f"{folder} can be written by others; remove it or set XDG_CACHE_HOME"
        )
    return folder


def _machine() -> bytes:
    """Name what -march=native stands for."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {flags}".encode()
