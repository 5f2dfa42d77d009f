"""Claims: what a paper says, held against the tables of an experiment by rules that were fixed in advance.

The rules are data (a file a paper in `config/claims`, read by `rules`). A claim names an *effect* of the registry,
which turns the tables of one experiment or study into one number a trial; Student's t interval of its mean over trials
is then compared with a threshold (`verdicts`). A verdict is never given on missing data: what cannot be computed is
inconclusive and says why. Nothing is measured here, and no value of a paper is assumed.
"""

from onebasin.claims.pages import write_markdown, write_rst
from onebasin.claims.rules import Claim, Rules, load
from onebasin.claims.verdicts import Interval, confidence_interval, evaluate, judge

__all__ = [
    "Claim",
    "Interval",
    "Rules",
    "confidence_interval",
    "evaluate",
    "judge",
    "load",
    "write_markdown",
    "write_rst",
]
