"""The parity gate: a model is published only when the runtime computes what its definition says.

Converters have dropped activations in silence (TF 2.21, a bias-free matmul with variable weights),
so nothing is believed. Rules a reader can check line by line:

1. The file has exactly the reference's signatures, with the same names, shapes and kinds.
2. Every operator in the file, in every subgraph, is a builtin on the allow-list; no custom op.
3. On random inputs of several seeds and on edge inputs (zeros, large, tiny, one-hot), the runtime,
   TensorFlow and the formula in numpy (float64) agree: the largest difference is at most the
   tolerance times the largest output.
4. The first thing that is wrong raises `ParityError`; there is no warning level.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.card import ParityReport

ALLOWED_OPERATORS: Final = frozenset(
    {"ADD", "BATCH_MATMUL", "FULLY_CONNECTED", "LOGISTIC", "MUL", "RESHAPE", "SUB", "TRANSPOSE"}
)
TOLERANCE: Final = 1e-5
SEEDS: Final = (0, 1, 2, 3, 4)

Arrays = Mapping[str, NDArray[Any]]


class ParityError(Exception):
    """The exported model is not what its definition says: do not publish it."""


class Reference(Protocol):
    """A module that can name its concrete functions, such as `models.ranker_graph.RankerGraph`."""

    def signatures(self) -> dict[str, Any]:
        """Give the concrete functions by signature name."""
        ...


def _score(a: Arrays) -> dict[str, NDArray[Any]]:
    """Give c (u f - x s) + b."""
    together = a["rows"] @ a["vector"] - a["own"] * a["self_weight"]
    return {"scores": a["scale"] * together + a["bias"]}


def _project(a: Arrays) -> dict[str, NDArray[Any]]:
    """Give x F."""
    return {"vector": a["values"] @ a["rows"]}


def _train(a: Arrays) -> dict[str, NDArray[Any]]:
    """Take one logistic step; 1 / (1 + e^-z) written so that nothing overflows."""
    logits = a["rows"] @ a["vector"]
    sigmoid = 0.5 * (1.0 + np.tanh(0.5 * logits))
    error = a["weights"] * (sigmoid - a["labels"])
    return {"rows": a["rows"] - a["learning_rate"] * np.outer(error, a["vector"])}


RANKER_FORMULAS: Final[Mapping[str, Callable[[Arrays], dict[str, NDArray[Any]]]]] = {
    "project": _project,
    "score": _score,
    "train": _train,
}


def check_parity(
    tflite_bytes: bytes,
    reference: Reference,
    *,
    formulas: Mapping[str, Callable[[Arrays], dict[str, NDArray[Any]]]] = RANKER_FORMULAS,
    allowed_operators: frozenset[str] = ALLOWED_OPERATORS,
    seeds: Sequence[int] = SEEDS,
    tolerance: float = TOLERANCE,
) -> ParityReport:
    """Compare an exported model with its definition, or refuse it.

    Args:
        tflite_bytes: the exported model.
        reference: its TensorFlow definition.
        formulas: the same signatures in numpy, from float64 arrays to float64 arrays.
        allowed_operators: builtin operator names that may be in the file.
        seeds: of the random inputs, at least one.
        tolerance: allowed difference, relative to the largest output.

    Returns:
        What was checked, for the model card.

    Raises:
        ParityError: when anything differs.
        ValueError: when no seed is given.
    """
    if not seeds:
        raise ValueError("give at least one seed: a gate that checks nothing must not pass")
    runners = _load(tflite_bytes)
    functions = reference.signatures()
    operators = _operators(tflite_bytes)
    if forbidden := sorted(operators - allowed_operators):
        raise ParityError(f"the model has operators that are not allowed: {forbidden}")
    if not set(runners) == set(functions) == set(formulas):
        raise ParityError(
            f"signatures must be {sorted(functions)}, the model has {sorted(runners)}"
        )
    differences: dict[str, float] = {}
    cases = 0
    for name, function in functions.items():
        inputs, outputs = _check_shapes(name, runners[name], function)
        cases = 0
        differences[name] = 0.0
        for arrays in _cases(inputs, seeds):
            cases += 1
            expected = {k: np.asarray(v) for k, v in function(**_tensors(arrays)).items()}
            formula = formulas[name]({k: v.astype(np.float64) for k, v in arrays.items()})
            actual = runners[name](**arrays)
            for output in outputs:
                for who, value in (("runtime", actual[output]), ("formula", formula[output])):
                    gap = _difference(value, expected[output])
                    differences[name] = max(differences[name], gap)
                    if not gap <= tolerance:
                        raise ParityError(
                            f"{output!r} of {name!r}: the {who} and TensorFlow differ by {gap:.2g} "
                            f"of the largest output, allowed {tolerance:.2g}"
                        )
    return ParityReport(
        model_sha256=hashlib.sha256(tflite_bytes).hexdigest(),
        signatures=tuple(sorted(functions)),
        operators=tuple(sorted(operators)),
        cases=cases,
        largest_difference=differences,
        tolerance=tolerance,
        runtime=f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}",
        reference=_tensorflow_version(),
    )


def _load(data: bytes) -> dict[str, Any]:
    """Load the bytes into the runtime that ships; it verifies the file's structure."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(
            model_content=data,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        names = list(interpreter.get_signature_list())
        return {name: interpreter.get_signature_runner(name) for name in names}
    except (ValueError, RuntimeError, TypeError) as error:
        raise ParityError(f"the runtime cannot load the model: {error}") from error


