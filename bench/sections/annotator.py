"""The annotator beside other methods, and with one part changed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sections.markdown import MISSING, listed, number, percent, points, table

OWN, PAPER_MODE = "SpikGPT", "SpikGPT, paper mode"
REGRESSION = "logistic regression on genes"
BARON, PBMC, KANG = "Baron libraries 1 and 2 to 3", "pbmc3k to pbmc4k", "Kang control to stimulated"
ALPHA = "alpha"

GOAL_MEAN, GOAL_WORST, GOAL_REGRESSION = 0.025, -0.01, 0.0
GOAL_AUROC = {BARON: 0.98, PBMC: 0.85, KANG: 0.85}
GOAL_CAUGHT = {BARON: 0.90, PBMC: 0.55, KANG: 0.30}
GOAL_ALPHA = 0.98
GOAL_UNKNOWN, GOAL_UNKNOWN_MEAN, GOAL_WORST_CLASS, GOAL_ECE = (0.02, 0.08), (0.04, 0.06), 0.15, 0.03

INTRO = """## Annotator

Real cells with the authors' labels: a reference to learn from, and a query of another library, technology,
laboratory or condition. Every method gets the raw counts of the genes that both sides have, and the same scGPT
embedding ({scgpt}). No run sees the query's labels but to score; SpikGPT's design, the same for every split, was
settled with such scores in view ([method.md](method.md) says which choices).

{splits}
Each type with at least 30 cells on both sides is also taken out of the reference in turn; its query cells are then
*unseen*, and the right answer for them is `Unknown`. Methods that draw random numbers ran with {seeds} seeds on whole
references (scANVI with one) and with one where a type is left out, which is a repeat of its own. Ablations that train
the network ran on {ablation_splits}; majority voting and scANVI did not run with types left out. The run took
{minutes} minutes on {cores} cores.{note} {versions}.{not_run}

Accuracy, macro-F1 and ECE (calibration error, 15 bins) are of the best match of cells of known types, rejection
left aside; AUROC tells unseen from known cells by the method's own score of belonging; *caught at 5 %* is the share of
unseen cells rejected where the threshold rejects exactly 5 % of known cells; *false Unknown* is the share of known
cells that the method's own rule rejects (SpikGPT: `unknown_rate` 0.05; CellTypist and paper mode: probability below
0.5; SVM: below 0.7; SingleR: its pruning), *worst class* the largest share among types of at least 30 query cells;
OSCR is the area under correct classification against false positive rate. Means over splits count the savercat
splits as one.
"""

PAPER = """### Paper mode

SpikGPT's abstract (arXiv 2512.03286) repeats the embedding along a channel (here m = 300) and along time (T = 4). Our
reading, with Spikformer filling the gaps (`bench/library/paper_mode.py`): the copies are tokens of Spiking
Self-Attention with scale 0.125 and residuals that add spikes. All copies then stay equal to the last bit in every
layer, so attention has nothing to choose between; this also lets the network be computed on one copy, exactly (a test
compares it with real copies, gradients included). It is our reading, not the authors' code; their depth, heads and
threshold are not known.
"""


@dataclass
class Goal:
    """One row of the table of goals."""

    name: str
    asked: str
    reached: str
    met: bool | None

    def row(self) -> list[str]:
        return [self.name, self.asked, self.reached, {True: "yes", False: "**no**", None: "not run"}[self.met]]


def frame_of(figures: dict[str, Any]) -> pd.DataFrame:
    """One row a run."""
    return pd.DataFrame(figures["rows"], columns=figures["columns"]).infer_objects()


def over_families(values: pd.DataFrame) -> pd.Series:
    """Mean over splits of a table method x split; the splits of one family count as one."""
    # columns are (family, split); a method that lacks a split has no mean
    return values.T.groupby(level=0).mean().T.where(values.notna().all(axis=1)).mean(axis=1, skipna=False)


def by_split(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means over seeds (or types left out) of a column, method x (family, split), methods in the bench's order."""
    order = list(dict.fromkeys(runs["method"]))
    return runs.pivot_table(index="method", columns=["family", "split"], values=column, aggfunc="mean").reindex(order)


def complete(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["left_out"].isna()]


