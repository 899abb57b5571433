"""The ranker's three steps as a TensorFlow module: score, project, train.

The host owns the item table, the private vector, sampling and scatter; the graph owns the step.
So every signature takes gathered rows, holds no variable and keeps no state. Batches are static;
shorter ones are padded with rows of zeros (score, project) or weight 0 (train).

Importing this file loads TensorFlow.
"""

from __future__ import annotations

from typing import Any, Final

import tensorflow as tf

SIGNATURES: Final = ("project", "score", "train")


class RankerGraph(tf.Module):  # type: ignore[misc]
    """Score, project and train over gathered item rows.

    Args:
        rank: r, the number of factors of an item, >= 1.
        batch: B, the rows of a call, >= 1.
    """

    def __init__(self, *, rank: int, batch: int) -> None:
        if rank < 1 or batch < 1:
            raise ValueError(f"rank and batch must be >= 1, got {rank}, {batch}")
        super().__init__(name="ranker")
        self.rank = rank
        self.batch = batch

    def signatures(self) -> dict[str, Any]:
        """Give the concrete functions by signature name, for export."""
        rows = _spec([self.batch, self.rank], "rows")
        vector = _spec([self.rank], "vector")

        def column(name: str) -> Any:
            return _spec([self.batch], name)

        return {
            "score": tf.function(self.score).get_concrete_function(
                vector=vector,
                rows=rows,
                own=column("own"),
                self_weight=column("self_weight"),
                scale=column("scale"),
                bias=column("bias"),
            ),
            "project": tf.function(self.project).get_concrete_function(
                rows=rows, values=column("values")
            ),
            "train": tf.function(self.train).get_concrete_function(
                rows=rows,
                vector=vector,
                labels=column("labels"),
                weights=column("weights"),
                learning_rate=_spec([], "learning_rate"),
            ),
        }

    def score(  # noqa: PLR0917 -- the exporter binds a signature's inputs by these names
        self, vector: Any, rows: Any, own: Any, self_weight: Any, scale: Any, bias: Any
    ) -> dict[str, Any]:
        """Give c (u f - x s) + b for each row: float32[B]."""
        return {"scores": scale * (tf.linalg.matvec(rows, vector) - own * self_weight) + bias}

    def project(self, rows: Any, values: Any) -> dict[str, Any]:
        """Give u = x F over the rows of a history: float32[r]."""
        return {"vector": tf.linalg.matvec(rows, values, transpose_a=True)}

    def train(
        self, rows: Any, vector: Any, labels: Any, weights: Any, learning_rate: Any
    ) -> dict[str, Any]:
        """Take one step in the rows down the weighted logistic loss of u f_i against the labels.

        The gradient is written out, w (sigmoid(f u) - y) u: it needs no op that the runtime lacks.
        """
        error = weights * (tf.sigmoid(tf.linalg.matvec(rows, vector)) - labels)
        step = tf.expand_dims(error, 1) * tf.expand_dims(vector, 0)
        return {"rows": rows - learning_rate * step}


def _spec(shape: list[int], name: str) -> Any:
    """Describe one float32 input."""
    return tf.TensorSpec(shape, tf.float32, name=name)
