"""The report: what it says, and that nobody's text becomes markup."""

import base64
import gzip
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from spikgpt.base.colours import cell_type_colours, series_colours
from spikgpt.base.groups import evenly
from spikgpt.base.tsv import write_tsv
from spikgpt.cohort.annotators import ANNOTATOR_COLUMNS
from spikgpt.cohort.batch_mixing import MIXING_COLUMNS
from spikgpt.cohort.clusters import write_cohort_cells
from spikgpt.cohort.comparison import AGREEMENT_COLUMNS, COMPARISON_COLUMNS
from spikgpt.cohort.conditions import compare_conditions, replicates
from spikgpt.cohort.contrast import DIFFERENTIAL_COLUMNS
from spikgpt.cohort.evidence import evidence_table, judge_markers, nearest_types
from spikgpt.cohort.expected_genes import EXPECTED_COLUMNS, SHOWN_COLUMNS
from spikgpt.cohort.explanations import EXPLANATION_COLUMNS
from spikgpt.cohort.judges import judges_table
from spikgpt.cohort.levels import levels_table
from spikgpt.cohort.markers import find_markers
from spikgpt.cohort.populations import find_populations, unknown_populations
from spikgpt.cohort.pseudobulk import pseudobulk_sheet
from spikgpt.cohort.samples import SAMPLE_FIGURES
from spikgpt.cohort.second_opinion import Conflicts, group_opinions, opinion_table, read_probabilities
from spikgpt.cohort.tables import (
    composition,
    qc_thresholds,
    read_cohort,
    read_statistics,
    removed_by_type,
    removed_cells,
)
from spikgpt.quality_control.rules import REASONS
from spikgpt.report.cells import ambient_table, features_left_out
from spikgpt.report.content import labels, short, text
from spikgpt.report.explanations import explanation_map, explanation_table
from spikgpt.report.facility import data_uri
from spikgpt.report.history import read_history
from spikgpt.report.inputs import check_numbers, read_inputs
from spikgpt.report.models import benchmark_comparison
from spikgpt.report.removed import bounds_table, lost_types, removed_types_table
from spikgpt.report.sections import ORDER, sections
from spikgpt.report.summary import general_statistics, in_short, warnings_and_remarks
from spikgpt.report.types import mixing_table
from test_cohort import LIBRARY, LYMPHOCYTE, ODD, RUN, TYPES, annotated, joined, small, small_table  # noqa: F401
from test_evidence import NASTY, PLANTED

ROOT = Path(__file__).resolve().parents[2]
REMOVED = {"min_genes": 3, "predicted_doublet": 2}
LEVELS = {
    "source": "columns",
    "told": "The levels are <b>terms</b>.",
    "nodes": [{"name": LYMPHOCYTE, "term": "CL:0000542", "types": sorted(TYPES[:2]), "own": None}],
    "least_log_p": [-3.0] * 11,
    "far": [[]],
    "held_out": {
        "cells": 120, "at_type": 0.9, "above": 0.08, "unknown": 0.02, "error_at_type": 0.03, "error_above": None,
        "set_error": 0.04, "set_size": 1.1,
        "types": {name: {"at_type": 0.9, "set_error": 0.05, "set_size": 1.2} for name in TYPES},
    },
}  # fmt: skip
"""What an annotator says of its levels."""


