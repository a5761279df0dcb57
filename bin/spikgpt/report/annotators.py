"""Which annotator labelled which sample, how well each fits, and what labels from the tissue profiles do not claim."""

from collections.abc import Iterable

import pandas as pd

from spikgpt.annotator.batch import LIKE
from spikgpt.annotator.choice import TISSUE
from spikgpt.cohort.annotators import labelled_by_profiles
from spikgpt.profiles.labels import BLOOD_OPINIONS, BLOOD_SHARE
from spikgpt.profiles.opinion import CUT
from spikgpt.report.content import Section, short, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.plots import TableColumn, markup, table

NAMED = 8
"""Samples that a sentence names."""
NOT_CLAIMED = (
    "fine types (CD4 or CD8 T cell, alpha or beta cell), tumour or normal, the tissue itself, other species, and cells "
    "of organs without a profile: kidney, breast, stomach, adrenal gland, thyroid, bladder, ovary, bone, thymus, fetal "
    "tissue"
)
"""What broad classes do not say."""


def profiled_samples(inputs: Inputs) -> list[str]:
    """Samples with cells that the tissue profiles labelled, by name."""
    by_profiles = labelled_by_profiles(inputs.stats["annotation"])
    return [sample for sample in sorted(by_profiles) if len(inputs.of_sample(sample))]


def all_profiled(inputs: Inputs) -> bool:
    """Whether no sample was labelled by an annotator."""
    profiled = profiled_samples(inputs)
    return bool(profiled) and len(profiled) == inputs.cells["sample"].nunique()


def label_source(inputs: Inputs) -> str:
    """What a cell that is Unknown does not fit, in words."""
    return "the tissue profiles" if all_profiled(inputs) else "the reference"


def rules(inputs: Inputs) -> set[str]:
    """How the labels' source was chosen, see `spikgpt.annotator.choice.RULES`; ``only`` where there was one."""
    return {str(stats.get("rule", "only")) for stats in inputs.stats["annotation"].values()}


def _names(samples: list[str]) -> str:
    return ", ".join(map(short, samples[:NAMED])) + (" and others" if len(samples) > NAMED else "")


def where_labels_come_from(inputs: Inputs) -> Iterable[str]:
    """Sentences (HTML) for the first screen; none where one annotator labelled all samples."""
    profiled, how = profiled_samples(inputs), rules(inputs)
    left = inputs.cells["sample"].nunique()
    blood = left - len(profiled)
    if profiled:
        why = (
            f"{'it does' if len(profiled) == 1 else 'they do'} not look like blood, and neither a reference nor an "
            "annotator was given"
            if "unless_blood" in how
            else "<code>--annotator tissue</code>"
        )
        yield (
            f"<b>Labels from the tissue profiles</b> for {len(profiled)} of {left} sample{'' if left == 1 else 's'} "
            f"({_names(profiled)}): {why}. They are broad classes and say nothing of {NOT_CLAIMED}. A labelled "
            "reference (<code>--reference</code>) gives finer types."
        )
    if "unless_blood" in how and blood:
        yield (
            f"{blood} of {left} sample{'' if left == 1 else 's'} look{'s' if blood == 1 else ''} like blood and "
            f"{'was' if blood == 1 else 'were'} labelled by the bundled annotator of human blood, <code>pbmc</code>."
        )
    if "first" in how:
        yield from _first_of_several(inputs)


def _first_of_several(inputs: Inputs) -> Iterable[str]:
    annotators = inputs.tables.get("annotators.tsv", pd.DataFrame())
    if not len(annotators):
        return
    labels = annotators.loc[annotators["gives_labels"] == "yes", "annotator"].iloc[0]
    better = annotators[(annotators["fits_best"] == "yes") & (annotators["gives_labels"] == "no")]
    others = "; ".join(
        f"{short(name)} fits {_names(list(own['sample']))} better" for name, own in better.groupby("annotator")
    )
    said = (
        f"By the fit score, {others}: for its labels, give that annotator first"
        if others
        else "By the fit score no other one fits a sample better"
    )
    yield f"<b>Labels are those of {short(labels)}</b>, the first of the annotators given. {said}."


def annotators_table(inputs: Inputs) -> Section | None:
    """One row per sample and annotator, where several could have given the labels."""
    annotators = inputs.tables.get("annotators.tsv")
    if annotators is None or not len(annotators) or not rules(inputs) - {"only"}:
        return None
    rows = {
        f"{text(row.sample)}: {text(row.annotator)}": {
            "labels": row.gives_labels,
            "best": row.fits_best or None,
            "fit": float(row.fit) if row.fit else None,
            "labelled": float(row.labelled_percent),
            "confidence": float(row.median_confidence) if row.median_confidence else None,
            "calibrated": row.calibrated,
        }
        for row in annotators.itertuples(index=False)
    }
    return table(
        "spikgpt_annotators",
        "Annotators and samples",
        "How well each annotator fits each sample. The fit score is the correlation of the sample's types, pooled, "
        "with those of the annotator's reference, in what sets these apart, upper quartile over types; below "
        f"{LIKE:g} the sample is not calibrated. The tissue profiles ({TISSUE}) have no such score. A sample looks "
        f"like blood where at least {100 * BLOOD_OPINIONS:.0f} % of its cells have an opinion and at least "
        f"{100 * BLOOD_SHARE:.0f} % of the opinions are classes of blood cells.",
        rows,
        {
            "labels": TableColumn("Gives labels", "Whether the sample's labels are those of this annotator"),
            "best": TableColumn("Fits best", "Whether its fit score is the highest of several annotators"),
            "fit": TableColumn("Fit", "Fit score: 1 is the reference itself"),
            "labelled": TableColumn("Labelled %", "Cells that are not Unknown with it", decimals=1),
            "confidence": TableColumn("Confidence", "Median probability of the best match"),
            "calibrated": TableColumn("Calibrated", "Whether the rate of Unknown and the confidence can be promised"),
        },
        first="Sample and annotator",
        decimals=2,
    )


def tissue_facts(inputs: Inputs) -> Section | None:
    """What the tissue profiles are, where they gave labels or could have given them."""
    if not rules(inputs) - {"only"}:
        return None
    return markup(
        "spikgpt_tissue",
        "The tissue profiles as an annotator",
        "What broad classes from mean profiles of human tissues say, and what they do not.",
        "<p>274 mean profiles of adult human cell types from 15 papers, in 31 broad classes with terms of the Cell "
        "Ontology. A cell gets a class where its probability, calibrated on simulated cells of papers withheld from "
        f"the profiles, is at least {CUT:g}; all others are Unknown, with reason low_confidence: the profiles do not "
        "tell whether such a cell lies between two classes or fits none. There is no conformal p-value, and no rate of "
        f"Unknown that can be asked for. <b>Not claimed</b>: {NOT_CLAIMED}. An unseen type may be given the class of a "
        "near relative, and most cells of cell lines are Unknown. The second opinion is the same judgement, so samples "
        "that the profiles label have none beside their labels.</p>",
    )