def _operators(data: bytes) -> set[str]:
    """Name every operator that the file declares, custom ones by their own name."""
    from ai_edge_litert import schema_py_generated as schema

    names = {
        value: name
        for name, value in vars(schema.BuiltinOperator).items()
        if isinstance(value, int)
    }
    found: set[str] = set()
    try:
        model = schema.Model.GetRootAs(data, 0)
        for index in range(model.OperatorCodesLength()):
            code = model.OperatorCodes(index)
            # Old files keep the number in the deprecated byte, new ones in both.
            number = max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))
            custom = code.CustomCode()
            found.add(f"CUSTOM {custom.decode()}" if custom else names.get(number, f"#{number}"))
    except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
        raise ParityError("the model's list of operators cannot be read") from error
    return found


def _check_shapes(name: str, runner: Any, function: Any) -> tuple[dict[str, Any], list[str]]:
    """Compare names, shapes and kinds of a signature; give the inputs' specs and output names."""
    positional, named = function.structured_input_signature
    inputs = {spec.name: spec for spec in (*positional, *named.values())}
    outputs = dict(function.structured_outputs)
    pairs = ((inputs, runner.get_input_details()), (outputs, runner.get_output_details()))
    for wanted, found in pairs:
        want = {k: (tuple(v.shape), np.dtype(v.dtype.as_numpy_dtype)) for k, v in wanted.items()}
        have = {k: (tuple(map(int, v["shape"])), np.dtype(v["dtype"])) for k, v in found.items()}
        if want != have:
            raise ParityError(f"signature {name!r} must have {want}, the model has {have}")
    return inputs, sorted(outputs)


def _cases(specs: Mapping[str, Any], seeds: Sequence[int]) -> Iterator[dict[str, NDArray[Any]]]:
    """Give random inputs for every seed, then the edges."""
    shapes = {name: tuple(spec.shape) for name, spec in sorted(specs.items())}
    for seed in seeds:
        generator = np.random.default_rng(seed)
        yield {
            k: np.asarray(generator.standard_normal(shape), np.float32)
            for k, shape in shapes.items()
        }
    for factor in (1e3, 1e-3):
        generator = np.random.default_rng(len(seeds))
        yield {
            k: np.asarray(generator.standard_normal(shape) * factor, np.float32)
            for k, shape in shapes.items()
        }
    yield {k: np.zeros(shape, np.float32) for k, shape in shapes.items()}
    yield {k: np.ones(shape, np.float32) for k, shape in shapes.items()}
    one_hot = {k: np.zeros(shape, np.float32) for k, shape in shapes.items()}
    for array in one_hot.values():
        array.reshape(-1)[0] = 1.0
    yield one_hot


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Turn arrays to what a concrete function takes."""
    import tensorflow as tf

    return {name: tf.constant(value) for name, value in arrays.items()}


def _difference(value: NDArray[Any], expected: NDArray[Any]) -> float:
    """Give the largest difference relative to the largest expected output; NaN stays NaN."""
    if value.shape != expected.shape:
        return float("inf")
    gap = np.abs(value.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)
    largest = np.abs(expected.astype(np.float64)).max(initial=0.0)
    return float(gap / largest) if largest > 0 else float(gap)


def _tensorflow_version() -> str:
    """Name the TensorFlow that is installed, whichever its distribution is called."""
    import tensorflow as tf

    return f"tensorflow {tf.__version__}"
