"""The methods text of the report, filled in from the run."""

from collections import Counter

from spikgpt.annotator.correction import Constants
from spikgpt.base.species import HUMAN, SPECIES
from spikgpt.cohort.integration import COMPONENTS
from spikgpt.profiles.opinion import CUT
from spikgpt.report.annotators import all_profiled, profiled_samples
from spikgpt.report.content import html_list, text
from spikgpt.report.inputs import Inputs, Stats
from spikgpt.report.integration import integration_of
from spikgpt.report.removed import defaults_text

_CITATIONS = {
    "spikgpt": "SpikGPT {version} (this pipeline).",
    "nextflow": "Di Tommaso P, et al. Nextflow enables reproducible computational workflows. "
    "Nat Biotechnol 2017;35:316.",
    "emptydrops": "Lun ATL, et al. EmptyDrops: distinguishing cells from empty droplets in droplet-based "
    "single-cell RNA sequencing data. Genome Biol 2019;20:63.",
    "decontx": "Yang S, et al. Decontamination of ambient RNA in single-cell RNA-seq with DecontX. "
    "Genome Biol 2020;21:57.",
    "harmony": "Korsunsky I, et al. Fast, sensitive and accurate integration of single-cell data with Harmony. "
    "Nat Methods 2019;16:1289.",
    "kbet": "Buettner M, et al. A test metric for assessing single-cell RNA-seq batch correction. "
    "Nat Methods 2019;16:43.",
    "scrublet": "Wolock SL, et al. Scrublet: computational identification of cell doublets in single-cell "
    "transcriptomic data. Cell Syst 2019;8:281.",
    "scanpy": "Wolf FA, et al. SCANPY: large-scale single-cell gene expression data analysis. Genome Biol 2018;19:15.",
    "scgpt": "Cui H, et al. scGPT: toward building a foundation model for single-cell multi-omics using generative AI. "
    "Nat Methods 2024;21:1470.",
    "spikingjelly": "Fang W, et al. SpikingJelly: an open-source machine learning infrastructure platform for "
    "spike-based intelligence. Sci Adv 2023;9:eadi1480.",
    "spikformer": "Zhou Z, et al. Spikformer: when spiking neural network meets transformer. ICLR 2023.",
    "conformal": "Vovk V. Cross-conformal predictors. Ann Math Artif Intell 2015;74:9.",
    "profiles": "CellProfileLibrary, https://github.com/Nanostring-Biostats/CellProfileLibrary (CC BY 4.0).",
    "singler": "Aran D, et al. Reference-based analysis of lung single-cell sequencing reveals a transitional "
    "profibrotic macrophage. Nat Immunol 2019;20:163.",
    "leiden": "Traag VA, et al. From Louvain to Leiden: guaranteeing well-connected communities. Sci Rep 2019;9:5233.",
    "umap": "McInnes L, et al. UMAP: uniform manifold approximation and projection for dimension reduction. "
    "arXiv:1802.03426, 2018.",
    "propeller": "Phipson B, et al. propeller: testing for differences in cell type proportions in single cell data. "
    "Bioinformatics 2022;38:4720.",
    "limma": "Smyth GK. Linear models and empirical Bayes methods for assessing differential expression in microarray "
    "experiments. Stat Appl Genet Mol Biol 2004;3:3.",
    "pydeseq2": "Muzellec B, et al. PyDESeq2: a python package for bulk RNA-seq differential expression analysis. "
    "Bioinformatics 2023;39:btad547.",
    "deseq2": "Love MI, et al. Moderated estimation of fold change and dispersion for RNA-seq data with DESeq2. "
    "Genome Biol 2014;15:550.",
    "multiqc": "Ewels P, et al. MultiQC: summarize analysis results for multiple tools and samples in a single report. "
    "Bioinformatics 2016;32:3047.",
}


