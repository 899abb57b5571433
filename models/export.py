"""From a TensorFlow module to ``.tflite`` bytes: named signatures, builtin ops only.

Importing this file loads TensorFlow. What it gives is not fit to publish before
`models.parity.check_parity` has passed it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# TensorFlow's own notes about this machine are nobody's progress; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from models.ranker_graph import RankerGraph


def export_module(module: Any, signatures: dict[str, Any]) -> bytes:
    """Convert a module's concrete functions to one ``.tflite`` model.

    Args:
        module: the `tf.Module` that owns the functions.
        signatures: concrete functions by signature name.

    Returns:
        The model's bytes, with TFLite builtin ops only.
    """
    with tempfile.TemporaryDirectory(prefix="homebody-export-") as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=sorted(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.allow_custom_ops = False
        converter.experimental_enable_resource_variables = True
        return bytes(converter.convert())


def export_ranker(rank: int, batch: int) -> bytes:
    """Export the ranker's step for tables of one rank.

    Args:
        rank: the number of factors of an item, >= 1.
        batch: rows of a call, >= 1; callers pad to it.

    Returns:
        ``.tflite`` bytes with the signatures ``score``, ``project`` and ``train``.
    """
    graph = RankerGraph(rank=rank, batch=batch)
    return export_module(graph, graph.signatures())


def main(words: Sequence[str] | None = None) -> int:
    """Export one graph that passed the parity gate to a file."""
    parser = argparse.ArgumentParser(
        prog="python -m models.export",
        description="Export the ranker's graph, put it through the parity gate, write it.",
    )
    parser.add_argument("--rank", type=int, required=True, help="factors of an item")
    parser.add_argument("--batch", type=int, required=True, help="rows of a call")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(words)
    if options.rank < 1 or options.batch < 1:
        parser.error("rank and batch must be at least 1")
    from models.parity import check_parity

    data = export_ranker(options.rank, options.batch)
    report = check_parity(data, RankerGraph(rank=options.rank, batch=options.batch))
    try:
        options.out.write_bytes(data)
    except OSError as error:
        parser.error(f"cannot write {options.out} ({error.strerror})")
    print(f"{options.out}: {len(data)} bytes, {report.cases} cases within {report.tolerance:g}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
