"""What the bench measures of the second opinion, set by set."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from library.own import spikgpt
from library.splits import Split, read_baron
from library.task import Task
from numpy.typing import NDArray
from spikgpt.base.columns import OPINION
from spikgpt.cohort.second_opinion import YES, Conflicts, group_opinions
from spikgpt.profiles.kinship import check_labels
from spikgpt.profiles.labels import blood_classes
from spikgpt.profiles.library import Library
from spikgpt.profiles.opinion import second_opinion

MIN_BATCH = 50
"""Sets whose batches have fewer cells on average are judged as one sample."""

Truth = Mapping[str, tuple[str, ...]]


def read_sets(
    folder: Path, wheel: Path, files: Mapping[str, tuple[str, str]], baron: str, at_most: int
) -> Iterator[tuple[str, ad.AnnData]]:
    """Name and cells of each set whose file is there: labels in ``cell_type``, cells without a label left out."""
    for name in (baron, *files):
        if name == baron:
            cells, column = read_baron(wheel), "cell_type"
        else:
            path, column = folder / files[name][0], files[name][1]
            if not path.is_file():
                print(f"[bench] SKIPPED set {name}: no {path.name}", file=sys.stderr)
                continue
            cells = ad.read_h5ad(path)
            if "demuxlet_cls" in cells.obs:
                cells = cells[cells.obs["demuxlet_cls"] == "SNG"].copy()
        cells.obs["cell_type"] = cells.obs[column].astype(str)
        cells = cells[~cells.obs["cell_type"].isin(["unassigned", "?"])].copy()
        if cells.n_obs > at_most:
            cells = cells[np.sort(np.random.default_rng(0).choice(cells.n_obs, at_most, replace=False))].copy()
        cells.obs_names_make_unique()
        yield name, cells


def judged_set(library: Library, cells: ad.AnnData) -> pd.DataFrame:
    """The second opinions on a set's cells, batch by batch, in the cells' order; the genes found in the attributes."""
    parts = []
    batches = cells.obs["batch"].astype(str).to_numpy()
    if len(set(batches)) * MIN_BATCH > len(batches):
        batches = np.full(len(batches), "one")
    gene_ids = cells.var["gene_id"].astype(str).tolist() if "gene_id" in cells.var else [""] * cells.n_vars
    for batch in sorted(set(batches)):
        rows = np.flatnonzero(batches == batch)
        counts = sp.csr_matrix(cells.X[rows])
        table, figures = second_opinion(
            library, lambda counts=counts: [counts], cells.var_names.tolist(), gene_ids, rows.astype(str).tolist()
        )
        parts.append(table.set_index(rows))
    joined = pd.concat(parts).sort_index()
    joined.attrs["genes"] = figures["genes_found"]
    return joined


def right(library: Library, opinion: str, label: str, truth: Truth) -> bool:
    """Whether an opinion is one of the classes that are right for a label, or names one of them with another."""
    return bool(set(library.merged.get(opinion, (opinion,))) & set(truth.get(label, ())))


def share(part: float, whole: float) -> float | None:
    return round(float(part) / float(whole), 4) if whole else None


def on_opinions(library: Library, cells: ad.AnnData, opinions: pd.DataFrame, truth: Truth) -> dict[str, Any]:
    """How many cells get an opinion, how many of the opinions are right where the label has a class, and how many are
    classes of blood cells."""
    labels = cells.obs["cell_type"].to_numpy(dtype=object)
    known = np.array([label in truth for label in labels])
    said = opinions[OPINION].to_numpy(dtype=object)
    likeliest = opinions[library.classes].idxmax(axis=1).to_numpy(dtype=object)
    good = np.array([right(library, name, label, truth) for name, label in zip(said, labels, strict=True)])
    first = np.array([right(library, name, label, truth) for name, label in zip(likeliest, labels, strict=True)])
    given = said != ""
    return {
        "cells": int(cells.n_obs),
        "compared": int(known.sum()),
        "genes": int(opinions.attrs["genes"]),
        "likeliest_right": share((first & known).sum(), known.sum()),
        "with_opinion": share(given.sum(), len(given)),
        "opinions_right": share((good & given & known).sum(), (given & known).sum()),
        "blood": share(np.isin(said, sorted(blood_classes(library))).sum(), given.sum()),
    }


def leiden(cells: ad.AnnData) -> NDArray[np.object_]:
    """Clusters of the cells on 30 principal components of 2,000 variable genes, resolution 1."""
    import scanpy as sc

    made = ad.AnnData(sp.csr_matrix(cells.X, dtype=np.float32))
    sc.pp.normalize_total(made, target_sum=1e4)
    sc.pp.log1p(made)
    sc.pp.highly_variable_genes(made, n_top_genes=min(2000, made.n_vars))
    sc.pp.pca(made, n_comps=min(30, made.n_obs - 1), random_state=0)
    sc.pp.neighbors(made, random_state=0)
    sc.tl.leiden(made, random_state=0, flavor="igraph", n_iterations=2)
    return made.obs["leiden"].astype(str).to_numpy(dtype=object)


def on_clusters(library: Library, cells: ad.AnnData, opinions: pd.DataFrame, truth: Truth) -> dict[str, Any]:
    """Of clusters whose commonest label has a class: how many get an opinion, and how many of these are right."""
    labels = cells.obs["cell_type"]
    clusters = leiden(cells)
    groups = {name: clusters == name for name in sorted(set(clusters))}
    found = group_opinions(opinions[library.classes].to_numpy(dtype=np.float32), groups, library)
    named = {name: labels[inside].value_counts().sort_index().idxmax() for name, inside in groups.items()}
    known = [name for name in groups if named[name] in truth]
    given = [name for name in known if found[name].opinion]
    good = sum(right(library, found[name].opinion, named[name], truth) for name in given)
    return {"clusters": len(known), "clusters_with_opinion": len(given), "clusters_right": int(good)}


def on_unseen(library: Library, cells: ad.AnnData, truth: Truth, at_least: int) -> Iterator[dict[str, Any]]:
    """Classes withheld from the library in turn: the share of their cells that get an opinion, all of them wrong.

    Each class alone, and those that the library may name together both at once: alone, the one looks like the other.
    """
    of = cells.obs["cell_type"].map(lambda label: truth.get(label, ("",))[0]).to_numpy(dtype=object)
    of[cells.obs["cell_type"].map(lambda label: len(truth.get(label, ("",))) > 1)] = ""
    for withheld in (*((name,) for name in library.classes), *library.merged.values()):
        mine = np.isin(of, withheld)
        if mine.sum() < at_least:
            continue
        kept = np.flatnonzero(~np.isin(library.codes, [library.classes.index(name) for name in withheld]))
        without = Library(
            library.genes, library.gene_ids, library.values[:, kept], library.profiles.iloc[kept], library.classes,
            library.codes[kept], library.merged, library.terms,
        )  # fmt: skip
        said = judged_set(without, cells)[OPINION].to_numpy(dtype=object)[mine]
        given = pd.Series(said[said != ""], dtype=object).value_counts().sort_index()
        yield {
            "withheld": " and ".join(withheld),
            "near_relative": len(withheld) == 1 and any(withheld[0] in pair for pair in library.merged.values()),
            "cells": len(said),
            "with_opinion": share((said != "").sum(), len(said)),
            "most": given.idxmax() if len(given) else "",
        }


def on_labels(library: Library, cells: ad.AnnData, opinions: pd.DataFrame, terms: Mapping[str, str]) -> dict[str, Any]:
    """What the check of a reference says of the set's own labels."""
    judged = opinions[opinions["spikgpt_second_opinion_score"] > 0]
    likeliest = judged[library.classes].idxmax(axis=1).tolist() if len(judged) else []
    labels = cells.obs["cell_type"].to_numpy(dtype=object)[judged.index].tolist()
    found = check_labels(library, judged[OPINION].tolist(), likeliest, labels, terms)
    return {name: found[name] for name in ("compared", "kappa", "with_opinion", "contradicted", "messages")}


