"""Networks on the embedding alone, trained as the annotator trains its own."""

import numpy as np
import torch
from library.peers import embedding_features
from library.task import Answer, Task, timed
from numpy.typing import NDArray
from spikgpt.annotator.network import Architecture, LinearNorm, Recipe, SpikingTransformer, log_probabilities, train


class PlainTransformer(SpikingTransformer):
    """The spiking network's shape with softmax attention and ReLU in place of spikes and time steps."""

    def __init__(self, shape: Architecture) -> None:
        torch.nn.Module.__init__(self)
        self.shape = shape
        self.tokenizer = LinearNorm(shape.embedding_size, shape.tokens * shape.width)
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                shape.width, shape.heads, shape.width * shape.mlp_ratio, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(shape.depth)
        )
        self.read_out = torch.nn.Linear(shape.tokens * shape.width, shape.classes)
        self.skip = torch.nn.Linear(shape.embedding_size, shape.classes, bias=False)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        tokens = self.tokenizer(embedding).reshape(-1, self.shape.tokens, self.shape.width)
        for block in self.blocks:
            tokens = block(tokens)
        return self.read_out(tokens.flatten(1)) + self.skip(embedding)


def network(
    task: Task, kind: type[torch.nn.Module], rejects_below: float | None = None, **shape: int | float
) -> Answer:
    """A network of a given kind and shape, with softmax."""
    reference, query = embedding_features(task)
    classes, codes = np.unique(task.split.reference.labels.astype(str), return_inverse=True)

    def fit() -> torch.nn.Module:
        values = reference()
        form = Architecture(values.shape[1], len(classes), **shape)
        return train(values, codes.astype(np.int64), form, Recipe(), task.seed, kind)

    def predict(model: object) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        p = np.exp(log_probabilities(model, query()))
        return classes[p.argmax(1)].astype(object), p.max(1)

    return timed(fit, predict, rejects_below)
