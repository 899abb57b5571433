"""The LiteRT runtime behind a port: bytes in, checked arrays in, checked arrays out.

Rules a reader can check line by line:

1. Bytes reach the runtime only after the caller has verified the release's signature: old
   runtimes crash on hostile bytes.
2. The default delegates are off: XNNPACK can crash on assign-then-read.
3. Every input is checked before the interpreter sees it: known name, exact shape, exact kind,
   finite. The runtime itself broadcasts size-1 arrays, leaks heap memory on a wrong shape and
   lets NaN pass.
4. Every output is checked to be smaller than the largest float32 (builtin kernels clamp an
   overflow to it, in silence), and is a copy that the interpreter doesn't own.
5. An interpreter is one state machine: one lock each, held from the first set to the last copy.
6. The runtime is imported when a model is made, never with the package: `ai_edge_litert`, or
   `tflite_runtime` where that is what the app has.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

RUNTIMES: Final = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_SMALLEST_MODEL_BYTES: Final = 8
_FILE_IDENTIFIER: Final = b"TFL3"
_LARGEST: Final = float(np.finfo(np.float32).max)


class LiteRtUnavailableError(RuntimeError):
    """No LiteRT runtime is installed: install ``ai-edge-litert``."""


class ModelFormatError(ValueError):
    """The bytes are not a model that the runtime can load: fetch the release again."""


class ModelRunError(RuntimeError):
    """The model ran and its result is not usable: keep the last good one."""


@dataclass(frozen=True, kw_only=True)
class TensorShape:
    """What a signature expects or gives under one name: shape and numpy kind."""

    shape: tuple[int, ...]
    dtype: str


class SignatureModel(Protocol):
    """What the rooms need of a runtime; `LiteRtModel` is the real one."""

    def run(self, signature: str, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """Run a named signature on named arrays and give named arrays."""
        ...

    def input_shapes(self, signature: str) -> dict[str, TensorShape]:
        """Say what a signature expects."""
        ...


class LiteRtModel:
    """A loaded ``.tflite`` model with named signatures; safe to share between threads.

    Args:
        data: the model's bytes, from a verified release.
        num_threads: threads of the runtime, >= 1.
        runtime: the module to use, one of `RUNTIMES`; the first that is installed when left out.

    Raises:
        LiteRtUnavailableError: when no runtime is installed.
        ModelFormatError: when the bytes are not a model, or it has no signatures.
    """

    def __init__(self, data: bytes, *, num_threads: int = 1, runtime: str | None = None) -> None:
        if len(data) < _SMALLEST_MODEL_BYTES or data[4:8] != _FILE_IDENTIFIER:
            raise ModelFormatError("these bytes are not a .tflite model (no TFL3 identifier)")
        if num_threads < 1:
            raise ValueError(f"num_threads must be >= 1, got {num_threads}")
        module = _import_runtime(runtime)
        self._lock = threading.Lock()
        # The runtime reads from these bytes as long as it lives.
        self._data = bytes(data)
        try:
            self._interpreter = module.Interpreter(
                model_content=self._data,
                num_threads=num_threads,
                experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            names = sorted(self._interpreter.get_signature_list())
            self._runners = {name: self._interpreter.get_signature_runner(name) for name in names}
            self._inputs = {
                name: _shapes(r.get_input_details()) for name, r in self._runners.items()
            }
            self._outputs = {
                name: _shapes(r.get_output_details()) for name, r in self._runners.items()
            }
        except (ValueError, RuntimeError, TypeError, KeyError) as error:
            raise ModelFormatError(f"the runtime refuses this model: {error}") from error
        if not names:
            raise ModelFormatError("the model has no named signature")

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of the signatures, sorted."""
        return tuple(self._runners)

    def input_shapes(self, signature: str) -> dict[str, TensorShape]:
        """Say what a signature expects, by name."""
        return dict(self._inputs[self._known(signature)])

    def output_shapes(self, signature: str) -> dict[str, TensorShape]:
        """Say what a signature gives, by name."""
        return dict(self._outputs[self._known(signature)])

    def run(
        self, signature: str, inputs: Mapping[str, npt.NDArray[Any]]
    ) -> dict[str, npt.NDArray[Any]]:
        """Run a signature.

        Args:
            signature: its name.
            inputs: one array for each input name, of exactly its shape and kind, finite.

        Returns:
            One new array for each output name.

        Raises:
            ValueError: when a name, shape or kind differs, or a value is not finite.
            ModelRunError: when the runtime fails or an output is not finite.
        """
        expected = self._inputs[self._known(signature)]
        _check_inputs(signature, expected, inputs)
        with self._lock:
            try:
                raw = self._runners[signature](**inputs)
            except (ValueError, RuntimeError) as error:
                raise ModelRunError(f"signature {signature!r} failed: {error}") from error
            outputs = {name: np.array(value) for name, value in raw.items()}
        for name, value in outputs.items():
            if not np.all(np.abs(value) < _LARGEST):
                raise ModelRunError(f"output {name!r} of {signature!r} overflowed")
        return outputs

    def _known(self, signature: str) -> str:
        """Refuse a signature that the model lacks."""
        if signature not in self._runners:
            raise ValueError(f"signature must be one of {self.signatures}, got {signature!r}")
        return signature


def _check_inputs(
    signature: str, expected: Mapping[str, TensorShape], inputs: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Refuse anything that the interpreter would misread."""
    if set(inputs) != set(expected):
        raise ValueError(f"{signature!r} needs inputs {sorted(expected)}, got {sorted(inputs)}")
    for name, want in expected.items():
        value = inputs[name]
        if not isinstance(value, np.ndarray):
            raise TypeError(f"input {name!r} must be a numpy array, got {type(value).__name__}")
        if value.dtype.name != want.dtype or value.shape != want.shape:
            raise ValueError(
                f"input {name!r} must be {want.dtype}{list(want.shape)}, "
                f"got {value.dtype.name}{list(value.shape)}"
            )
        if not np.all(np.isfinite(value)):
            raise ValueError(f"input {name!r} must be finite")


def _shapes(details: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorShape]:
    """Read names, shapes and kinds from the runtime's description."""
    return {
        name: TensorShape(
            shape=tuple(int(size) for size in detail["shape"]), dtype=np.dtype(detail["dtype"]).name
        )
        for name, detail in details.items()
    }


def _import_runtime(name: str | None) -> Any:
    """Import the named runtime, or the first that is installed."""
    if name is not None and name not in RUNTIMES:
        raise ValueError(f"runtime must be one of {RUNTIMES}, got {name!r}")
    for candidate in RUNTIMES if name is None else (name,):
        try:
            return importlib.import_module(candidate)
        except ImportError:
            continue
    raise LiteRtUnavailableError("no LiteRT runtime found; install ai-edge-litert")


@lru_cache(maxsize=2)
def load_shared(data: bytes) -> LiteRtModel:
    """Load a model once for all who use the same bytes; a `LiteRtModel` may be shared."""
    return LiteRtModel(data)
