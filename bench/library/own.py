"""SpikGPT, as the pipeline trains and applies it, and with a part of it taken out."""

import time

import numpy as np
from library.networks import PlainTransformer
from library.splits import Side
from library.task import RATE, Answer, Floats32, Task
from spikgpt import UNKNOWN
from spikgpt.annotator.annotation import Annotator
from spikgpt.annotator.network import SpikingTransformer
from spikgpt.annotator.train import train_annotator
from spikgpt.annotator.training_set import Reference


def reference_of(side: Side, embedding: Floats32, features: str = "both") -> Reference:
    """The cells as the pipeline learns from them."""
    return Reference.of(side.counts, side.genes, embedding, side.labels, side.batches, side.barcodes, features)


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
    """A trained annotator.

    Parameters
    ----------
    spikes
        False: the non-spiking network of the same shape.
    table
        Whether to make the leave-one-type-out table, which the bench does not read and which takes a third of the time.
    """
    return train_annotator(
        reference,
        scgpt={"name": "bench", "sha256": ""},
        unknown_rate=RATE,
        features=features,
        seed=seed,
        threads=threads,
        shape=shape,
        network_kind=SpikingTransformer if spikes else PlainTransformer,
        leave_one_out=table,
    )[0]


def spikgpt(task: Task, table: bool = True, features: str = "both", **how: bool | int | float) -> Answer:
    """Train on the reference and annotate the query; ``how`` as in `train`.

    Seconds are reported of whole references alone, and there training is complete, its table included.
    """
    start = time.process_time()
    reference = reference_of(task.split.reference, task.reference_embedding, features)
    annotator = train(reference, task.seed, features=features, table=table and task.whole, **how)
    trained = time.process_time()
    query = task.split.query
    table, summary = annotator.annotate(query.counts, query.genes, task.query_embedding, list(query.barcodes), RATE)
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
            "firing_rates": summary["firing_rates"],
            "architecture": annotator.config["architecture"],
        },
    )
