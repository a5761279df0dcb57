"""SpikGPT, as the pipeline trains and applies it, and with a part of it taken out."""

import contextlib
import functools
import time
from collections.abc import Iterator
from unittest import mock

import numpy as np
from library.networks import PlainTransformer
from library.splits import Side
from library.task import RATE, Answer, Floats32, Task
from spikgpt import UNKNOWN
from spikgpt.annotator import leave_out
from spikgpt.annotator import network as spiking
from spikgpt.annotator.model import Annotator
from spikgpt.annotator.reference import MIN_CELLS_OF_GENE, Reference
from spikgpt.annotator.train import train_annotator


def reference_of(side: Side, embedding: Floats32) -> Reference:
    """The cells as `spikgpt.annotator.reference.read_reference` hands them to training."""
    order = np.lexsort((side.barcodes.astype(str), side.batches.astype(str)))
    keep = np.flatnonzero(np.asarray((side.counts > 0).sum(axis=0)).ravel() >= MIN_CELLS_OF_GENE)
    counts = side.counts[order][:, keep].tocsr()
    classes, codes = np.unique(side.labels[order].astype(str), return_inverse=True)
    batches, batch_codes = np.unique(side.batches[order].astype(str), return_inverse=True)
    return Reference(
        counts,
        [side.genes[number] for number in keep],
        embedding[order],
        codes.astype(np.int64),
        classes.tolist(),
        batch_codes.astype(np.int64),
        batches.tolist(),
        np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel(),
        0,
    )


@contextlib.contextmanager
def without_spikes() -> Iterator[None]:
    """While open, the annotator's network is the non-spiking one of the same shape."""
    trained = functools.partial(spiking.train, kind=PlainTransformer)
    with mock.patch.object(spiking, "train", side_effect=trained) as asked:
        yield
    if not asked.called:
        raise RuntimeError("the annotator trained no network through spikgpt.annotator.network.train")


@contextlib.contextmanager
def without_table() -> Iterator[None]:
    """While open, training makes no leave-one-type-out table: the bench does not read it and it takes a third
    of the time."""
    with mock.patch.object(leave_out, "MAX_TYPES", 0):
        yield


def train(
    reference: Reference,
    seed: int,
    threads: int = 1,
    *,
    features: str = "both",
    spikes: bool = True,
    table: bool = True,
    **shape: int | float,
) -> Annotator:
    """A trained annotator; ``table``: with its leave-one-type-out table."""
    with contextlib.ExitStack() as changes:
        if not spikes:
            changes.enter_context(without_spikes())
        if not table:
            changes.enter_context(without_table())
        return train_annotator(
            reference,
            scgpt={"name": "bench", "sha256": ""},
            unknown_rate=RATE,
            features=features,
            seed=seed,
            threads=threads,
            shape=shape,
        )[0]


def spikgpt(task: Task, table: bool = True, **how: bool | str | int | float) -> Answer:
    """Train on the reference and annotate the query; ``how`` as in `train`.

    Seconds are told of whole references alone, and there training is complete, its table included.
    """
    start = time.process_time()
    reference = reference_of(task.split.reference, task.reference_embedding)
    annotator = train(reference, task.seed, table=table and task.whole, **how)
    trained = time.process_time()
    query = task.split.query
    table, said = annotator.annotate(query.counts, query.genes, task.query_embedding, list(query.barcodes), RATE)
    done = time.process_time()
    return Answer(
        table["spikgpt_best_match"].to_numpy(dtype=object),
        table["spikgpt_p_value"].to_numpy(dtype=np.float64),
        table["spikgpt_confidence"].to_numpy(dtype=np.float64),
        (table["spikgpt_cell_type"] == UNKNOWN).to_numpy(),
        trained - start,
        done - trained,
        {
            "embedding_weight": annotator.mixture.weight,
            "firing_rates": said["firing_rates"],
            "architecture": annotator.config["architecture"],
        },
    )