def _span(stats: list[Stats], share: str) -> str:
    """A share of all samples in percent, as a range where they differ."""
    low, high = (f"{100 * pick(row[share] for row in stats):.1f}" for pick in (min, max))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _overrides(inputs: Inputs) -> str:
    """The thresholds that the samplesheet gave, with the number of samples of each value."""
    counts: dict[str, int] = {}
    for stats in inputs.stats["filter"].values():
        for name in stats["given"]:
            told = f"{name} {stats['thresholds'][name]:g}"
            counts[told] = counts.get(told, 0) + 1
    if not counts:
        return ""
    listed = ", ".join(f"{text(told)} ({n} of {len(inputs.samples)} samples)" for told, n in sorted(counts.items()))
    return f", but for what the samplesheet gave: {listed}"


def methods_html(inputs: Inputs) -> str:
    """Paragraphs and the list of what they cite; only steps that this run did are named."""
    parameters, cited = inputs.run["parameters"], ["spikgpt", "nextflow"]

    def cite(*keys: str) -> str:
        for key in keys:
            if key not in cited:
                cited.append(key)
        return "[" + ", ".join(str(cited.index(key) + 1) for key in keys) + "]"

    samples, kept = len(inputs.samples), len(inputs.cells)
    parts = [
        f"Counts of {samples} sample{'' if samples == 1 else 's'} were analysed with SpikGPT "
        f"{text(inputs.run['version'])} [1], run by Nextflow [2]."
    ]
    if inputs.stats["called"]:
        unfiltered = len(inputs.stats["called"])
        matrices = "matrix" if unfiltered == 1 else "matrices"
        parts.append(f"Cells of {unfiltered} unfiltered {matrices} were called by EmptyDrops {cite('emptydrops')}.")
    cleaned = [stats for stats in inputs.stats["ambient"].values() if stats.get("run")]
    if cleaned:
        parts.append(
            f"Ambient RNA was removed by DecontX {cite('decontx')} in {len(cleaned)} of {samples} samples, and the "
            "counts left were rounded to whole numbers."
        )
    scored = [stats for stats in inputs.stats["doublets"].values() if stats.get("run")]
    if scored:
        parts.append(
            f"Doublets were predicted with Scrublet {cite('scrublet')} in {len(scored)} of {samples} samples, with an "
            f"expected rate of 0.8 % per 1,000 cells ({_span(scored, 'expected_rate')}) and a score threshold at the "
            f"valley of the simulated doublets' scores, and {_span(scored, 'predicted_rate')} were removed."
        )
    parts.append(
        "Cells were grouped within each sample by the expression programme that explains their counts best, from "
        f"Leiden clusters {cite('leiden')} of the unfiltered sample. Within these groups they were filtered by median "
        "absolute deviations (MADs) of counts, genes, counts in the top 20 genes and mitochondrial share, drawn to the "
        f"sample's in small groups. Cells were kept with {defaults_text()}{_overrides(inputs)}; {kept:,} cells "
        "remained. The bounds of each sample are in tables/qc_thresholds.tsv. Counts were scaled "
        f"to 10,000 per cell and log1p transformed with scanpy {cite('scanpy')}."
    )
    chunks = inputs.sample_embeddings()
    if chunks:
        name = text(chunks[0].get("scgpt_name", "scGPT"))
        checkpoint = (
            f"the checkpoint {name} of the SpikGPT project, which has scGPT's architecture but is not one of its "
            "published models"
            if chunks[0].get("bundled")
            else f"the scGPT checkpoint {name}"
        )
        parts.append(
            f"Cells were embedded by scGPT {cite('scgpt')} with {checkpoint} (sha256 "
            f"{text(str(chunks[0].get('scgpt_sha256', ''))[:12])}…), on at most {text(parameters.get('max_genes'))} "
            "genes per cell."
        )
    others = {stats.get("species", HUMAN) for stats in inputs.stats["import"].values()} - {HUMAN}
    if chunks and others:
        parts.append(
            f"scGPT knows human genes: of the {' and '.join(SPECIES[name].spoken for name in sorted(others))} genes it "
            "was given those that are the one ortholog of one human gene (Ensembl), by that gene's symbol; expression "
            "was looked at in the species' own genes."
        )
    config = inputs.annotator
    profiled = profiled_samples(inputs)
    if profiled:
        parts.append(
            f"Cells of {len(profiled)} of {samples} samples were labelled without a reference, with broad classes from "
            f"mean profiles of human tissues {cite('profiles')}; cells for which no class was likely enough "
            f"(probability {CUT:g}) were called Unknown."
        )
    if config and not all_profiled(inputs):
        cells = config.get("training", {}).get("cells", 0)
        trained = "trained in this run" if parameters.get("reference") else "trained before"
        parts.append(
            f"Cell types came from an annotator {trained} on {cells:,} reference cells of {len(config['classes'])} "
            f"types: spiking self-attention {cite('spikformer', 'spikingjelly')} on the embedding, and expression "
            f"(features: {text(config.get('features', ''))}). Cells whose cross-conformal p-value {cite('conformal')} "
            f"was at most {inputs.unknown_rate:.3g} were called Unknown, and of each sample no less than the "
            f"{100 * Constants().known * inputs.unknown_rate:.3g} % of its cells that fitted worst."
        )
        finer = Counter[str]()
        for row in config.get("training", {}).get("coarse_labels", []):
            finer[row["label"]] += sum(n for name, n in row["learned_as"].items() if name != row["label"])
        named = ", ".join(f"{n:,} of {text(label)}" for label, n in finer.items() if n)
        if named:
            parts.append(
                f"Reference cells with a label that stands above types of another file ({named}) were trained on as "
                "the finer types that an annotator of the other files called them."
            )
    if kept and inputs.stats["second_opinion"] and not others:
        parts.append(
            f"A second opinion on each cell's broad class came from mean profiles of human tissues {cite('profiles')}, "
            f"by Spearman's correlation {cite('singler')} after one correction for the sample, and by logistic "
            "regressions on cells simulated from the profiles. An opinion contradicts a label where neither stands "
            "above the other in the Cell Ontology; opinions changed no label that an annotator gave."
        )
    if kept:
        integration = integration_of(inputs)
        if integration is not None and integration.used == "harmony":
            parts.append(
                f"Batches were integrated by Harmony {cite('harmony')} on {COMPONENTS} principal components of the "
                "standardised embedding; labels were not."
            )
            place = "integrated embedding"
        else:
            place = "standardised embedding"
        parts.append(
            f"All samples' cells were clustered by Leiden {cite('leiden')} (resolution "
            f"{text(parameters.get('cluster_resolution', 1.0))}) on the 15-nearest-neighbour graph of the "
            f"{place} and laid out by UMAP {cite('umap')}. Markers are genes higher in a cluster than "
            "in all other cells (Welch's t-test, Benjamini-Hochberg). Clusters with at least 25 % Unknown cells (and "
            "twice the rate), more than the rate explains (binomial test, Bonferroni, p < 0.001), are reported as "
            "populations outside of the reference. The reference's markers of a type (detection in its cells against "
            "the other types', cells thinned to one depth) were looked for in its clusters; a marker counts as found "
            "if its detection is nearer to the type's share than to the others', and in more cells than in the rest "
            "(z-test of proportions, p < 0.01)."
        )
    if len(inputs.tables.get("batch_mixing.tsv", ())):
        parts.append(
            f"Mixing of batches was measured by LISI {cite('harmony')} and kBET {cite('kbet')}, before and after "
            "Harmony."
        )
    tested = inputs.tables.get("conditions.tsv")
    if tested is not None and tested["test"].ne("").any():
        parts.append(
            "The share of each type was compared between conditions as by propeller "
            f"{cite('propeller')}: arcsine of the square root of the share in each replicate, a linear model, its "
            f"variance moderated over types {cite('limma')}, false discovery rate of Benjamini and Hochberg."
        )
    if inputs.differential and inputs.differential["types"]:
        column, treated, control = map(text, inputs.differential["contrast"])
        parts.append(
            f"Expression was compared between {treated} and {control} ({column}) type by type, on the summed counts of "
            f"each {inputs.differential['types'][0]['replicates']}, by PyDESeq2 {cite('pydeseq2')}, DESeq2 "
            f"{cite('deseq2')} in Python."
        )
    parts.append(
        f"The seed was {text(parameters.get('seed', 0))}. This report was made with MultiQC {cite('multiqc')}."
    )
    references = [text(_CITATIONS[key].format(version=inputs.run["version"])) for key in cited]
    return f"<p>{' '.join(parts)}</p>{html_list(references, ordered=True)}"
