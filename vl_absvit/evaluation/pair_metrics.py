"""Metrics of pretraining on pairs, in percent: hidden words guessed, and true pairs told from false ones.

Every caption is judged with its image and with a false one. C captions.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata


class JudgedCaptions(NamedTuple):
    """What was found out about every caption; columns (C,)."""

    source: np.ndarray  # number of its source
    hidden: np.ndarray  # tokens to guess
    loss: np.ndarray  # summed over them
    right: np.ndarray  # of them, where the second look is steered by what is left of the caption
    right_without_prior: np.ndarray  # with a top-down signal of strength 0; NaN where the variant has no strength
    right_with_other_prior: np.ndarray  # steered by what is left of another caption; NaN where no prior steers
    true_score: np.ndarray  # logit of "matches" less that of "does not match", with its image
    false_score: np.ndarray  # the same with a false image

    def of(self, source: int) -> "JudgedCaptions":
        """The captions of one source."""
        return JudgedCaptions(*(column[self.source == source] for column in self))


def pair_scores(judged: JudgedCaptions) -> dict[str, float]:
    """Accuracies of words and pairs, and their mean; AUC of pairs; loss and perplexity of a hidden token.

    ``mlm_accuracy_without_prior`` and ``mlm_accuracy_other_prior`` say what the prior is worth; a variant without one
    has none of them.
    """
    hidden = max(float(judged.hidden.sum()), 1.0)
    mlm = 100 * float(judged.right.sum()) / hidden
    itm = 50 * float((judged.true_score > 0).mean() + (judged.false_score <= 0).mean())
    loss = float(judged.loss.sum()) / hidden
    scores = {
        "accuracy": (mlm + itm) / 2, "mlm_accuracy": mlm, "itm_accuracy": itm,
        "itm_auc": auc(judged.true_score, judged.false_score), "mlm_loss": loss, "perplexity": math.exp(min(loss, 700)),
    }  # fmt: skip
    for name in ("without_prior", "other_prior"):
        right = judged.right_without_prior if name == "without_prior" else judged.right_with_other_prior
        if not np.isnan(right).any():
            scores[f"mlm_accuracy_{name}"] = 100 * float(right.sum()) / hidden
    return scores


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve: probability that a positive scores above a negative; equal scores count half.

    Args:
        positive, negative: scores of either, at least one each.
    """
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    above = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return 100 * float(above) / (len(positive) * len(negative))