def on_shuffled(
    library: Library,
    cells: ad.AnnData,
    opinions: pd.DataFrame,
    terms: Mapping[str, str],
    truth: Truth,
    shares: tuple[float, ...],
) -> Iterator[dict[str, Any]]:
    """Labels of a part of the cells dealt anew among them: what conflicts find of those that became wrong."""
    labels = cells.obs["cell_type"].to_numpy(dtype=object)
    said = opinions[OPINION].to_numpy(dtype=object)
    conflicts = Conflicts(library, sorted(set(labels)), terms)
    for part in shares:
        random = np.random.default_rng(1)
        rows = random.choice(len(labels), int(part * len(labels)), replace=False)
        new = labels.copy()
        new[rows] = labels[rows][random.permutation(len(rows))]
        yield {"shuffled": part, **found_by_conflict(library, said, new, labels, conflicts, truth),
               "kappa": on_labels(library, with_labels(cells, new), opinions, terms)["kappa"]}  # fmt: skip


def with_labels(cells: ad.AnnData, labels: NDArray[np.object_]) -> ad.AnnData:
    return ad.AnnData(obs=pd.DataFrame({"cell_type": labels}, index=cells.obs_names))


def found_by_conflict(
    library: Library,
    said: NDArray[np.object_],
    labels: NDArray[np.object_],
    true: NDArray[np.object_],
    conflicts: Conflicts,
    truth: Truth,
) -> dict[str, Any]:
    """Precision and recall of "the opinion contradicts the label" for "the label is wrong", and for wrong by class."""
    wrong = labels != true
    by_class = np.array([
        a != b and a in truth and b in truth and not set(truth[a]) & set(truth[b])
        for a, b in zip(labels, true, strict=True)
    ])  # fmt: skip
    against = np.array([conflicts.between(o, label) == YES for o, label in zip(said, labels, strict=True)])
    return {
        "cells": len(labels),
        "wrong": int(wrong.sum()),
        "wrong_by_class": int(by_class.sum()),
        "conflicts": int(against.sum()),
        "precision": share((against & wrong).sum(), against.sum()),
        "recall": share((against & wrong).sum(), wrong.sum()),
        "recall_by_class": share((against & by_class).sum(), by_class.sum()),
    }


def annotator_conflicts(library: Library, split: Split, terms: Mapping[str, str], truth: Truth) -> dict[str, Any]:
    """Train on the reference (expression alone: no embedding is needed), annotate the query, and see whether conflicts
    find its wrong labels; Unknown cells have none."""
    print(f"[bench] annotator of {split.name}", file=sys.stderr, flush=True)
    nothing = [np.zeros((len(side.labels), 1), dtype=np.float32) for side in (split.reference, split.query)]
    answer = spikgpt(Task(split, *nothing, 0, True), table=False, features="expression")
    cells = ad.AnnData(split.query.counts, obs=pd.DataFrame({"batch": split.query.batches.astype(str)}))
    cells.var_names = split.query.genes
    said = judged_set(library, cells)[OPINION].to_numpy(dtype=object)
    labelled = ~answer.unknown
    conflicts = Conflicts(library, sorted(set(answer.best)), terms)
    labels, true = answer.best[labelled], split.query.labels[labelled]
    return {"split": split.name, **found_by_conflict(library, said[labelled], labels, true, conflicts, truth)}
