#!/usr/bin/env python3
"""Tables of cells, composition, evidence, unknown populations, quality control, steps, and figures of each sample."""

from spikgpt.base.files import whole_file
from spikgpt.cli import launch, parser


def main() -> None:
    args = parser(__doc__)
    args.add_argument("--h5ad", required=True, help="cohort.h5ad")
    args.add_argument("--markers", required=True, help="markers.tsv")
    args.add_argument("--annotator", help="folder of the annotator, for its reference's markers; none: tissue profiles")
    args.add_argument("--opinions", nargs="+", required=True, help="<sample>.second_opinion.parquet")
    args.add_argument("--profiles", required=True, help="folder of the tissue profiles")
    args.add_argument("--removed", nargs="*", default=[], help="<sample>.removed.tsv.gz")
    args.add_argument("--removed-types", required=True, help="removed_types.parquet")
    args.add_argument("--samples", required=True, help="samples.json")
    args.add_argument("--stats", nargs="+", required=True, help="JSON files of the steps")
    args.add_argument("--own-labels", nargs="*", default=[], help="<sample>.own_labels.parquet, to be compared")
    options = args.parse_args()

    import json
    from pathlib import Path

    import pandas as pd
    from spikgpt.annotator.choice import TISSUE
    from spikgpt.annotator.reference_markers import NO_MARKERS, ReferenceMarkers
    from spikgpt.base.tsv import read_tsv, write_tsv
    from spikgpt.cohort.annotators import annotators_table, from_profiles, unknown_rates
    from spikgpt.cohort.comparison import compare, read_own
    from spikgpt.cohort.contradictions import contradiction_table, of_clusters_and_types
    from spikgpt.cohort.evidence import (
        cluster_names,
        evidence_table,
        judge_markers,
        nearest_types,
    )
    from spikgpt.cohort.expected_genes import (
        classes_to_ask,
        expected_markers,
        expected_table,
        likeliest_classes,
        shown_table,
    )
    from spikgpt.cohort.judges import judges_table
    from spikgpt.cohort.levels import levels_table
    from spikgpt.cohort.populations import find_populations, pairs_to_judge, rejected, unknown_populations
    from spikgpt.cohort.samples import sample_figures
    from spikgpt.cohort.second_opinion import (
        Conflicts,
        group_opinions,
        opinion_table,
        read_probabilities,
        with_profiles,
    )
    from spikgpt.cohort.tables import (
        cells_per_step,
        composition,
        genes_measured,
        qc_thresholds,
        read_cohort,
        read_statistics,
        removed_by_type,
        removed_cells,
    )
    from spikgpt.profiles.labels import class_terms
    from spikgpt.profiles.library import Library

    cells, facts = read_cohort(options.h5ad)
    removed = removed_cells(options.removed, pd.read_parquet(options.removed_types))
    statistics = read_statistics(options.stats)
    samples = [row["sample"] for row in json.loads(Path(options.samples).read_text(encoding="utf-8"))]
    labelled = statistics["annotation"]
    rates = unknown_rates(cells, labelled, float(facts["parameters"]["unknown_rate"]))
    by_profiles = from_profiles(cells, labelled)
    library = Library.read(options.profiles)
    config: dict = {"markers": NO_MARKERS, "ontology": {}, "class_cells": {}, "levels": None, "classes": []}
    if options.annotator:
        config = json.loads((Path(options.annotator) / "config.json").read_text(encoding="utf-8"))
    # the annotator's own term first: the profiles' classes may have the name of one of its types
    terms = {**(class_terms(library) if by_profiles.any() else {}), **config["ontology"]}
    reference = ReferenceMarkers.from_dict(config["markers"])
    populations = find_populations(cells, rates)
    annotator_name = Path(options.annotator).name if options.annotator else TISSUE
    pairs = [(name, of) for name, (of, _) in nearest_types(cells).items()] + pairs_to_judge(populations, reference)
    judged = judge_markers(options.h5ad, cells, reference, pairs)

    wrong = of_clusters_and_types(options.h5ad, cells, terms)

    probabilities = read_probabilities(options.opinions, cells, library.classes)
    conflicts = Conflicts(library, cells["spikgpt_best_match"].cat.categories.astype(str), terms)
    cluster = cells["spikgpt_cluster"].astype(str).to_numpy()
    clusters = {name: cluster == name for name in cluster_names(cells)}
    new = {name: clusters[name] & rejected(cells) for name in populations}
    likeness = group_opinions(probabilities, clusters, library)
    asked = classes_to_ask(cells, library, terms, likeness)
    expected = expected_markers(options.profiles, library)
    likeliest = likeliest_classes(probabilities, library.classes)
    looks = with_profiles(group_opinions(probabilities, new, library), options.h5ad, new, library)
    steps = cells_per_step(samples, statistics, removed, cells)
    compared = {}
    if options.own_labels:
        compared = dict(
            zip(("comparison.tsv", "agreement.tsv"), compare(cells, read_own(options.own_labels)), strict=True)
        )
    for name, table in (
        *compared.items(),
        ("cells.tsv.gz", cells),
        ("annotators.tsv", annotators_table(samples, labelled, statistics["second_opinion"], annotator_name)),
        ("composition.tsv", composition(cells)),
        ("levels.tsv", levels_table(cells, config["levels"], config["classes"])),
        ("judges.tsv", judges_table(cells)),
        ("evidence.tsv", evidence_table(cells, judged, rates, likeness, conflicts, wrong["cluster"], by_profiles)),
        ("expected_genes.tsv", expected_table(options.h5ad, cells, asked, expected, library, likeliest)),
        ("expected_genes_shown.tsv", shown_table(options.h5ad, cells, asked, expected)),
        (
            "unknown_populations.tsv",
            unknown_populations(
                cells, populations, read_tsv(options.markers), judged, rates, looks, reference, config["class_cells"]
            ),
        ),
        ("contradictions.tsv", contradiction_table(cells, wrong)),
        ("second_opinion.tsv", opinion_table(cells[~by_profiles], conflicts)),
        ("genes_measured.tsv", genes_measured(options.h5ad)),
        ("removed_cells.tsv.gz", removed),
        ("removed_by_type.tsv", removed_by_type(cells, removed)),
        ("qc_thresholds.tsv", qc_thresholds(statistics)),
        ("cells_per_step.tsv", steps),
        ("samples.tsv", sample_figures(samples, statistics, steps, cells)),
    ):
        with whole_file(name) as partial:
            write_tsv(partial, table)


if __name__ == "__main__":
    launch(main)
