"""Three kinds of spiking self-attention beside the same networks without it, as `attention.py` measured them."""

from typing import Any

import pandas as pd

from sections.markdown import listed, number, percent, points, table

EXPRESSION, DEFAULT, NO_BLOCK = "expression view alone", "default", "default, no block"
F1_GAIN, AUROC_GAIN = 0.01, 0.02
SPREADS, BELOW = 2.0, 1 / 3
"""What attention must be worth, in how many spreads of the seeds, and on which share of pairs it may be below."""
INTRO = """## Attention that has something to choose between

`make bench-attention DATA=folder` ({minutes} CPU minutes on one core). One embedding cut into tokens leaves attention
nothing to choose between. Three kinds of tokens do:

- **Retrieval.** The cell asks prototypes of the reference (k-means, some for each type and batch); their labels answer.
  Codes of {code} binary neurons, scores are popcounts; trained in episodes whose prototypes are of other batches than
  the cells that ask (of the other half of the cells in a reference of one batch). "softmax": over the prototypes, as in
  matching networks; "cosine": real-valued codes.
- **Genes.** One token for each type: scGPT's outputs of the last layer at its {genes} marker genes, pooled; beside the
  cell's own embedding.
- **Neighbours.** The cell's embedding and those of its nearest cells in the sample.

References of at most {reference} cells and queries of at most {query}, drawn at random; types of fewer than ten
reference cells are left out. Every network is trained on two thirds of the reference for {steps} steps of {batch}
cells, less than the product's training; the last third teaches the temperature and the weight of the mixture with the
expression view. Means over {pairs} pairs and {seeds} seeds; ± is the standard deviation over seeds of the mean over
pairs. Macro-F1 and ECE are over the types that both sides have; AUROC tells the cells of a type that was left out
({missing} in all) from the others by the largest probability. The number of prototypes, the skip and the number of
neighbours are those that are best for the variant on the pairs of other families, alone. µJ as in
`annotator/energy.py`: a popcount costs an accumulation for every spike of the cell's code and every prototype. Seconds
of annotating are of 1,000 cells on one shared core, without scGPT.
"""


def frame_of(figures: dict[str, Any]) -> pd.DataFrame:
    """The runs at the settings that the other pairs chose; a variant without settings has an empty one."""
    frame = pd.DataFrame(figures["rows"], columns=figures["columns"])
    chosen = figures["chosen"]
    kept = [
        variant == EXPRESSION or setting == chosen[pair].get(variant, "")
        for pair, variant, setting in zip(frame["pair"], frame["variant"], frame["setting"], strict=True)
    ]
    return frame[kept]


def by_seed(frame: pd.DataFrame, variant: str, figure: str) -> pd.DataFrame:
    """Pairs x seeds of a figure; of types left out the mean of a pair's."""
    own = frame[frame["variant"] == variant]
    own = own[own["missing"].notna() if figure.endswith("auroc") else own["missing"].isna()]
    return own.pivot_table(index="pair", columns="seed", values=figure, aggfunc="mean").astype(float)


def difference(frame: pd.DataFrame, one: str, other: str, figure: str) -> tuple[float, float, int, int] | None:
    """Mean over pairs and seeds of one less the other, its spread over seeds, pairs on which it is below, pairs."""
    less = (by_seed(frame, one, figure) - by_seed(frame, other, figure)).dropna(how="all")
    if less.empty:
        return None
    of_pairs = less.mean(axis=1)
    return (
        float(less.to_numpy().mean()),
        float(less.mean(axis=0).std()),
        int((of_pairs < -1e-9).sum()),
        len(of_pairs),
    )


def passes(found: tuple[float, float, int, int] | None, gain: float) -> bool:
    """Whether a difference is a gain by the rule."""
    if found is None:
        return False
    mean, spread, below, pairs = found
    return mean >= gain and mean > SPREADS * spread and below <= BELOW * pairs


def seconds(frame: pd.DataFrame, variant: str, embedding: dict[str, float]) -> float:
    """CPU seconds of annotating 1,000 cells, with what the variant's tokens cost in scGPT on top of `<cls>`."""
    own = frame[(frame["variant"] == variant) & frame["missing"].isna()]["annotate_seconds"].mean()
    return float(own) + (embedding["genes"] - embedding["cls"] if variant.startswith("genes") else 0.0)


def earns(frame: pd.DataFrame, variant: str, without: list[str], view: str, embedding: dict[str, float]) -> list[str]:
    """In which figures attention earns its place in a view, against everything without it; none where it is slower."""
    if seconds(frame, variant, embedding) > seconds(frame, DEFAULT, embedding):
        return []
    return [
        name
        for figure, gain, name in (("macro_f1", F1_GAIN, "macro-F1"), ("auroc", AUROC_GAIN, "AUROC"))
        if all(passes(difference(frame, variant, other, f"{view}_{figure}"), gain) for other in without)
    ]


def told(found: tuple[float, float, int, int] | None) -> str:
    if found is None:
        return "–"
    mean, spread, below, pairs = found
    about = "" if pd.isna(spread) else f" ± {100 * spread:.1f}"
    return f"{points(mean)}{about}, below on {below} of {pairs}"


