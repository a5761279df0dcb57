"""Conditions compared: moderated tests beside limma's, replicates, and what is not tested."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import polygamma
from spikgpt.base.tsv import read_tsv, write_tsv
from spikgpt.cohort.conditions import CONDITION_COLUMNS, compare_conditions, replicates
from spikgpt.cohort.moderation import common_variance, inverse_trigamma, moderated_test

ROOT = Path(__file__).resolve().parents[2]
CELLS = {
    "B": [120, 98, 143, 80, 210, 160], "T": [400, 380, 290, 420, 300, 310], "NK": [50, 61, 40, 80, 35, 20],
    "Mono": [30, 45, 60, 20, 90, 85], "Platelet": [0, 3, 1, 0, 9, 6],
}  # fmt: skip
"""Cells of five types in six replicates."""
LIMMA = {
    "t": ([0.5091138183, -0.7595799197, -0.4948994447, 0.5371743848, 0.5086840024],
          [0.6162435267, 0.4563662713, 0.6260641276, 0.5970734991, 0.6165394144]),
    "paired t": ([0.6131656520, -0.9148215978, -0.5960461684, 0.6469611904, 0.6126479911],
                 [0.5534560981, 0.3818148361, 0.5643913970, 0.5322256425, 0.5537849956]),
    "F": ([2.989523582, 3.732817722, 2.046968122, 2.983950766, 1.193434701],
          [0.08077765627, 0.04833860791, 0.16366975492, 0.08110024751, 0.33038780042]),
}  # fmt: skip
"""limma 3.54.1 on the arcsine of the square root of the shares: `eBayes(lmFit(y, design))`, statistics and p-values.

Those of F are `pf(F, 2, df.total)`: `F.p.value` itself takes infinitely many degrees of freedom where the prior has
them, `df.total` and limma's t tests never more than all rows together have."""
ARRANGED = {
    "t": ("aaabbb", "uvwxyz"), "paired t": ("aaabbb", "pqrpqr"), "F": ("aabbcc", "uvwxyz"),
}  # fmt: skip
"""Condition and donor of the six replicates."""


def sheet_of(conditions: str, donors: str, cells: dict[str, list[int]] = CELLS) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (f"s{at}", donor.strip(), condition.strip(), name, number[at])
            for at, (condition, donor) in enumerate(zip(conditions, donors, strict=True))
            for name, number in cells.items()
            if number[at]
        ],
        columns=["sample", "donor", "condition", "cell_type", "cells"],
    )


@pytest.mark.parametrize("test", LIMMA)
def test_statistics_and_p_values_are_limmas(test):
    table, messages = compare_conditions(replicates(sheet_of(*ARRANGED[test])))
    assert tuple(table) == CONDITION_COLUMNS
    assert messages == []
    assert set(table["test"]) == {test}
    rows = table.set_index("cell_type").loc[list(CELLS)]
    np.testing.assert_allclose(rows["statistic"], LIMMA[test][0], rtol=1e-8)
    np.testing.assert_allclose(rows["p_value"], LIMMA[test][1], rtol=1e-8)


def test_a_finite_prior_is_limmas():
    """`fitFDist(c(.01, .2, 1, 3, .05), 3)` and `trigammaInverse` of limma 3.54.1."""
    variance, df = common_variance(np.array([0.01, 0.2, 1, 3, 0.05]), 3)
    assert (variance, df) == pytest.approx((0.0903250518921725, 1.08933005075837), rel=1e-6)
    for value in (1e-8, 0.003, 1.0, 40.0, 1e8):
        assert polygamma(1, inverse_trigamma(value)) == pytest.approx(value, rel=1e-6)
    assert common_variance(np.array([0.5]), 4) == (0.5, 0.0)


def test_a_difference_is_found_and_chance_is_not():
    """With one type cut to a quarter, and with none: 200 made cohorts of four against four."""
    rng = np.random.default_rng(0)
    found, false = 0, 0
    for _ in range(200):
        shares = rng.dirichlet(40 * np.array([0.4, 0.3, 0.15, 0.1, 0.05]), size=8)
        planted = shares * np.where(np.arange(8)[:, None] < 4, 1, [1, 1, 0.25, 1, 1])
        for which, counts in (("null", shares), ("planted", planted)):
            cells = np.array([rng.multinomial(800, row / row.sum()) for row in counts])
            sheet = sheet_of("aaaabbbb", "stuvwxyz", {f"t{k}": list(cells[:, k]) for k in range(5)})
            table, _ = compare_conditions(replicates(sheet))
            if which == "null":
                false += int((table["p_value"] <= 0.05).sum())
            else:
                found += int(table.loc[2, "fdr"] <= 0.05)
    assert 0.02 <= false / 1000 <= 0.08
    assert found / 200 > 0.7


