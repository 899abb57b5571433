"""Fuzz one target with atheris, guided by coverage: ``python run.py TARGET RUNS SEED``.

Prints ``TARGET: N inputs tried`` and leaves with 0; a crash prints the input and leaves with
another code.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["client_sdk"]):
    import client_sdk.home
    import client_sdk.signals.adapters  # noqa: F401 - instrumented here

sys.path.insert(0, str(Path(__file__).parent))

from targets import KEYS, SCALARS, SEEDS, TARGETS


def main() -> None:
    """Run; libFuzzer ends the process."""
    name, runs, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    target = TARGETS[name]()
    tried = 0

    def counted(data: bytes) -> None:
        nonlocal tried
        tried += 1
        target(data)
        if tried == runs:
            sys.stdout.write(f"{name}: {tried} inputs tried\n")
            sys.stdout.flush()

    folder = Path(tempfile.mkdtemp(prefix="fuzz-words-"))
    words = folder / "words.dict"
    texts = [*KEYS, *(word for word in SCALARS if isinstance(word, str) and 0 < len(word) < 40)]
    quoted = [json.dumps(word) for word in texts]
    words.write_text("".join(f"{_quoted(word)}\n" for word in quoted), encoding="ascii")
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, seed_bytes in enumerate(SEEDS):
        (seeds / str(number)).write_bytes(seed_bytes)
    options = [f"-runs={runs}", f"-seed={seed}", f"-dict={words}", f"-artifact_prefix={folder}/"]
    atheris.Setup(
        ["fuzz", *options, "-max_len=4096", "-len_control=0", "-verbosity=0", str(seeds)], counted
    )
    atheris.Fuzz()


def _quoted(word: str) -> str:
    escaped = "".join(
        char if char.isalnum() or char in " _.:-" else f"\\x{ord(char):02x}" for char in word
    )
    return f'"{escaped}"'


if __name__ == "__main__":
    main()
