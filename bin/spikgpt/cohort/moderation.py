"""Moderated t and F tests: the variance of each row is drawn to what all rows have in common.

The closed-form empirical Bayes of Smyth (Statistical Applications in Genetics and Molecular Biology 3:3, 2004), as
limma computes it (`lmFit`, `eBayes`); a test compares the two. Its Python port (inmoose) is under the GPL, so these few
lines are our own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma
from scipy.stats import f as f_distribution

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moderated:
    """Tests of several rows.

    `coefficients` float64 (rows, tested columns); `statistic` float64 (rows,), t for one tested column, else F;
    `df` float64: degrees of freedom of each test; `p_value` float64 (rows,).
    """

    coefficients: Floats
    statistic: Floats
    df: float
    p_value: Floats


def inverse_trigamma(value: float) -> float:
    """The x > 0 whose trigamma is `value` (> 0), by Newton's method on 1/trigamma (Smyth 2004, appendix)."""
    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    # 1/trigamma is convex and nearly linear: it takes a handful of steps
    for _ in range(50):
        trigamma = polygamma(1, x)
        step = trigamma * (1 - trigamma / value) / polygamma(2, x)
        x += step
        if -step / x < 1e-8:
            break
    return float(x)


def common_variance(variances: Floats, df: float) -> tuple[float, float]:
    """What the rows' variances have in common: the prior variance and its degrees of freedom.

    Parameters
    ----------
    variances
        float64 (rows,), each estimated with `df` degrees of freedom.

    Returns
    -------
    Variance and degrees of freedom; 0 of these where a single row says nothing of others, infinity where the rows vary
    no more than chance has it.
    """
    if len(variances) == 1:
        return float(variances[0]), 0.0
    # as limma: a variance of zero has no logarithm
    middle = float(np.median(variances))
    bounded = np.maximum(variances, 1e-5 * (middle if middle > 0 else 1.0))
    logs = np.log(bounded) - digamma(df / 2) + np.log(df / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, df / 2))
    if excess <= 0:
        return float(bounded.mean()), np.inf
    prior = 2 * inverse_trigamma(excess)
    return float(np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))), prior


def moderated_test(values: Floats, design: Floats, tested: list[int]) -> Moderated:
    """Test columns of a linear model in every row, with moderated variances.

    Parameters
    ----------
    values
        float64 (rows, observations).
    design
        float64 (observations, columns), of full rank with fewer columns than observations.
    tested
        Columns that are zero where there is no difference: one gives a two-sided t test, several an F test.

    Raises
    ------
    ValueError
        The design is not of full rank, or leaves no degree of freedom.
    """
    observations, columns = design.shape
    if np.linalg.matrix_rank(design) < columns or observations <= columns:
        raise ValueError(f"{observations} observations do not determine {columns} coefficients and a variance")
    inverse = np.linalg.inv(design.T @ design)
    coefficients = values @ design @ inverse
    df = float(observations - columns)
    variances = ((values - coefficients @ design.T) ** 2).sum(axis=1) / df
    prior_variance, prior_df = common_variance(variances, df)
    if np.isinf(prior_df):
        posterior = np.full(len(values), prior_variance)
    else:
        posterior = (prior_df * prior_variance + df * variances) / (prior_df + df)
    # never more than all rows together have
    total = min(df + prior_df, df * len(values))
    chosen = coefficients[:, tested]
    covariance = inverse[np.ix_(tested, tested)]
    f = np.einsum("ri,ij,rj->r", chosen, np.linalg.inv(covariance), chosen) / len(tested) / posterior
    p = f_distribution.sf(f, len(tested), total)
    statistic = np.sign(chosen[:, 0]) * np.sqrt(f) if len(tested) == 1 else f
    return Moderated(chosen, statistic, total, p)
