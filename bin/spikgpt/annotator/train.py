"""Training an annotator: hold out, learn the mixture and the calibration, fit on everything."""

from typing import Any

from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.calibrated import Calibrated, calibrated, progress
from spikgpt.annotator.cautions import depth_leak, grave_cautions, reference_warnings
from spikgpt.annotator.coarse_labels import with_finer_labels
from spikgpt.annotator.held_out import HeldOut, mix_by_the_other_folds
from spikgpt.annotator.joined import joined_warnings
from spikgpt.annotator.leave_out import leave_one_out_table
from spikgpt.annotator.levels import LeftOut, Levels
from spikgpt.annotator.missing_types import leave_one_out_lines
from spikgpt.annotator.network import Recipe, SpikingTransformer
from spikgpt.annotator.realised import figures as level_figures
from spikgpt.annotator.realised import held_out_answers, left_out_row
from spikgpt.annotator.record import config, held_out_figures
from spikgpt.annotator.training_set import Reference
from spikgpt.annotator.tree import grow_tree
from spikgpt.base.arrays import Codes
from spikgpt.base.threads import one_thread


@one_thread()
def train_annotator(
    reference: Reference,
    *,
    scgpt: dict[str, Any],
    unknown_rate: float,
    features: str,
    seed: int,
    threads: int,
    recipe: Recipe | None = None,
    shape: dict[str, int | float] | None = None,
    network_kind: type[SpikingTransformer] = SpikingTransformer,
    leave_one_out: bool = True,
) -> tuple[Annotator, HeldOut, Codes, Reference]:
    """Train on a labelled reference.

    Parameters
    ----------
    scgpt
        ``sha256`` and ``name`` of the checkpoint that made the embeddings.
    threads
        Processes that fit folds side by side; the result does not depend on it.
    recipe, shape
        How the network is trained, and fields of its architecture that differ from the defaults.
    network_kind
        The network of the embedding view. A folder of an annotator with another than the default cannot be
        loaded; the bench compares them.
    leave_one_out
        Whether to make the leave-one-type-out table, which takes about a third of the time.

    Returns
    -------
    The annotator; the largest fold's held-out model, which the benchmark compares with; the fold of every cell
    ``(cells,)``; the reference, coarse labels made finer, see `spikgpt.annotator.coarse_labels`.

    Raises
    ------
    MemoryError
        A worker process was killed.
    """
    recipe = recipe or Recipe()

    def learn(cells: Reference) -> Calibrated:
        return calibrated(
            cells,
            unknown_rate=unknown_rate,
            features=features,
            seed=seed,
            threads=threads,
            recipe=recipe or Recipe(),
            shape=shape or {},
            network_kind=network_kind,
        )

    reference = with_finer_labels(reference, learn, unknown_rate)
    made = learn(reference)
    training, views, held, mixture, rejection = made.training, made.views, made.held, made.mixture, made.rejection
    fold_of, rows, log_p = made.fold_of, made.rows, made.log_p
    largest = max(held, key=lambda part: len(part.rows))

    mixed = mix_by_the_other_folds(held, reference)
    truth, telling = reference.codes.copy(), reference.telling(rows)
    truth[rows] = reference.settled(rows, mixed)
    tree = grow_tree(
        reference.classes, reference.ontology, reference.levels, reference.codes[rows], mixed, views.type_profiles()
    )
    progress(tree.told)
    missing: list[dict[str, Any]] = []
    left_out: list[LeftOut] = []
    if leave_one_out:
        progress("leaving out types in turn")
        found = leave_one_out_table(training, largest, fold_of, unknown_rate, mixture.weight, rejection, threads)
        left_out = [cells for _, cells in found]
        for row, cells in found:
            others = Levels.learn(
                tree, reference.codes[rows[telling]], mixed[telling], [one for one in left_out if one is not cells]
            )
            missing.append(row | left_out_row(tree, others, cells, unknown_rate))
        for line in leave_one_out_lines(missing):
            progress(line)
    levels = Levels.learn(tree, reference.codes[rows[telling]], mixed[telling], left_out)
    told_on, answers = held_out_answers(tree, rejection, held, made.judged, reference, truth, left_out, unknown_rate)
    on_levels = level_figures(
        tree, reference.classes, answers, mixed.argmax(1), truth[told_on], reference.labels(told_on)
    )
    leak = depth_leak(reference.depth, reference.codes, seed)
    warnings = [*reference_warnings(reference, made.folds_by, unknown_rate, leak), *joined_warnings(reference, tree)]
    figures = held_out_figures(reference.classes, truth[rows], mixed, log_p, reference.labels(rows))
    grave = grave_cautions(figures, unknown_rate)
    for line in (*grave, *warnings):
        progress(f"warning: {line}")

    written = config(
        reference,
        views,
        mixture,
        rejection,
        scgpt=scgpt,
        unknown_rate=unknown_rate,
        features=features,
        seed=seed,
        recipe=training.recipe,
        calibration_cells=int(made.calibrates[rows].sum()),
        folds=len(held),
        folds_by=made.folds_by,
        leak=leak,
        leave_one_out=missing,
        levels={**levels.as_dict(reference.classes), "held_out": on_levels},
        held_out=figures,
        grave=grave,
        warnings=warnings,
    )
    return Annotator(views, mixture, rejection, written), largest, fold_of, reference
