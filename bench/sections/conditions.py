"""Composition test and differential expression beside R, as `conditions.py` measured them."""

from typing import Any

from sections.markdown import number, table


def render(figures: dict[str, Any]) -> str:
    composition = figures["composition"]
    rows = [
        [
            name,
            f"{found['genes']:,}",
            f"{found['fold_change_correlation']:.6f}",
            f"{found['largest_fold_change_difference']:.2g}",
            f"{found['p_rank_correlation']:.4f}",
            f"{found['genes_ours']:,} / {found['genes_deseq2']:,} / {found['genes_both']:,}",
            f"{found['genes_edger']:,} / {found['genes_ours_and_edger']:,}",
        ]
        for name, found in figures["expression"].items()
    ]
    one = next(iter(figures["expression"].values()))
    return (
        "## Conditions compared, beside R\n\n"
        "`make bench-conditions DATA=folder`, with R from "
        f"Debian: {figures['cells']:,} cells of {figures['donors']} donors in one condition, {figures['genes']:,} "
        "genes, labels of their authors.\n\n"
        f"**Composition.** All {composition['splits']} ways to part the donors into two halves, "
        f"{composition['types']} types. The p-values differ from limma's ({composition['limma']}; propeller's steps "
        f"with the arcsine transform) by at most {composition['largest_difference_of_p']:.1g}. No half differs from "
        f"the other but by chance: {number(100 * composition['p_at_most_0.05'], 1)} % of the p-values are at most "
        "0.05.\n\n"
        f"**Expression.** PyDESeq2 as the pipeline calls it, beside DESeq2 {one['deseq2']} and edgeR {one['edger']} "
        "(quasi-likelihood) on the same counts and genes. Numbers of genes are those with a false discovery rate of at "
        "most 0.05.\n\n"
        + table(
            [
                "compared",
                "genes",
                "correlation of log2 fold changes with DESeq2's",
                "largest difference",
                "rank correlation of p-values",
                "significant: ours / DESeq2's / both",
                "edgeR's / with ours",
            ],
            rows,
        )
    )