def test_samples_of_a_donor_are_one_replicate():
    split = pd.concat([sheet_of("aaabbb", "uvwxyz"), sheet_of("aaabbb", "uvwxyz").assign(sample="again")])
    split["sample"] = split["sample"] + split["donor"]
    once, _ = compare_conditions(replicates(sheet_of("aaabbb", "uvwxyz")))
    twice, _ = compare_conditions(replicates(split))
    pd.testing.assert_frame_equal(once.drop(columns="cells"), twice.drop(columns="cells"))
    found = replicates(split.assign(donor=""))
    assert found.of == "sample"
    assert len(found.counts) == 12
    assert "not every sample has a donor" in found.messages[0]


def test_what_cannot_be_tested_is_said_and_left_empty():
    assert replicates(sheet_of("aaaaaa", "uvwxyz")) is None
    assert replicates(sheet_of("aaa   ", "uvwxyz")) is None
    # one replicate of b
    table, messages = compare_conditions(replicates(sheet_of("aaaaab", "uvwxyz")))
    assert table["p_value"].isna().all()
    assert set(table["test"]) == {""}
    assert table["replicates"][0] == "a=5; b=1"
    assert "fewer than 2 donors" in messages[0]
    assert "b=1" in messages[0]
    # of three conditions the two others are compared, and samples without one are left out
    table, messages = compare_conditions(replicates(sheet_of("aabbc ", "uvwxyz")))
    assert set(table["test"]) == {"t"}
    assert "samples that have none: s5" in messages[0]
    assert "c=1" in messages[1]
    # one donor alone has both conditions: nothing is left to tell the spread
    table, messages = compare_conditions(replicates(sheet_of("aabbbb", "uvuxyz")))
    assert set(table["test"]) == {""}
    assert "too few donors" in messages[0]
    with pytest.raises(ValueError, match="do not determine"):
        moderated_test(np.ones((2, 3)), np.ones((3, 2)), [1])


def test_the_script_writes_table_and_messages(tmp_path):
    write_tsv(tmp_path / "samples.tsv", sheet_of("aabbc ", "uvwxyz"))
    command = [str(ROOT / "bin" / "compare_conditions.py"), "--samples", "samples.tsv"]
    subprocess.run(command, cwd=tmp_path, check=True)
    table = read_tsv(tmp_path / "conditions.tsv")
    assert tuple(table) == CONDITION_COLUMNS
    assert len(json.loads((tmp_path / "conditions.json").read_text())["messages"]) == 2


@pytest.mark.skipif(
    shutil.which("Rscript") is None
    or subprocess.run(["Rscript", "-e", "library(limma)"], capture_output=True, check=False).returncode != 0,
    reason="R with limma (Debian: r-bioc-limma) is not here",
)
@pytest.mark.parametrize("seed", range(4))
def test_r_itself_gives_the_same(tmp_path, seed):
    """Made cohorts through limma: variances that differ between types, so that the prior is a finite one."""
    rng = np.random.default_rng(seed)
    spread = rng.gamma(0.5, size=12)
    values = rng.normal(size=(12, 8)) * np.sqrt(spread)[:, None]
    design = np.column_stack([np.ones(8), np.arange(8) < 4, np.arange(8) % 2])
    tested = [1] if seed % 2 else [1, 2]
    np.savetxt(tmp_path / "y.txt", values)
    np.savetxt(tmp_path / "x.txt", design)
    code = (
        "y <- as.matrix(read.table('y.txt')); x <- as.matrix(read.table('x.txt')); f <- limma::lmFit(y, x); "
        f"f <- limma::eBayes(f[, c({', '.join(str(c + 1) for c in tested)})]); "
        "write(pf(f$F, ncol(f), f$df.total, lower.tail=FALSE), 'p.txt', ncolumns=1)"
    )
    subprocess.run(["Rscript", "-e", code], cwd=tmp_path, check=True, capture_output=True, env={**os.environ})
    found = moderated_test(values, design, tested)
    np.testing.assert_allclose(found.p_value, np.loadtxt(tmp_path / "p.txt"), rtol=1e-4)