@pytest.fixture(scope="module")
def given(small, small_table, joined, tmp_path_factory):  # noqa: F811
    """Arguments of `read_inputs` for the small cohort and a sample that lost all its cells."""
    folder = tmp_path_factory.mktemp("report")
    stats, tables = folder / "stats", folder / "tables"
    stats.mkdir()
    tables.mkdir()
    for path in small.folder.glob("*.json"):
        shutil.copy(path, stats)
    sizes = small_table.to_pandas()["sample"].value_counts()
    removed = []
    for sample in [*small.samples, "empty"]:
        kept = int(sizes.get(sample, 0))
        lost = [(sample, f"gone_{reason}_{i}", reason) for reason, n in REMOVED.items() for i in range(n)]
        table = pd.DataFrame(lost, columns=["sample", "barcode", "reason"])
        write_tsv(folder / f"{sample}.removed.tsv.gz", table)
        removed.append(folder / f"{sample}.removed.tsv.gz")
        called = kept + len(lost)
        facts = {
            "ambient": {"run": sample == "s2", "cells_emptied": int(sample == "s2"), "estimated_percent": 4.2,
                        "removed_percent": 3.1, "contamination": {"median": 3.5, "max": 40.0}, "messages": [],
                        "background": "empty droplets", "genes": [{"gene": "LYZ", "before": 100, "after": 20}]},
            "import": {"barcodes": called + 1007, "barcodes_without_counts": 7, "gene_match_counts": 0.8,
                       "feature_types_left_out": {"Antibody Capture": 17} if sample == "s2" else {},
                       "messages": ["Left out <i>12</i> features."] if sample == "s2" else []},
            "called": {"cells": called, "messages": [],
                       "knee": [{"rank": r, "umis": 5000 // r} for r in (1, 9, 10, 100)]},
            "doublets": {"run": True, "predicted": 2, "predicted_rate": 2 / called, "expected_rate": 0.01,
                         "threshold": 0.3, "messages": []},
            "filter": {"cells_in": called, "cells_out": kept, "messages": [],
                       "groups": [{"group": 1, "genes": "LYZ, <b>x</b>", "cells": called, "kept": kept}],
                       "given": ["min_genes"] if sample == "s2" else [], "thresholds": {"min_genes": 200},
                       "removed": REMOVED,
                       "bounds": [{"group": 1, "rule": "min_genes", "threshold": 200, "centre": None, "mad": None,
                                   "lower": 200, "upper": None, "removed": 3}]},
        }  # fmt: skip
        for kind, content in facts.items():
            (stats / f"{sample}.{kind}.json").write_text(json.dumps({"sample": sample, **content}))
    cells, _ = read_cohort(joined)
    gone = pd.concat([pd.read_csv(path, sep="\t") for path in removed])
    gone = removed_cells(removed, gone.assign(nearest_type=ODD)[["sample", "barcode", "nearest_type"]])
    markers, expression = find_markers(joined)
    judged = judge_markers(joined, cells, PLANTED, [(name, of) for name, (of, _) in nearest_types(cells).items()])
    found = find_populations(cells, 0.05)
    conflicts = Conflicts(LIBRARY, TYPES, {})
    probabilities = read_probabilities(small.files(".second_opinion.parquet"), cells, LIBRARY.classes)
    groups = {name: (cells["spikgpt_cluster"] == name).to_numpy() for name in cells["spikgpt_cluster"].unique()}
    looks = group_opinions(probabilities, groups, LIBRARY)
    seen = {name: replace(looks[name], profile="pancreatic A cell", source="Enge", correlation=0.9) for name in found}
    populations = unknown_populations(cells, found, markers, judged, 0.05, seen, PLANTED, dict.fromkeys(TYPES, 40))
    comparison, messages = compare_conditions(replicates(pseudobulk_sheet(cells.drop(columns="barcode"))))
    (tables / "conditions.json").write_text(json.dumps({"messages": messages}))
    (tables / "differential_expression.json").write_text(json.dumps({
        "contrast": ["condition", "stim", "<b>ctrl</b>"], "messages": ["Expression of <i>B</i> was not compared."],
        "types": [{"cell_type": ODD, "treated": 2, "control": 3, "replicates": "donor", "paired": False, "genes": 3,
                   "higher": 1, "lower": 1}],
    }))  # fmt: skip
    genes = [("up", 2.0, 1e-9, 1e-8), ("<b>down</b>", -1.5, 0.0, 0.0), ("same", 0.1, 0.5, np.nan)]
    different = pd.DataFrame(
        [(ODD, gene, "", 10.0, change, 0.3, 1.0, p, fdr) for gene, change, p, fdr in genes],
        columns=list(DIFFERENTIAL_COLUMNS),
    )
    for name, table in {
        "differential_expression.tsv.gz": different,
        "cells.tsv.gz": cells,
        "composition.tsv": composition(cells),
        "levels.tsv": levels_table(cells, LEVELS, TYPES),
        "judges.tsv": judges_table(cells),
        "markers.tsv": markers,
        "marker_expression.tsv": expression,
        "evidence.tsv": evidence_table(cells, judged, 0.05, looks, conflicts, {}),
        "second_opinion.tsv": opinion_table(cells, conflicts),
        "annotators.tsv": pd.DataFrame(
            [
                ("s10", "pbmc", "yes", "no", 0.7, 75, 0.9, "no"),
                ("s10", ODD, "no", "yes", 0.9, 80, 0.9, "yes"),
                ("s10", "tissue", "no", "", np.nan, 90, np.nan, "no"),
            ],
            columns=list(ANNOTATOR_COLUMNS),
        ),
        "expected_genes.tsv": pd.DataFrame(
            [
                ("0", 100, ODD, "T cell", "label", 7, 9, "supports", "CD3D, CD3E", "IL7R", "", "TRAC"),
                ("1", 50, "Unknown", "B cell", "second_opinion", 0, 0, "", "", "", "", "MS4A1"),
            ],
            columns=list(EXPECTED_COLUMNS),
        ),
        "expected_genes_shown.tsv": pd.DataFrame(
            [(cluster, ODD, "T cell", gene, 12.5, 1500.0) for cluster in "01" for gene in ("CD3D", "<b>")],
            columns=list(SHOWN_COLUMNS),
        ),
        "explanations.tsv": pd.DataFrame(
            [
                ("0", ODD, 90, 1, "CD3D", 0.9, 40.0, 2.0, 2.1, 0.1, "yes"),
                ("0", ODD, 90, 2, "<b>", 0.1, 5.0, 0.1, np.nan, 0.9, "no"),
                ("1", TYPES[0], 50, 1, "MS4A1", 0.8, 30.0, 1.5, 1.4, 0.1, "yes"),
            ],
            columns=list(EXPLANATION_COLUMNS),
        ),
        "unknown_populations.tsv": populations,
        "removed_cells.tsv.gz": gone,
        "removed_by_type.tsv": removed_by_type(cells, gone),
        "qc_thresholds.tsv": qc_thresholds(read_statistics(stats.glob("*.json"))),
        "conditions.tsv": comparison,
        "batch_mixing.tsv": pd.DataFrame(
            [
                ("scGPT", "all", 200, 2, 3, 0.4, 1.0, 0.3, 0.9),
                ("scGPT", TYPES[0], 80, 2, 3, 0.5, 0.9, 0.4, np.nan),
                ("Harmony", "all", 200, 2, 3, 0.8, 1.0, 0.7, 0.9),
                ("Harmony", TYPES[0], 80, 2, 3, 0.9, 0.9, 0.8, np.nan),
            ],
            columns=list(MIXING_COLUMNS),
        ),
        "samples.tsv": pd.DataFrame([("s2", *[30] * 9)], columns=list(SAMPLE_FIGURES)),
        "comparison.tsv": pd.DataFrame([("s2", "<b>T", TYPES[0], 80, "same")], columns=list(COMPARISON_COLUMNS)),
        "agreement.tsv": pd.DataFrame([("s2", 80, 0, 0, 80, 1.0, np.nan)], columns=list(AGREEMENT_COLUMNS)),
        "benchmark.tsv": pd.DataFrame(
            {"method": ["SpikGPT", "logistic regression"], "accuracy": [0.9, 0.95], "macro_f1": [0.8, 0.85]}
        ),
    }.items():
        write_tsv(tables / name, table)
    for path in stats.glob("*.annotation.json"):
        facts = json.loads(path.read_text())
        path.write_text(json.dumps(facts | {
            "rule": "first",
            "not_calibrated": ["all its types <b>differ</b> by 2.0 widths"] if facts["sample"] == "s2" else [],
            "rejected_types": [{"cell_type": "<i>NK", "cells": 78, "rejected": 78}] if facts["sample"] == "s2" else [],
            "firing_rates": {"blocks.0.attention_in": 0.05, "blocks.0.mlp_in": 0.0}, "dead_layers": ["blocks.0.mlp_in"],
            "energy": {
                "spiking": {"macs": 37376, "acs": 20000, "microjoules": 0.19},
                "transformer": {"macs": 307712, "acs": 0, "microjoules": 1.4},
                "linear": {"macs": 512, "acs": 0, "microjoules": 0.0024},
                "scgpt": {"layers": 12, "width": 512, "hidden": 512},
            },
        }))  # fmt: skip
    for path in stats.glob("*.embedding.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tokens_mean": 1200.0}))
    write_cohort_cells(tables / "cohort_cells.parquet", small_table)
    annotator = folder / "annotator"
    annotator.mkdir()
    config = {
        "classes": list(TYPES), "class_cells": dict.fromkeys(TYPES, 40), "features": "both", "spikgpt_version": "0.1.0",
        "training": {"cells": 120, "genes": 35, "batches": {"a": 120}}, "grave": ["Hardly <b>told</b> apart."],
        "warnings": ["Few <b>cells</b>."],
        "held_out": {"accuracy": 0.9, "macro_f1": 0.8, "expected_calibration_error": 0.02,
                     "types": {t: {"cells": 40, "recall": 0.9, "most_often_mistaken_for": None} for t in TYPES}},
        "depth": {"leak": {"balanced_accuracy": 0.4, "chance": 0.33, "leak": 0.1}},
        "leave_one_out": [
            {"cell_type": name, "cells": 40, "caught": 0.9 * (at % 2), "interval": [0.7 * (at % 2), 0.96], "auroc": 0.9,
             "mistaken_for": NASTY[at - 1], "level_unknown": 0.5, "level_above": 0.25, "level": LYMPHOCYTE}
            for at, name in enumerate(NASTY)
        ],
        "levels": LEVELS, "unknown_rate": 0.05,
        "tensors_sha256": "ef" * 32,
    }  # fmt: skip
    (annotator / "config.json").write_text(json.dumps(config))
    (folder / "samples.json").write_text(json.dumps([{"sample": s} for s in ["empty", *small.samples[::-1]]]))
    (folder / "run.json").write_text(json.dumps(RUN | {"parameters": RUN["parameters"] | {"title": ODD}}))
    return {
        "samples": folder / "samples.json",
        "run": folder / "run.json",
        "stats": sorted(stats.iterdir()),
        "tables": tables,
        "qc": small.files(".qc.parquet"),
        "annotator": annotator,
    }


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> dict[str, Path]:
    """What `make_report.py` is given of the facility, and of earlier runs."""
    folder = tmp_path_factory.mktemp("head")
    (folder / "facility.json").write_text(json.dumps({"title": ODD, "customer": ODD, "text": ODD}))
    (folder / "logo.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    rows = [(run, "a", *[20] * 9) for run in ("2026-01", "<b>2026-02")]
    write_tsv(folder / "history.tsv", pd.DataFrame(rows, columns=["run", *SAMPLE_FIGURES]))
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def inputs(given, head):
    made = read_inputs(**given)
    made.facility = json.loads(head["facility"].read_text())
    made.logo, made.history = data_uri(head["logo"]), read_history(head["history"])
    return made


@pytest.fixture(scope="module")
def report(given, head, tmp_path_factory) -> str:
    """The HTML of a real MultiQC run."""
    folder = tmp_path_factory.mktemp("multiqc")
    command = [str(ROOT / "bin" / "make_report.py"), "--out", "content"]
    for name, value in (given | head).items():
        command += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    subprocess.run(command, cwd=folder, check=True)
    (folder / "versions_mqc_versions.yml").write_text("ANNOTATE:\n    torch: 2.13.0\n")
    run = subprocess.run(
        ["multiqc", "--config", ROOT / "assets" / "multiqc_config.yml", "--filename", "multiqc_report.html",
         "content", "versions_mqc_versions.yml"],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert not re.search(r"\b(WARNING|ERROR)\b", run.stderr), run.stderr
    return (folder / "multiqc_report.html").read_text(encoding="utf-8")


def test_text_is_harmless_and_whole():
    assert text(ODD).count("<") == 0
    assert html.unescape(text(ODD)) == ODD.replace("\t", " ")
    assert len(html.unescape(short(ODD))) <= 40
    names = [ODD + "a" + "y" * 50, ODD + "b" + "y" * 50, "T"]
    assert len(set(labels(names).values())) == 3


def test_numbers_add_up(inputs):
    steps = check_numbers(inputs)
    for sample, count in steps.items():
        removed = sum(n for name, n in count.items() if name.startswith("removed: "))
        assert removed == 5
        assert count["called"] == removed + count["annotated"] + count["Unknown"]
        assert count["barcodes"] == count["called"] + 1007
        assert count["after ambient"] == count["called"] - (1 if sample == "s2" else 0)
        assert count["after doublets"] == count["after ambient"] - 2
        assert count["annotated"] + count["Unknown"] == count["after filters"] == len(inputs.of_sample(sample))
    general = general_statistics(inputs).data
    assert general["s2"]["cells_kept"] == 80
    assert general["s2"]["pct_unknown"] == 25
    assert [general[name].get("rate_holds") for name in ("s2", "s10", "empty")] == [
        "not calibrated",
        "calibrated",
        None,
    ]
    assert general["empty"] == {"cells_in": 5, "cells_kept": 0, "pct_doublets": 40}


def test_what_was_removed_and_left_out_is_shown(inputs):
    assert ambient_table(inputs).data == {
        "s2": {"estimated": 4.2, "removed": 3.1, "median": 3.5, "largest": 40.0, "background": "empty droplets",
               "genes": "LYZ 80 %"},
    }  # fmt: skip
    assert features_left_out(inputs).data == {"s2": {"f0": 17}}
    mixing = mixing_table(inputs).data
    assert mixing["All cells"]["clisi_after"] == 0.9
    assert mixing[TYPES[0]] == {
        "cells": 80, "batches": 2, "ilisi_before": 0.5, "ilisi_after": 0.9, "kbet_acceptance_before": 0.4,
        "kbet_acceptance_after": 0.8, "mixed": 0.9,
    }  # fmt: skip


def test_removed_cells_are_shown_by_type_and_bounds_by_sample(inputs):
    rows = removed_types_table(inputs).data
    odd = rows[text(ODD)]
    assert odd["cells"] - odd["kept"] == 5 * len(inputs.samples)
    assert odd["doublets"] == 2 * len(inputs.samples)
    assert odd["reasons"] == f"min_genes {3 * len(inputs.samples)}"
    assert bounds_table(inputs).data["s2"] == {"groups": 1, "given": "min_genes 200", "min_genes": "200"}


def test_a_type_that_is_lost_is_a_grave_warning(given):
    lost = read_inputs(**given)
    types = lost.tables["removed_by_type.tsv"].set_index("sample")
    row = {"nearest_type": "plasmablast<", "cells": "55", "kept": "0", "pct_counts_in_top_20_genes": "53"}
    of_s2 = types.loc[["s2"]].head(1).assign(**dict.fromkeys(REASONS, "0")).assign(**row, min_genes="2")
    lost.tables["removed_by_type.tsv"] = of_s2.reset_index()
    group = {"group": 2, "genes": "IGKC, <i>", "cells": 20, "kept": 1}
    lost.stats["filter"]["s2"] |= {"groups": [group], "bounds": [{"group": 2, "rule": "min_genes", "removed": 19}]}
    found = warnings_and_remarks(lost)[0]
    message = "of 55 cells nearest to plasmablast&lt;, 0 were kept: pct_counts_in_top_20_genes 53, min_genes 2."
    assert any("alert-danger" in warning and message in warning for warning in found)
    message = "of 20 like cells (group 2, IGKC, &lt;i&gt;), 1 was kept: min_genes 19."
    assert any("alert-danger" in warning and message in warning for warning in found)
    # a sample that loses much is told of as a whole, and few cells are no type
    lost.steps["s2"]["called"] = 2 * lost.steps["s2"]["after filters"]
    assert not list(lost_types(lost, "s2"))
    lost.steps["s2"]["called"] = lost.steps["s2"]["after filters"]
    assert len(list(lost_types(lost, "s2"))) == 2
    lost.tables["removed_by_type.tsv"]["cells"] = "14"
    assert len(list(lost_types(lost, "s2"))) == 1


def test_a_library_that_is_listed_twice_is_a_grave_warning(given):
    twice = read_inputs(**given)
    for sample in ("s10", "s2"):
        twice.stats["import"][sample]["counts_sha256"] = "the same"
    (found,) = (warning for warning in warnings_and_remarks(twice)[0] if "same counts" in warning)
    assert "alert-danger" in found
    assert found.endswith("<b>s2</b>: has the same counts as s10: is one library listed twice?</div>")


def test_numbers_that_do_not_add_up_are_an_error(given):
    broken = read_inputs(**given)
    broken.stats["called"]["s2"]["cells"] += 1
    with pytest.raises(ValueError, match=r"s2: .* do not add up"):
        check_numbers(broken)


def test_summary_and_warnings_come_with_the_facts(inputs):
    first = in_short(inputs).data
    assert "200 cells</b> of 3 of 4 samples passed quality control: a.b-c 60, s10 60, s2 80." in first
    assert "1 population outside of the reference" in first
    found, remarks = warnings_and_remarks(inputs)
    assert "<b>empty</b> (5 cells: min_genes 3, predicted_doublet 2): <b>skipped</b>" in found[0]
    assert "alert-danger" in found[0]
    told = " ".join(found)
    assert (
        "<b>a.b-c</b> (25.0 %, 15 where 3 are expected), <b>s10</b> (25.0 %, 15 where 3 are expected), <b>s2</b> "
        "(25.0 %, 20 where 4 are expected): more than twice as many Unknown cells as the rate asked for (5 %) gives"
        in told
    )
    assert "<b>Not calibrated</b> for 1 of 4 samples: s2." in first
    reason = "<b>s2</b>: <b>not calibrated for this sample</b>: all its types &lt;b&gt;differ&lt;/b&gt; by 2.0 widths."
    assert reason in told
    assert "<b>s2</b>: all 78 cells nearest to &lt;i&gt;NK were rejected." in told
    assert "Left out &lt;i&gt;12&lt;/i&gt; features." in remarks[0]
    assert "Few &lt;b&gt;cells&lt;/b&gt;." in told
    assert "logistic regression (macro_f1 0.850) does better than SpikGPT (0.800)" in told


def test_evidence_and_leave_one_out_say_what_speaks_for_a_label(inputs):
    made = {section.id: section.data for _, section in sections(inputs)}
    rows = list(made["spikgpt_evidence"].values())
    assert {html.unescape(row["label"]) for row in rows} == {*(name.replace("\t", " ") for name in TYPES), "Unknown"}
    unknown = next(row for row in rows if row["label"] == "Unknown")
    assert (unknown["score"], unknown["missing"], unknown["found"]) == ("0 of 1", "mark_1", "none")
    assert unknown["nearest"] == "B cell (100 %)"
    missing = made["spikgpt_leave_one_out"]
    assert [html.unescape(name) for name in missing] == [name.replace("\t", " ") for name in NASTY]
    assert [row["interval"] for row in missing.values()][:2] == ["0 to 96", "70 to 96"]
    nearest = [html.unescape(row["nearest"]) for row in missing.values()]
    assert nearest == [name.replace("\t", " ") for name in (NASTY[-1], *NASTY[:-1])]


def test_levels_are_shown_coarse_and_fine_with_where_cells_stopped(inputs):
    made = {section.id: section for _, section in sections(inputs)}
    fine, coarse = made["spikgpt_levels"].data
    names = [{key: html.unescape(value["name"]) for key, value in tab.items()}
             for tab in made["spikgpt_levels"].options["categories"]]  # fmt: skip
    table = inputs.tables["levels.tsv"].astype({"cells": int})
    assert set(names[0].values()) == {html.unescape(short(name)) for name in table["cell_type"]}
    assert "T cell" not in names[1].values()  # it lies below the level
    for tab in (fine, coarse):
        assert sum(sum(sample.values()) for sample in tab.values()) == len(inputs.cells) == table["cells"].sum()
    stopped = list(made["spikgpt_stopped"].data.values())
    assert sum(row["cells"] for row in stopped) == len(inputs.cells)
    assert stopped[0]["level"] == "the type itself"
    above = next(row for row in stopped if html.unescape(row["level"]) == LYMPHOCYTE)
    assert above["why"].startswith("far from the type")
    held = made["spikgpt_levels_held_out"]
    assert "missed the right one for 4.0 %" in held.description
    assert [row["size"] for row in held.data.values()] == [1.2] * len(TYPES)
    missing = made["spikgpt_leave_one_out"].data
    assert {row["levels"] for row in missing.values()} == {75.0}
    assert "<b>" not in json.dumps([held.data, stopped, made["spikgpt_levels"].description])


def test_the_second_opinion_is_beside_the_labels_and_names_what_is_new(inputs):
    made = {section.id: section.data for _, section in sections(inputs)}
    by_label = {html.unescape(row["label"]): row for row in made["spikgpt_evidence"].values()}
    assert by_label["T cell"]["opinion"] == "T cell (0.90): agrees"
    assert by_label["B cell"]["opinion"] == "epithelial cell (0.90): contradicts"
    assert by_label["B cell"]["against"] == 50
    assert by_label["Unknown"]["opinion"] == "pancreatic islet cell (0.90)"
    opinions = made["spikgpt_second_opinion"]
    assert opinions["B cell"] == {
        "cells": 50,
        "given": 100,
        "most": "epithelial cell (100 %)",
        "against": "50 of 50",
        "other": "epithelial cell (50)",
    }
    assert opinions["T cell"]["against"] == "0 of 50"
    (population,) = made["spikgpt_populations"].values()
    assert population["looks"] == "pancreatic islet cell (0.90); nearest profile pancreatic A cell, Enge, r 0.90"
    first = in_short(inputs).data
    assert "of the 100 that can be compared with their label, 50.0 % contradict it" in first
    assert re.search(r"\(cluster \d, B cell, looks like epithelial cell\)", first)
    assert "looks like pancreatic islet cell, nearest type of the reference B cell" in first


def test_which_annotator_fits_best_and_the_one_that_gives_labels_are_said(inputs):
    first = in_short(inputs).data
    assert "<b>Labels are those of pbmc</b>, the first of the annotators given." in first
    assert f"{short(ODD)} fits s10 better: for its labels, give that annotator first." in first
    rows = {section.id: section.data for _, section in sections(inputs)}["spikgpt_annotators"]
    assert rows["s10: pbmc"] == {
        "labels": "yes", "best": "no", "fit": 0.7, "labelled": 75, "confidence": 0.9, "calibrated": "no",
    }  # fmt: skip
    assert rows["s10: tissue"] == {"labels": "no", "labelled": 90, "calibrated": "no"}


def test_labels_from_the_profiles_are_told_with_what_they_do_not_claim(given):
    asked = read_inputs(**given)
    for sample, stats in asked.stats["annotation"].items():
        stats["rule"] = "unless_blood"
        if sample != "s2":
            stats |= {"labels_from": "profiles", "unknown_rate": 0.25}
    asked.cells.loc[asked.cells["sample"] != "s2", "spikgpt_p_value"] = np.nan
    first = in_short(asked).data
    assert (
        "<b>Labels from the tissue profiles</b> for 2 of 3 samples (a.b-c, s10): they do not look like blood" in first
    )
    assert "1 of 3 samples looks like blood and was labelled by the bundled annotator of human blood" in first
    for word in ("tumour or normal", "CD4 or CD8", "kidney, breast, stomach", "other species"):
        assert word in first
    told = " ".join(warnings_and_remarks(asked)[0])
    # the rate of the annotator is not held against them
    assert "<b>s2</b> (25.0 %, 20 where 4 are expected): more than twice as many Unknown cells" in told
    made = {section.id: section for _, section in sections(asked)}
    assert list(made["spikgpt_p_values"].data) == ["s2"]
    assert "no conformal p-value" in made["spikgpt_tissue"].data
    assert "were labelled without a reference" in made["spikgpt_methods"].data
    for stats in asked.stats["annotation"].values():
        stats |= {"labels_from": "profiles", "rule": "tissue", "unknown_rate": 0.25}
    first = in_short(asked).data
    assert "for 3 of 3 samples (a.b-c, s10, s2): <code>--annotator tissue</code>." in first
    assert "1 population outside of the tissue profiles" in first
    assert "the tissue profiles name no class for them" in first
    assert "rate asked for" not in first


def test_expected_genes_of_the_classes_are_counted_and_mapped(inputs):
    made = {section.id: section for _, section in sections(inputs)}
    rows = made["spikgpt_expected"].data
    assert (rows["Cluster 0"]["seen"], rows["Cluster 0"]["verdict"], rows["Cluster 0"]["missing"]) == (
        "7 of 9", "supports", "IL7R",
    )  # fmt: skip
    assert (rows["Cluster 1"]["class"], rows["Cluster 1"]["seen"]) == ("B cell (second opinion)", "not judged")
    shown = made["spikgpt_expected_map"]
    assert shown.plot_type == "heatmap"
    assert [list(row.values()) for row in shown.data.values()] == [[12.5, 12.5]] * 2
    assert "T cell: &lt;b&gt;" in next(iter(shown.data.values()))


def test_a_reference_whose_labels_the_profiles_contradict_is_a_warning(given):
    checked = read_inputs(**given)
    checked.stats["second_opinion"]["reference"] = {"labels": {"messages": ["The labels hardly <i>agree</i>."]}}
    told = " ".join(warnings_and_remarks(checked)[0])
    assert "<b>Reference</b>: The labels hardly &lt;i&gt;agree&lt;/i&gt;." in told


def test_energy_is_theoretical_and_beside_scgpts_own(inputs):
    made = {section.id: section for _, section in sections(inputs)}
    rows = made["spikgpt_energy"].data
    assert rows["Spiking network, as measured"]["nanojoules"] == pytest.approx(190)
    assert rows["scGPT itself, 1,200 tokens"]["nanojoules"] == pytest.approx(1.9e8, rel=0.1)
    assert "Theoretical" in made["spikgpt_energy"].description
    rates = made["spikgpt_firing_rates"].data
    assert rates["blocks.0.attention_in"]["mean"] == pytest.approx(5)
    assert rates["blocks.0.mlp_in"]["dead"] == "dead in 3 of 3"


def test_an_unfamiliar_tissue_is_a_grave_warning(given):
    strange = read_inputs(**given)
    for chunk in strange.embeddings:
        chunk["unfamiliar_fraction"] = 0.9 if chunk["sample"] == "s2" else 0.1
    found = [item for item in warnings_and_remarks(strange)[0] if "looks like none of the tissues" in item]
    assert len(found) == 1
    assert "alert-danger" in found[0]
    assert "<b>s2</b> (90 % of its cells):" in found[0]


def test_benchmark_speaks_for_us_only_when_it_does(given):
    won = read_inputs(**given)
    won.tables["benchmark.tsv"]["macro_f1"] = ["0.9", "0.85"]
    comparison = benchmark_comparison(won)
    assert not comparison.lost
    assert "does no better than SpikGPT (0.900)" in comparison.sentence
    del won.tables["benchmark.tsv"]
    assert benchmark_comparison(won) is None


def test_every_section_has_a_sentence_and_a_place_in_the_order(inputs):
    config = yaml.safe_load((ROOT / "assets" / "multiqc_config.yml").read_text())
    made = sections(inputs)
    assert len(made) == 1 + sum(len(makers) for _, makers in ORDER), "a section is missing: the inputs must show all"
    assert made[0][1].plot_type == "generalstats"
    assert all(section.description.rstrip().endswith(".") for _, section in made[1:])
    # MultiQC orders groups by the one list and the sections of a group by their numbers in the other
    assert config["custom_content"]["order"] == [group.id for group, _ in ORDER]
    by_group = {group.id: [s.id for of, s in made[1:] if of.id == group.id] for group, _ in ORDER}
    assert list(config["report_section_order"]) == [id for ids in by_group.values() for id in ids]
    for ids in by_group.values():
        assert [config["report_section_order"][id]["order"] for id in ids] == list(range(1, len(ids) + 1))


def test_order_of_files_changes_no_byte(given, tmp_path):
    for name, order in (("a", 1), ("b", -1)):
        (tmp_path / name).mkdir()
        again = read_inputs(**{k: v[::order] if isinstance(v, list) else v for k, v in given.items()})
        for group, section in sections(again):
            section.write(tmp_path / name, group)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_multiqc_shows_every_section(inputs, report):
    for _, section in sections(inputs):
        if section.plot_type != "generalstats":
            assert f'id="mqc-section-wrapper-{section.id}"' in report, section.id
    assert 'id="general_stats"' in report
    assert "Software Versions" in report
    assert "scgpt-mini" in report
    assert "<b>not</b> one of scGPT's own" in report
    assert len(report) < 15_000_000


def test_names_are_text_everywhere_in_the_report(report):
    assert "<script>alert" not in report
    assert "<b>ctrl" not in report
    assert "<i>12" not in report
    assert text(ODD)[:60] in report
    # MultiQC keeps its plots packed; nothing in them may be markup either
    packed = re.search(r'id="mqc_compressed_plotdata">([^<]+)<', report)[1]
    plots = gzip.decompress(base64.b64decode(packed)).decode()
    assert "<script>alert" not in plots
    assert "<b>ctrl" not in plots
    assert "&lt;b&gt;ctrl" in plots


def test_the_page_asks_for_nothing_from_the_network(report):
    page = re.sub(r"(<script[^>]*>).*?</script>", r"\1", report, flags=re.DOTALL)  # what scripts hold is no markup
    loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=[\"'](?!data:)([^\"']+)", page)
    loaded += re.findall(r"<link[^>]+href=[\"'](?!data:)([^\"']+)", page)
    assert not [url for url in loaded if url.startswith(("http", "//"))]


def test_a_run_without_cells_still_has_a_report(given, tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    shutil.copy(given["tables"] / "removed_cells.tsv.gz", tables)
    (tmp_path / "samples.json").write_text('[{"sample": "empty"}]')
    stats = [path for path in given["stats"] if path.name.startswith("empty.")]
    empty = read_inputs(**{**given, "samples": tmp_path / "samples.json", "tables": tables, "stats": stats, "qc": []})
    made = {section.id for _, section in sections(empty)}
    assert {"spikgpt_overview", "spikgpt_warnings", "spikgpt_steps", "spikgpt_methods"} <= made
    assert "No cell" in in_short(empty).data


def test_one_sample_alone(given, tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    for name in ("cells.tsv.gz", "removed_cells.tsv.gz"):
        table = pd.read_csv(given["tables"] / name, sep="\t", dtype=str, keep_default_na=False)
        write_tsv(tables / name, table[table["sample"] == "s10"])
    shutil.copy(given["tables"] / "evidence.tsv", tables)
    (tmp_path / "samples.json").write_text('[{"sample": "s10"}]')
    alone = read_inputs(
        **{**given, "samples": tmp_path / "samples.json", "tables": tables, "annotator": None,
           "stats": [path for path in given["stats"] if path.name.startswith("s10.")]}
    )  # fmt: skip
    made = {section.id: section for _, section in sections(alone)}
    assert {"spikgpt_composition", "spikgpt_evidence", "spikgpt_confidence"} <= set(made)
    assert len(made["spikgpt_composition"].data) == 1


def test_points_are_taken_evenly():
    assert list(evenly(3, 5)) == [0, 1, 2]
    taken = evenly(1_000_000, 5000)
    assert len(taken) == 5000
    assert {round(step / 200) for step in set(taken[1:] - taken[:-1])} == {1}


def test_a_colour_stays_with_its_type():
    colours = cell_type_colours(["b", "a", "Unknown"])
    assert colours["a"] == series_colours(1)[0]
    assert len(set(cell_type_colours([f"t{i:02}" for i in range(45)]).values())) == 47


def test_genes_of_labels_are_told_apart_by_being_seen_or_absent(inputs):
    shown = explanation_table(inputs)
    first = next(iter(shown.data.values()))
    assert (first["higher"], first["lower"], first["markers"]) == ("CD3D", "&lt;b&gt;", "CD3D")
    assert (first["cells"], first["share"]) == (90, 45)
    drawn = explanation_map(inputs)
    assert [list(row.values()) for row in drawn.data.values()] == [[40.0, 5.0, 0.0], [0.0, 0.0, 30.0]]
    assert explanation_map(replace(inputs, tables={})) is None
