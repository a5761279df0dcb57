"""The sections of the report, in the order a reader needs them.

`assets/multiqc_config.yml` tells MultiQC the same order; a test compares them.
"""

from collections.abc import Callable

from spikgpt.report import (
    annotators,
    cells,
    comparison,
    conditions,
    differential,
    expected,
    explanations,
    facility,
    history,
    judges,
    levels,
    markers,
    models,
    record,
    removed,
    summary,
    types,
    unknown,
)
from spikgpt.report.content import Group, Section
from spikgpt.report.inputs import Inputs

ORDER: tuple[tuple[Group, tuple[Callable[[Inputs], Section | None], ...]], ...] = (
    (summary.GROUP, (facility.about, summary.in_short, summary.warnings_list)),
    (
        cells.GROUP,
        (
            cells.steps_bars,
            cells.steps_table,
            cells.features_left_out,
            cells.knee_lines,
            cells.ambient_table,
            cells.quality_boxes,
            cells.quality_violins,
            cells.doublets_table,
            removed.removed_types_table,
            removed.bounds_table,
            history.trend_table,
            history.trend_lines,
        ),
    ),
    (
        types.GROUP,
        (
            types.composition_bars,
            levels.levels_bars,
            levels.stopped_table,
            conditions.conditions_points,
            conditions.conditions_table,
            differential.volcano,
            differential.differential_table,
            types.cell_map,
            types.mixing_table,
            types.confidence_lines,
            types.cluster_evidence,
            explanations.explanation_map,
            explanations.explanation_table,
            markers.markers_of_clusters,
            markers.markers_of_types,
            judges.judges_table,
            types.second_opinion_table,
            expected.expected_genes_table,
            expected.expected_genes_map,
            comparison.own_labels_heatmap,
            comparison.agreement_table,
        ),
    ),
    (unknown.GROUP, (unknown.reasons_bars, unknown.populations_table, unknown.p_value_lines)),
    (
        models.GROUP,
        (
            models.checkpoint_facts,
            annotators.annotators_table,
            annotators.tissue_facts,
            models.annotator_facts,
            models.reference_types_table,
            models.leave_one_out_table,
            levels.realised_table,
            models.benchmark_table,
            models.firing_rates_table,
            models.energy_table,
        ),
    ),
    (record.GROUP, (record.methods_text, record.parameters_table)),
)


def sections(inputs: Inputs) -> list[tuple[Group, Section]]:
    """All sections that have something to show, in order, general statistics first."""
    shown = [(summary.GROUP, summary.general_statistics(inputs))]
    for group, makers in ORDER:
        shown += [(group, section) for maker in makers if (section := maker(inputs)) is not None]
    return shown
