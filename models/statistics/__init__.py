"""Decoders of statistics: from noisy sums to estimates whose intervals hold the noise too.

`survey` makes histograms, counts and means; `quantiles`, `drift` and `fairness` read them;
`evaluation` reads how good a ranker is. All is post-processing of what the ledger has booked.
"""

from models.statistics.drift import Drift, DriftKind, Verdict, measure_drift
from models.statistics.evaluation import DecodedEvaluation, decode_evaluation
from models.statistics.fairness import Gap, fairness_gaps
from models.statistics.histogram import NoisyHistogram, combine
from models.statistics.quantiles import quantile
from models.statistics.survey import DecodedSurvey, decode_survey

__all__ = [
    "DecodedEvaluation",
    "DecodedSurvey",
    "Drift",
    "DriftKind",
    "Gap",
    "NoisyHistogram",
    "Verdict",
    "combine",
    "decode_evaluation",
    "decode_survey",
    "fairness_gaps",
    "measure_drift",
    "quantile",
]