def partial(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs without a type, on enough unseen cells to score."""
    return frame[frame["left_out"].notna() & frame["auroc"].notna()]


def goals(frame: pd.DataFrame) -> list[Goal]:
    """What was asked of SpikGPT and what the figures say."""
    whole, missing = complete(frame), partial(frame)
    f1 = by_split(whole[whole["kind"].isin(["own", "peer"])], "macro_f1")
    peers = f1.loc[[name for name in f1.index if name != OWN]]
    means = over_families(peers)
    best = str(means.idxmax())
    ahead = float(over_families(f1)[OWN] - means[best])
    found = [
        Goal(
            "macro-F1, mean over splits, minus that of the best single method",
            f"at least {points(GOAL_MEAN)} points",
            f"{points(ahead)} ({best})",
            ahead >= GOAL_MEAN,
        )
    ]
    behind = f1.loc[OWN] - peers.max()
    worst = behind.idxmin()
    found.append(
        Goal(
            "macro-F1 minus that of the best method of each split, worst split",
            f"at least {points(GOAL_WORST)}",
            f"{points(behind[worst])} ({worst[1]}: {peers[worst].idxmax()})",
            bool(behind[worst] >= GOAL_WORST),
        )
    )
    regression = f1.loc[OWN] - f1.loc[REGRESSION]
    worst = regression.idxmin()
    found.append(
        Goal(
            "macro-F1 minus that of logistic regression on genes, worst split",
            f"at least {points(GOAL_REGRESSION)}",
            f"{points(regression[worst])} ({worst[1]})",
            bool(regression[worst] >= GOAL_REGRESSION),
        )
    )
    for column, asked, name in (
        ("auroc", GOAL_AUROC, "AUROC of unseen against known cells, mean over types left out"),
        ("caught_at_5", GOAL_CAUGHT, "unseen caught at exactly 5 % false Unknown, mean over types left out"),
    ):
        for split, least in asked.items():
            runs = missing[(missing["split"] == split) & (missing["kind"].isin(["own", "peer"]))]
            runs = runs.groupby("method")[column].mean()
            if OWN not in runs:
                found.append(Goal(f"{name}: {split}", f"at least {number(least, 2)}", MISSING, None))
                continue
            peer = runs.drop(OWN)
            other = f" (best other: {number(peer.max())}, {peer.idxmax()})" if len(peer) else ""
            reached = number(runs[OWN]) + other
            found.append(Goal(f"{name}: {split}", f"at least {number(least, 2)}", reached, bool(runs[OWN] >= least)))
    alpha = missing[(missing["split"] == BARON) & (missing["left_out"] == ALPHA) & (missing["method"] == OWN)]
    if len(alpha):
        share, own_rule = float(alpha["caught_at_5"].mean()), float(alpha["unseen_unknown"].mean())
        reached = f"{percent(share)} ({percent(own_rule)} at its own threshold)"
        found.append(
            Goal(
                "Baron's alpha cells caught at 5 %", f"at least {percent(GOAL_ALPHA, 0)}", reached, share >= GOAL_ALPHA
            )
        )
    own = (
        whole[whole["method"] == OWN]
        .groupby(["family", "split"])[["false_unknown", "worst_class_false_unknown", "ece"]]
        .mean()
    )
    unknown = own["false_unknown"]
    low, high = GOAL_UNKNOWN
    found.append(
        Goal(
            "false Unknown at `unknown_rate` 0.05, every split",
            f"{percent(low, 0)} to {percent(high, 0)}",
            f"{percent(unknown.min())} ({unknown.idxmin()[1]}) to {percent(unknown.max())} ({unknown.idxmax()[1]})",
            bool(unknown.between(low, high).all()),
        )
    )
    mean = float(unknown.groupby(level=0).mean().mean())
    low, high = GOAL_UNKNOWN_MEAN
    asked = f"{percent(low, 0)} to {percent(high, 0)}"
    found.append(Goal("the same, mean over splits", asked, percent(mean), low <= mean <= high))
    for column, most, name in (
        ("worst_class_false_unknown", GOAL_WORST_CLASS, "false Unknown of the worst class, worst split"),
        ("ece", GOAL_ECE, "calibration error (ECE), worst split"),
    ):
        value = own[column]
        show = percent if column != "ece" else number
        reached = f"{show(value.max())} ({value.idxmax()[1]}); mean {show(value.groupby(level=0).mean().mean())}"
        found.append(
            Goal(
                name,
                f"at most {show(most, 0) if show is percent else show(most, 2)}",
                reached,
                bool(value.max() <= most),
            )
        )
    return found


def parts(frame: pd.DataFrame, architecture: dict[str, Any]) -> str:
    """What each part of SpikGPT adds: its macro-F1 minus that of SpikGPT with the part changed, the same splits."""
    runs = complete(frame)
    own = runs[runs["method"] == OWN]
    rows, words = [], []
    for method in dict.fromkeys(runs.loc[runs["kind"] == "part", "method"]):
        changed = runs[runs["method"] == method]
        with_part = own[own["split"].isin(changed["split"])]

        def seeds(group: pd.DataFrame) -> pd.Series:
            """Mean over splits of each seed; a method without seeds has one."""
            of_split = group.groupby(["seed", "family", "split"])["macro_f1"].mean()
            return of_split.groupby(level=[0, 1]).mean().groupby(level=0).mean()

        a, b = seeds(with_part), seeds(changed)
        difference = float(a.mean() - b.mean())
        spread = float(np.sqrt(np.nan_to_num(a.var()) + np.nan_to_num(b.var())))
        per_split = with_part.groupby("split")["macro_f1"].mean() - changed.groupby("split")["macro_f1"].mean()
        ranks = f"{points(per_split.min())} to {points(per_split.max())}"
        name = method.removeprefix(f"{OWN}, ")
        rows.append(
            [
                name,
                str(changed["split"].nunique()),
                number(a.mean()),
                number(b.mean()),
                points(difference, 2),
                f"± {100 * spread:.2f}",
                ranks,
            ]
        )
        words.append(f"- {part_of(name, architecture)} {verdict(difference, spread)}.")
    if not rows:
        return ""
    header = ["changed", "splits", "SpikGPT", "changed SpikGPT", "difference, points", "seeds' spread", "per split"]
    return (
        "### What each part adds\n\n"
        "Macro-F1, mean over the splits the change ran on and over seeds. The spread is the standard deviation of the "
        "difference between one seed of each; a difference within it is called nothing measurable.\n\n"
        + table(header, rows)
        + "\n"
        + "\n".join(words)
        + "\n"
    )


def part_of(name: str, architecture: dict[str, Any]) -> str:
    """The part that a change takes out, as the subject of a sentence."""
    if name.startswith("T = "):
        return f"{architecture['time_steps']} time step(s) in place of {name.removeprefix('T = ')}"
    if name.startswith("depth "):
        return f"{architecture['depth']} block(s) in place of {name.removeprefix('depth ')}"
    return {
        "expression view alone": "The embedding view, spiking self-attention included,",
        "embedding view alone": "The expression view",
        "no attention": "Attention",
        "no spikes": "Spikes in place of a non-spiking Transformer of the same shape",
    }[name]


def verdict(difference: float, spread: float) -> str:
    """In words; a difference within the spread of seeds is none."""
    if abs(difference) <= max(spread, 0.0005):
        return f"adds nothing measurable ({points(difference, 2)} points, seeds' spread {100 * spread:.2f})"
    return (
        f"{'adds' if difference > 0 else 'costs'} {abs(100 * difference):.2f} points (seeds' spread {100 * spread:.2f})"
    )


def macro_f1(frame: pd.DataFrame) -> str:
    """Methods x splits, best mean first; several seeds with their standard deviation."""
    runs = complete(frame)
    runs = runs[runs["kind"] != "part"]
    means = by_split(runs, "macro_f1")
    spread = runs.groupby(["method", "split"])["macro_f1"].std()
    mean = over_families(means).sort_values(ascending=False, na_position="last")

    def cell(method: str, column: tuple[str, str]) -> str:
        value, sd = means.loc[method, column], spread.get((method, column[1]))
        text = number(value) + (f" ± {number(sd)}" if sd is not None and not pd.isna(sd) else "")
        return f"**{text}**" if value == means[column].max() else text

    rows = [[m, *(cell(m, c) for c in means.columns), number(mean[m])] for m in mean.index]
    header = ["method", *(split for _, split in means.columns), "mean"]
    return f"### Macro-F1\n\n{table(header, rows)}\n![Macro-F1 of each method on each split](benchmarks/macro_f1.svg)\n"


WHOLE = {
    "accuracy": ("accuracy", number),
    "macro_f1": ("macro-F1", number),
    "ece": ("ECE", number),
    "false_unknown": ("false Unknown", percent),
    "worst_class_false_unknown": ("worst class", percent),
    "train_seconds": ("training, CPU s", lambda value: number(value, 1)),
    "cells_per_second": ("cells/s", lambda value: number(value, 0)),
}
LEFT_OUT = {
    "auroc": ("AUROC", number),
    "caught_at_5": ("caught at 5 %", percent),
    "unseen_unknown": ("caught by own rule", percent),
    "false_unknown": ("false Unknown", percent),
    "oscr": ("OSCR", number),
    "macro_f1": ("macro-F1", number),
}


def means(runs: pd.DataFrame, columns: dict[str, Any]) -> str:
    """Methods x figures of one split."""
    rows = [
        [str(method), *(show(pd.to_numeric(group[column]).mean()) for column, (_, show) in columns.items())]
        for method, group in runs.groupby("method", sort=False)
    ]
    return table(["method", *(name for name, _ in columns.values())], rows)


def each_type(runs: pd.DataFrame) -> str:
    """SpikGPT and the best other method on each type left out."""
    rows = []
    for left_out, group in runs.groupby("left_out"):
        own = group[group["kind"] == "own"].iloc[0]
        row = [str(left_out), str(own["unseen_cells"]), number(own["auroc"]), percent(own["caught_at_5"])]
        row.append(percent(own["unseen_unknown"]))
        others = group[group["kind"] == "peer"]
        for column, show in (("auroc", number), ("caught_at_5", percent)):
            best = others.loc[others[column].idxmax()] if len(others) else None
            row.append(MISSING if best is None else f"{show(best[column])} ({best['method']})")
        rows.append(row)
    header = ["type left out", "unseen cells", "AUROC", "caught at 5 %", "caught by own rule"]
    return table([*header, "best other AUROC", "best other caught at 5 %"], rows)


def seconds_and_rates(frame: pd.DataFrame) -> str:
    """Every figure of every split."""
    text = []
    for split, runs in complete(frame).groupby("split", sort=False):
        first = runs.iloc[0]
        text.append(
            f"#### {split}\n\nReference {first['reference_cells']} cells of {first['types']} types, "
            f"query {first['known_cells']} cells of them and {first['unseen_cells']} of other types.\n\n"
            + means(runs, WHOLE)
        )
    text.append(
        "Seconds are CPU seconds of one thread. SpikGPT's training holds out folds, learns the mixture, calibrates, "
        "and tries each type of the reference as missing; ablations leave the last out.\n"
    )
    return "### Whole references\n\n" + "\n".join(text)


def types_left_out(frame: pd.DataFrame) -> str:
    text = []
    for split, runs in partial(frame).groupby("split", sort=False):
        if not (runs["kind"] == "own").any():
            continue
        types = runs["left_out"].nunique()
        text.append(f"#### {split}: mean over {types} types\n\n{means(runs, LEFT_OUT)}\n{each_type(runs)}")
    if not text:
        return ""
    picture = "![Unseen cells caught against known cells rejected](benchmarks/unknown.svg)\n"
    return "### Each type left out in turn\n\n" + picture + "\n" + "\n".join(text)


def rates(figures: dict[str, Any]) -> str:
    """Mean firing rate of each layer, and the energy that follows from it."""
    if not figures["firing_rates"]:
        return ""
    layers = list(dict.fromkeys(layer for one in figures["firing_rates"] for layer in one["layers"]))
    rows = [[one["split"], *(percent(one["layers"].get(layer)) for layer in layers)] for one in figures["firing_rates"]]
    text = "### Firing rates\n\nSpikes per neuron and time step while annotating the query, first seed.\n\n"
    text += table(["split", *(f"`{layer}`" for layer in layers)], rows)
    costs = [(one["split"], one["energy"]) for one in figures["firing_rates"] if one["energy"]]
    if costs:
        heads = list(costs[0][1])
        text += (
            "\n### Energy\n\nTheoretical microjoules for one cell: 4.6 pJ a multiply-accumulate and 0.9 pJ an "
            "accumulate (45 nm), with the firing rates above and without memory. The head runs on scGPT's embedding, "
            "whose own cost stands in the last column. No claim about a CPU or GPU follows from it.\n\n"
            + table(["split", *heads], [[split, *(f"{cost[head]:,.3g}" for head in heads)] for split, cost in costs])
        )
    return text


def render(figures: dict[str, Any]) -> str:
    frame = frame_of(figures)
    whole = complete(frame)
    rows = []
    for split, runs in whole.groupby("split", sort=False):
        first, tried = runs.iloc[0], frame.loc[(frame["split"] == split), "left_out"].nunique()
        rows.append(
            [
                str(split),
                str(first["reference_cells"]),
                str(first["types"]),
                str(first["known_cells"]),
                str(first["unseen_cells"]),
                str(tried),
            ]
        )
    of_ablations = whole.loc[(whole["kind"] == "part") & whole["seed"].gt(0), "split"]
    not_run = f" Not run here: {'; '.join(figures['not_run'])}." if figures["not_run"] else ""
    not_run += f" **Failed: {'; '.join(figures['failed'])}.**" if figures["failed"] else ""
    intro = INTRO.format(
        scgpt=f"{figures['scgpt']['name']}, sha256 `{figures['scgpt']['sha256'][:12]}`",
        splits=table(
            ["split", "reference cells", "types", "query cells", "of unknown types", "types left out in turn"], rows
        ),
        seeds=int(whole["seed"].max()) + 1,
        ablation_splits=listed(list(dict.fromkeys(of_ablations))),
        minutes=number(figures["minutes"], 0),
        cores=figures["cores"],
        note=f" {figures['note']}" if figures.get("note") else "",
        versions=", ".join(f"{name} {version}" for name, version in figures["versions"].items()),
        not_run=not_run,
    )
    aims = table(["goal", "asked", "reached", "met"], [goal.row() for goal in goals(frame)])
    sections = [
        intro,
        f"### Goals\n\n{aims}",
        macro_f1(frame),
        parts(frame, figures["architecture"]),
        types_left_out(frame),
        seconds_and_rates(frame),
        rates(figures),
        PAPER if (frame["method"] == PAPER_MODE).any() else "",
    ]
    return "\n".join(part for part in sections if part)


def pictures(figures: dict[str, Any]) -> dict[str, Any]:
    """Macro-F1 per split, and what is caught against what is rejected wrongly."""
    frame = frame_of(figures)
    drawn = {"macro_f1.svg": picture_of_f1(complete(frame))}
    if len(partial(frame)):
        drawn["unknown.svg"] = picture_of_unknown(partial(frame))
    return drawn


def picture_of_f1(runs: pd.DataFrame) -> Any:
    from matplotlib.figure import Figure

    f1 = by_split(runs[runs["kind"].isin(["own", "peer"])], "macro_f1")
    figure = Figure(figsize=(7, 0.45 * f1.shape[1] + 1), layout="constrained")
    axes = figure.subplots()
    for row, column in enumerate(f1.columns):
        others = f1[column].drop(OWN).dropna()
        axes.plot(others, [row] * len(others), "o", color="0.7", label="other methods" if row == 0 else None)
        axes.plot([others[REGRESSION]], [row], "|", color="0.2", ms=14, label=REGRESSION if row == 0 else None)
        axes.plot([f1.loc[OWN, column]], [row], "D", color="#c0392b", label=OWN if row == 0 else None)
    axes.set_yticks(range(f1.shape[1]), [split for _, split in f1.columns])
    axes.invert_yaxis()
    axes.set_xlabel("macro-F1")
    axes.grid(axis="x", color="0.92")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def picture_of_unknown(runs: pd.DataFrame) -> Any:
    """Each method's own rule, mean over the types left out."""
    from matplotlib.figure import Figure

    runs = runs[runs["kind"].isin(["own", "peer", "paper"]) & runs["unseen_unknown"].notna()]
    splits = list(dict.fromkeys(runs["split"]))
    methods = list(dict.fromkeys(runs["method"]))
    columns = min(len(splits), 4)
    lines = -(-len(splits) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.3 * lines + 0.7), layout="constrained")
    for place, axes in enumerate(figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat):
        if place >= len(splits):
            axes.set_visible(False)
            continue
        mean = runs[runs["split"] == splits[place]].groupby("method")[["false_unknown", "unseen_unknown"]].mean()
        for number_, (method, marker) in enumerate(zip(methods, "DovsP^X*", strict=False)):
            if method in mean.index:
                color = "#c0392b" if method == OWN else f"C{number_ + 3}"
                x, y = 100 * mean.loc[method]
                axes.plot(x, y, marker, color=color, label=method if place == 0 else None)
        axes.axvline(5, color="0.8", lw=1, zorder=0)
        axes.set_title(splits[place], fontsize=8)
    figure.supxlabel("known cells called Unknown, %", fontsize=9)
    figure.supylabel("unseen cells called Unknown, %", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure
