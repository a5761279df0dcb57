"""docs/output.md lists the columns that are written, all of them and in their order."""

import re

import pytest
from conftest import ROOT
from spikgpt.annotator.benchmark import COLUMNS as BENCHMARK_COLUMNS
from spikgpt.base.columns import OBS_COLUMNS, documented_rows
from spikgpt.cohort.annotators import ANNOTATOR_COLUMNS
from spikgpt.cohort.batch_mixing import MIXING_COLUMNS
from spikgpt.cohort.comparison import AGREEMENT_COLUMNS, COMPARISON_COLUMNS
from spikgpt.cohort.conditions import CONDITION_COLUMNS
from spikgpt.cohort.contradictions import CONTRADICTION_COLUMNS
from spikgpt.cohort.contrast import DIFFERENTIAL_COLUMNS
from spikgpt.cohort.evidence import EVIDENCE_COLUMNS
from spikgpt.cohort.expected_genes import EXPECTED_COLUMNS, SHOWN_COLUMNS
from spikgpt.cohort.explanations import EXPLANATION_COLUMNS
from spikgpt.cohort.integration import INTEGRATION_COLUMNS
from spikgpt.cohort.judges import JUDGE_TABLE_COLUMNS
from spikgpt.cohort.levels import COLUMNS as LEVEL_COLUMNS
from spikgpt.cohort.marker_expression import EXPRESSION_COLUMNS
from spikgpt.cohort.markers import MARKER_COLUMNS
from spikgpt.cohort.naming import SEURAT_COLUMNS
from spikgpt.cohort.populations import POPULATION_COLUMNS
from spikgpt.cohort.pseudobulk import PSEUDOBULK_COLUMNS
from spikgpt.cohort.samples import SAMPLE_FIGURES
from spikgpt.cohort.second_opinion import OPINION_COLUMNS
from spikgpt.cohort.tables import BOUND_COLUMNS, BY_TYPE_COLUMNS, REMOVED_COLUMNS
from spikgpt.quality_control.barnyard import GENOME_COLUMNS

WRITTEN = {
    "`obs`": OBS_COLUMNS,
    # the rest is that of obs
    "`cells.tsv.gz`": ("sample", "barcode", *OBS_COLUMNS[1:4]),
    "`composition.tsv`": ("sample", "cell_type", "cells", "percent"),
    "`levels.tsv`": LEVEL_COLUMNS,
    "`judges.tsv`": JUDGE_TABLE_COLUMNS,
    "`markers.tsv`": MARKER_COLUMNS,
    "`marker_expression.tsv`": EXPRESSION_COLUMNS,
    "`evidence.tsv`": EVIDENCE_COLUMNS,
    "`explanations.tsv`": EXPLANATION_COLUMNS,
    "`contradictions.tsv`": CONTRADICTION_COLUMNS,
    "`annotators.tsv`": ANNOTATOR_COLUMNS,
    "`expected_genes.tsv`": EXPECTED_COLUMNS,
    "`expected_genes_shown.tsv`": SHOWN_COLUMNS,
    "`second_opinion.tsv`": OPINION_COLUMNS,
    "`unknown_populations.tsv`": POPULATION_COLUMNS,
    "`removed_cells.tsv.gz`": REMOVED_COLUMNS,
    "`<sample>.genomes.tsv.gz`": GENOME_COLUMNS,
    "`removed_by_type.tsv`": BY_TYPE_COLUMNS,
    "`qc_thresholds.tsv`": BOUND_COLUMNS,
    "`comparison.tsv`": COMPARISON_COLUMNS,
    "`agreement.tsv`": AGREEMENT_COLUMNS,
    "`samples.tsv`": SAMPLE_FIGURES,
    "`markers_seurat.tsv`": SEURAT_COLUMNS,
    "`cells_per_step.tsv`": ("sample", "step", "cells"),
    "`genes_measured.tsv`": ("sample", "genes", "shared", "percent_shared"),
    "`batch_mixing.tsv`": MIXING_COLUMNS,
    "`integration.tsv`": INTEGRATION_COLUMNS,
    "`pseudobulk/samples.tsv`": PSEUDOBULK_COLUMNS,
    "`conditions.tsv`": CONDITION_COLUMNS,
    "`differential_expression.tsv.gz`": DIFFERENTIAL_COLUMNS,
    "`benchmark.tsv`": tuple(BENCHMARK_COLUMNS),
}
"""Columns by the word that the paragraph before their table begins with."""


def documented() -> dict[str, tuple[str, ...]]:
    """Columns that the page's tables of columns list, by the first word of the nearest paragraph that names a file."""
    found: dict[str, tuple[str, ...]] = {}
    name, inside = "", False
    for line in (ROOT / "docs" / "output.md").read_text(encoding="utf-8").splitlines():
        inside = line.startswith("| column |") or (inside and line.startswith("|"))
        if inside and line.startswith("| `"):
            found[name] = found.get(name, ()) + tuple(re.findall(r"`([^`]+)`", line.split("|")[1]))
        elif match := re.match(r"`(obs|(?:<sample>\.)?[a-z_/]+\.tsv(?:\.gz)?)`(?=[,:])", line):
            name = match[0]
    return found


@pytest.mark.parametrize("table", WRITTEN)
def test_the_page_lists_the_columns_that_are_written(table):
    assert documented()[table] == WRITTEN[table]


def test_the_page_says_of_obs_what_the_contract_says():
    page = (ROOT / "docs" / "output.md").read_text(encoding="utf-8")
    assert "\n".join(documented_rows()) in page


def test_every_table_of_columns_is_compared():
    assert set(documented()) == set(WRITTEN)
