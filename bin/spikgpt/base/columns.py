"""The contract of columns: what `obs` of every annotated h5ad and `cells.tsv.gz` hold, said once.

The h5ad's writer takes names, types and order from here, the tables and the report their names and reasons, and
`docs/output.md` its rows (a test compares them).
"""

from dataclasses import dataclass
from typing import Literal

from spikgpt.base.ontology import TERM

Kind = Literal["text", "integer", "number", "True/False", "0 to 1"]


@dataclass(frozen=True)
class Column:
    """A column of `obs`: its name, what its values are, and what it says, in Markdown.

    text: categorical and never missing, an empty text is "not given"; integer: int64; number and 0 to 1: float32;
    True/False: bool.
    """

    name: str
    kind: Kind
    meaning: str


@dataclass(frozen=True)
class Reason:
    """Why a cell is Unknown: the word in `spikgpt_unknown_reason`, and what it says of the cell."""

    name: str
    meaning: str
    of_the_cell: bool
    """Whether it speaks of what the cell is: poor quality or genes are no sign of a new type."""


LOW_CONFIDENCE = Reason("low_confidence", "lies between types", True)
OUTSIDE_REFERENCE = Reason("outside_reference", "fits no type", True)
LOW_GENE_MATCH = Reason("low_gene_match", "too few genes that the model knows", False)
LOW_QUALITY = Reason("low_quality", "too shallow to judge", False)

UNKNOWN_REASONS = (LOW_CONFIDENCE, OUTSIDE_REFERENCE, LOW_GENE_MATCH, LOW_QUALITY)
"""In the order in which tables and plots list them; the empty text stands where a cell is not Unknown."""
REASON_NAMES = tuple(reason.name for reason in UNKNOWN_REASONS)

_SHEET = "from the samplesheet; `batch` is the sample's name unless given"

SAMPLE = (
    Column("sample", "text", _SHEET),
    Column("batch", "text", _SHEET),
    Column("donor", "text", _SHEET),
    Column("condition", "text", _SHEET),
)
QUALITY = (
    Column("n_genes_by_counts", "integer", "genes with a count"),
    Column("total_counts", "integer", "counts (UMIs)"),
    Column("pct_counts_mt", "number", "percentage of counts in mitochondrial genes"),
    Column("doublet_score", "number", "Scrublet's score; empty (NaN) where doublets were not looked for"),
    Column(
        "predicted_doublet", "True/False", "False for every cell that is left: predicted doublets are removed"
    ),
)  # fmt: skip
LABELS = (
    Column("spikgpt_cell_type", "text", "the label, or `Unknown`"),
    Column(
        "spikgpt_best_match", "text",
        "nearest type of the annotator, its reference's or one that it was "
        "[taught](usage.md#teach-a-type-that-was-unknown), or likeliest class of the tissue profiles, never `Unknown`; "
        "empty where these profiles could not judge",
    ),
    Column(
        "spikgpt_confidence", "0 to 1",
        "probability of the best match, calibrated on held-out cells; of the tissue profiles, on simulated cells of "
        "withheld studies",
    ),
    Column(
        "spikgpt_p_value", "0 to 1",
        "conformal p-value that the cell belongs to the reference, no larger than its rank in its sample allows; at "
        "most `unknown_rate`: `Unknown`; empty (NaN) for labels from the tissue profiles",
    ),
    Column(
        "spikgpt_unknown_reason", "text",
        "; ".join(f"`{reason.name}`: {reason.meaning}" for reason in UNKNOWN_REASONS) + "; empty: not `Unknown`",
    ),
    Column(
        TERM, "text",
        "Cell Ontology term of the label, where the reference gave one, or of the profiles' class; `unknown` for a "
        "label without one and for `Unknown` cells, as CELLxGENE's schema (7.1.0) asks",
    ),
)  # fmt: skip
LEVEL_NAME, LEVEL_TERM, LEVEL, LABEL_SET = (
    "spikgpt_level_cell_type", "spikgpt_level_term_id", "spikgpt_level", "spikgpt_label_set",
)  # fmt: skip
LEAF, ANCESTOR = "leaf", "ancestor"
"""Words of `spikgpt_level`: the best match itself, or a level so many steps above it."""
SEPARATOR = "|"
"""Between the types of a set."""
LEVELS = (
    Column(
        LEVEL_NAME, "text",
        "the deepest level that holds at the unknown rate: the type, a level above it, or `Unknown`",
    ),
    Column(LEVEL_TERM, "text", "Cell Ontology term of that level; `unknown` where it has none, and for `Unknown`"),
    Column(LEVEL, "text", "`leaf`: the type itself; `ancestor 1`, `ancestor 2`, ...: so many levels above the best "
           "match; empty: `Unknown`"),
    Column(
        LABEL_SET, "text",
        "types that could not be excluded at the unknown rate, with a vertical bar between them; empty: all were",
    ),
)  # fmt: skip
AGREEMENT = "spikgpt_agreement"
JUDGE_COLUMNS = {
    "embedding": "spikgpt_judge_embedding",
    "expression": "spikgpt_judge_expression",
    "regression": "spikgpt_judge_regression",
    "celltypist": "spikgpt_judge_celltypist",
}
"""Independent judges of a cell, see `spikgpt.annotator.judges`, and the column of each."""
JUDGES = (
    Column(
        AGREEMENT, "0 to 1",
        "share of the judges below with an answer that name the best match; empty (NaN): there was none, as for labels "
        "from the tissue profiles and for taught types",
    ),
    *(
        Column(
            column, "text",
            "type that the embedding view alone, the expression view alone, logistic regression on genes and "
            "CellTypist name, all trained on the same reference; empty: no answer",
        )
        for column in JUDGE_COLUMNS.values()
    ),
)  # fmt: skip
OPINION, OPINION_SCORE = "spikgpt_second_opinion", "spikgpt_second_opinion_score"
SECOND_OPINION = (
    Column(
        OPINION, "text",
        "broad class that the bundled tissue profiles name without the reference; empty: no opinion",
    ),
    Column(
        OPINION_SCORE, "0 to 1",
        "probability of that class, or of the likeliest one where there is no opinion",
    ),
)  # fmt: skip
CLUSTERS = (
    Column(
        "spikgpt_cluster", "text",
        "Leiden cluster of the cohort on the embedding, `0` the largest; empty without an embedding",
    ),
    Column(
        "spikgpt_cluster_cell_type", "text",
        "commonest label of the cluster's cells; `Unknown` only where more than half are",
    ),
)  # fmt: skip

OBS = (*SAMPLE, *QUALITY, *LABELS, *LEVELS, *JUDGES, *SECOND_OPINION, *CLUSTERS)
"""Columns of `obs` in every annotated h5ad, in this order."""
SAMPLE_COLUMNS = tuple(column.name for column in SAMPLE)
OBS_COLUMNS = tuple(column.name for column in OBS)

QC_METRICS = (
    "n_genes_by_counts", "total_counts", "pct_counts_mt", "pct_counts_ribo", "pct_counts_hb",
    "pct_counts_in_top_20_genes", "counts_for_top_20",
)  # fmt: skip
"""What quality control measures of every called cell; `obs` carries the first three."""


def documented_rows() -> list[str]:
    """Rows of the Markdown table of `obs` in `docs/output.md`; columns that share a meaning share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for column in OBS:
        rows.setdefault((column.kind, column.meaning), []).append(f"`{column.name}`")
    return [f"| {' '.join(names)} | {kind} | {meaning} |" for (kind, meaning), names in rows.items()]