def render(figures: dict[str, Any]) -> str:
    """The section of the page."""
    frame = frame_of(figures)
    variants = [name for name in dict.fromkeys(frame["variant"]) if name != EXPRESSION]
    missing = frame[(frame["variant"] == DEFAULT) & frame["missing"].notna()][["pair", "missing"]].drop_duplicates()
    parts = [
        INTRO.format(
            minutes=f"{figures['minutes']:g}", code=figures["code"], genes=figures["genes_of_module"],
            reference=figures["reference_cells"], query=figures["query_cells"],
            steps=figures["recipe"]["max_steps"], batch=figures["recipe"]["batch_size"],
            pairs=frame["pair"].nunique(), seeds=figures["seeds"], missing=f"{len(missing)} types",
        )
    ]  # fmt: skip
    parts += [
        verdict(frame, figures["without"], figures["embedding_seconds"]),
        everything(frame, variants),
        gains(frame, figures["without"]),
    ]
    parts += [deletions(frame), of_pairs(frame, variants), cost(figures)]
    return "\n".join(part for part in parts if part)


def verdict(frame: pd.DataFrame, without: dict[str, list[str]], embedding: dict[str, float]) -> str:
    """In words, by the rule."""
    rule = (
        f"Attention earns its place where it is worth {F1_GAIN * 100:g} point of macro-F1 or {AUROC_GAIN:g} of AUROC "
        f"over every network without it, more than {SPREADS:g} spreads of the seeds, is not below on more than a third "
        "of the pairs, and annotates no slower than the default."
    )
    words = []
    for view, told in (("alone", "As the embedding view alone"), ("mixed", "Mixed with the expression view")):
        found = {name: earns(frame, name, others, view, embedding) for name, others in without.items()}
        winners = [f"{name} ({listed(figures)})" for name, figures in found.items() if figures]
        words.append(f"{told}: {listed(winners) if winners else 'none does'}.")
    return f"{rule} {' '.join(words)}\n"


def everything(frame: pd.DataFrame, variants: list[str]) -> str:
    """Every variant's means."""

    def cell(variant: str, figure: str) -> str:
        values = by_seed(frame, variant, figure)
        if values.empty:
            return "–"
        over_pairs = values.mean(axis=0)
        spread = over_pairs.std()
        return number(over_pairs.mean()) + ("" if pd.isna(spread) else f" ± {number(spread)}")

    columns = ("alone_macro_f1", "mixed_macro_f1", "alone_auroc", "mixed_auroc", "alone_ece", "mixed_ece")
    rows = [[EXPRESSION] + [cell(EXPRESSION, name) if "alone" in name else "–" for name in columns] + ["–"] * 3]
    for name in variants:
        of_name = frame[(frame["variant"] == name) & frame["missing"].isna()]
        costs = [
            number(of_name["train_seconds"].mean(), 1),
            number(of_name["annotate_seconds"].mean(), 2),
            number(of_name["microjoules"].mean(), 3),
        ]
        rows.append([name, *(cell(name, figure) for figure in columns), *costs])
    header = [
        "variant", "macro-F1 alone", "mixed", "AUROC alone", "mixed", "ECE alone", "mixed", "training, CPU s",
        "annotating, CPU s", "µJ",
    ]  # fmt: skip
    return table(header, rows)


def gains(frame: pd.DataFrame, without: dict[str, list[str]]) -> str:
    """What each attention adds to each network without it, in points."""
    rows = []
    for name, others in without.items():
        for other in others:
            found = [
                told(difference(frame, name, other, f"{view}_{figure}"))
                for figure in ("macro_f1", "auroc")
                for view in ("alone", "mixed")
            ]
            rows.append([f"{name} less {other}", *found])
    for name in without:
        if name != DEFAULT:
            rows.append(
                [f"{name} less the default"]
                + [
                    told(difference(frame, name, DEFAULT, f"{view}_{figure}"))
                    for figure in ("macro_f1", "auroc")
                    for view in ("alone", "mixed")
                ]
            )
    header = ["difference, points", "macro-F1 alone", "macro-F1 mixed", "AUROC alone", "AUROC mixed"]
    return "What attention adds; ± is the spread of the difference over seeds.\n\n" + table(header, rows)


def deletions(frame: pd.DataFrame) -> str:
    """The deletion test of retrieval."""
    whole = frame[frame["missing"].isna() & frame["fall_most"].notna()]
    if whole.empty:
        return ""
    rows = []
    for name, of_name in whole.groupby("variant", sort=False):
        mean = of_name.groupby("pair").mean(numeric_only=True).mean()
        rows.append(
            [str(name)]
            + [number(mean[f"fall_{kind}"]) for kind in ("most", "random_of_type", "random")]
            + [percent(mean[f"changed_{kind}"]) for kind in ("most", "random_of_type", "random")]
        )
    header = [
        "variant", "looked at most: fall", "random, of the type", "random", "looked at most: changed",
        "random, of the type", "random",
    ]  # fmt: skip
    return (
        "Deletion test of retrieval: half as many prototypes as the called type has are taken away, and the network is "
        "asked again. Fall of the called type's log-probability, and share of cells called another type. Scores are "
        "added up over prototypes, so that much of this holds by construction.\n\n" + table(header, rows)
    )


def of_pairs(frame: pd.DataFrame, variants: list[str]) -> str:
    """Macro-F1 alone on each pair, mean over seeds."""
    values = {name: by_seed(frame, name, "alone_macro_f1").mean(axis=1) for name in [EXPRESSION, *variants]}
    pairs = list(dict.fromkeys(frame["pair"]))
    rows = [[name, *(number(of_name.get(pair)) for pair in pairs)] for name, of_name in values.items()]
    return "Macro-F1 alone, by pair:\n\n" + table(["variant", *pairs], rows)


def cost(figures: dict[str, Any]) -> str:
    embedding = figures["embedding_seconds"]
    return (
        f"Embedding 1,000 cells of `baron lib3` takes {embedding['cls']:g} CPU seconds for `<cls>` alone, as the "
        f"product does, and {embedding['genes']:g} with the last layer at every gene, as the variants on genes need.\n"
    )
