"""The two views of a cell, fitted together and asked together."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from spikgpt.annotator import network
from spikgpt.annotator.batch import UPPER, batch_offset, weighted_quantile
from spikgpt.annotator.cells import Cells
from spikgpt.annotator.distances import MarkerDetection, TypeDistance, TypeProfiles, dispersed_genes
from spikgpt.annotator.expression import ExpressionView
from spikgpt.annotator.neighbours import MIN_CELLS_TO_POOL, nearest
from spikgpt.annotator.network import Architecture, Recipe, SpikingTransformer
from spikgpt.annotator.probabilities import ABSENT, log_softmax
from spikgpt.base.arrays import Arrays, Codes, Flags, Floats, Floats32, named, unnamed
from spikgpt.base.groups import class_means
from spikgpt.base.normalisation import log1p_cp10k

EMBEDDING_ARRAYS = ("mean", "sd", "type_means", "class_cells")


@dataclass
class EmbeddingView:
    """Standardisation ``mean``, ``sd`` (embedding_size,), the spiking network, and distances to types.

    ``type_means`` (classes, embedding_size) of the standardised reference, ``class_cells`` (classes,).

    A raw CLS embedding is very anisotropic (cosines of different cells above 0.99), hence the standardisation.
    """

    mean: Floats32
    sd: Floats32
    type_means: Floats
    class_cells: Floats
    network: SpikingTransformer
    distance: TypeDistance

    @classmethod
    def fit(
        cls,
        embedding: Floats32,
        codes: Codes,
        classes: int,
        recipe: Recipe,
        shape: dict[str, int | float],
        network_kind: type[SpikingTransformer],
        seed: int,
    ) -> "EmbeddingView":
        """Fit on ``embedding`` (cells, embedding_size) of the reference; the rest as in `Views.fit`."""
        mean = embedding.mean(0, dtype=np.float64).astype(np.float32)
        sd = np.maximum(embedding.std(0, dtype=np.float64), 1e-6).astype(np.float32)
        standard = ((embedding - mean) / sd).astype(np.float32)
        architecture = Architecture(standard.shape[1], classes, **shape)  # type: ignore[arg-type]
        trained = network.train(standard, codes, architecture, recipe, seed, network_kind)
        type_means = class_means(standard, codes, classes)
        class_cells = np.bincount(codes, minlength=classes).astype(float)
        distance = TypeDistance.fit(standard, codes, classes)
        return cls(mean, sd, type_means, class_cells, trained, distance)

    def log_probabilities(self, embedding: Floats32, predicted: Codes | None) -> Floats:
        """Log-probabilities ``(cells, classes)`` of one sample, its batch offset taken off.

        ``predicted`` (cells,) are the types that tell the offset; None: those of this view without it.
        """
        values = self.standardised(embedding)
        if predicted is None:
            predicted = network.log_probabilities(self.network, values).argmax(1)
        offset = batch_offset(values.astype(np.float64), predicted, self.type_means, self.class_cells)
        return network.log_probabilities(self.network, (values - offset).astype(np.float32))

    def standardised(self, embedding: Floats32) -> Floats32:
        return ((embedding - self.mean) / self.sd).astype(np.float32)


@dataclass
class ProfileView:
    """Expression of types: pooled residuals, distances in principal components, detection of markers."""

    profiles: TypeProfiles
    distance: TypeDistance
    detection: MarkerDetection

    @classmethod
    def fit(
        cls, cells: Cells, counts: sp.csr_matrix, markers: Codes, codes: Codes, batches: Codes, classes: int
    ) -> "ProfileView":
        """Fit on the reference and its ``counts`` (cells, genes); ``markers`` index into the annotator's genes,
        ``codes`` and ``batches`` (cells,)."""
        genes = np.union1d(dispersed_genes(counts), markers).astype(np.int64)
        values = log1p_cp10k(cells.on(genes), cells.depth)
        near = nearest(values, batches) if len(cells) >= MIN_CELLS_TO_POOL else None
        return cls(
            TypeProfiles.fit(cells, genes, codes, classes, near),
            TypeDistance.fit(values, codes, classes),
            MarkerDetection.fit(counts, codes, classes),
        )


@dataclass
class Views:
    """Both views; one of them is None when the features leave it out. ``present``: classes with cells."""

    present: Flags
    embedding: EmbeddingView | None
    expression: ExpressionView | None
    profile: ProfileView | None

    @classmethod
    def fit(
        cls,
        cells: Cells,
        codes: Codes,
        batches: Codes,
        *,
        classes: int,
        features: str,
        recipe: Recipe,
        shape: dict[str, int | float],
        network_kind: type[SpikingTransformer],
        seed: int,
    ) -> "Views":
        """Fit on the reference; ``codes`` and ``batches`` (cells,); ``shape``: fields of the architecture that differ
        from its defaults; ``network_kind`` is made from it."""
        embedding, expression, profile = None, None, None
        if features != "expression":
            embedding = EmbeddingView.fit(cells.embedding, codes, classes, recipe, shape, network_kind, seed)
        if features != "embedding":
            counts = cells.counts()
            expression = ExpressionView.fit(counts, codes, classes)
            profile = ProfileView.fit(cells, counts, expression.correlation.genes, codes, batches, classes)
        return cls(np.bincount(codes, minlength=classes) > 0, embedding, expression, profile)

    def log_probabilities(self, cells: Cells) -> dict[str, Floats]:
        """Of each view, ``(cells, classes)``."""
        out = {}
        predicted = None
        if self.expression is not None:
            out["expression"] = self.expression.log_probabilities(cells)
            predicted = out["expression"].argmax(1)
        if self.embedding is not None:
            logits = self.embedding.log_probabilities(cells.embedding, predicted)
            logits[:, ~self.present] = ABSENT
            out["embedding"] = log_softmax(logits)
        return out

    def neighbours(self, cells: Cells) -> Codes | None:
        """Nearest cells within the sample ``(cells, k)``, or None when it is too small to pool."""
        if len(cells) < MIN_CELLS_TO_POOL:
            return None
        if self.profile is not None:
            genes = self.profile.profiles.genes
            return nearest(log1p_cp10k(cells.on(genes[cells.measured[genes]]), cells.depth))
        assert self.embedding is not None
        return nearest(self.embedding.standardised(cells.embedding))

    def type_profiles(self) -> Floats:
        """Mean profile of each type ``(classes, features)``: of expression where there is that view, else of the
        embedding."""
        if self.profile is not None:
            return self.profile.profiles.bulks
        assert self.embedding is not None
        return self.embedding.type_means

    def likeness(self, cells: Cells, predicted: Codes) -> float:
        """How much the sample's types look like the reference's: correlation over types, weighted by cells.

        The upper quartile, as more than half of a sample may be of a type that the reference lacks. 1 without
        expression, which alone can tell.
        """
        if self.profile is None:
            return 1.0
        of_types = self.profile.profiles.likeness(cells, predicted)
        number = np.bincount(predicted, minlength=len(of_types))
        return weighted_quantile(of_types[number > 0], number[number > 0].astype(float), UPPER)

    def distances(self, cells: Cells, predicted: Codes, neighbours: Codes | None, share: float) -> Floats:
        """Distances to the type called, ``(cells, distances)``; larger fits worse. Order: `distance_names`.

        ``share`` of what all types have in common is taken off as the batch, see
        `spikgpt.annotator.batch.share_of_correction`.
        """
        out = []
        if self.profile is not None:
            genes = self.profile.profiles.genes
            seen = cells.measured[genes]
            out.append(self.profile.profiles.distances(cells, predicted, neighbours, share))
            values = log1p_cp10k(cells.on(genes[seen]), cells.depth)
            out.append(self.profile.distance.distances(values, seen, predicted, neighbours, share))
            out.append(self.profile.detection.distances(cells, predicted, neighbours, share))
        if self.embedding is not None:
            values = self.embedding.standardised(cells.embedding)
            everything = np.ones(values.shape[1], dtype=bool)
            out.append(self.embedding.distance.distances(values, everything, predicted, neighbours, share))
        return np.stack(out, axis=1)

    def arrays(self) -> Arrays:
        """Everything learned, by name, for a safetensors file."""
        out: Arrays = {"present": self.present.astype(np.uint8)}
        if self.embedding is not None:
            view = self.embedding
            out |= {f"embedding.{name}": getattr(view, name) for name in EMBEDDING_ARRAYS}
            out |= named("embedding.distance", view.distance)
            for name, tensor in view.network.state_dict().items():
                out[f"embedding.network.{name}"] = tensor.numpy()
        if self.expression is not None:
            out |= self.expression.arrays()
        if self.profile is not None:
            out |= named("profile.profiles", self.profile.profiles)
            out |= named("profile.distance", self.profile.distance)
            out |= named("profile.detection", self.profile.detection)
        return out

    @classmethod
    def from_arrays(cls, arrays: Arrays, shape: Architecture | None) -> "Views":
        """The opposite of `arrays`; raises KeyError or RuntimeError where one is missing or misshapen."""
        embedding, expression, profile = None, ExpressionView.from_arrays(arrays), None
        if shape is not None:
            trained = SpikingTransformer(shape)
            prefix = "embedding.network."
            trained.load_state_dict(
                {n[len(prefix) :]: torch.from_numpy(a) for n, a in arrays.items() if n.startswith(prefix)}
            )
            embedding = EmbeddingView(
                network=trained.eval(),
                distance=unnamed("embedding.distance", TypeDistance, arrays),
                **{name: arrays[f"embedding.{name}"] for name in EMBEDDING_ARRAYS},
            )
        if expression is not None:
            profile = ProfileView(
                unnamed("profile.profiles", TypeProfiles, arrays),
                unnamed("profile.distance", TypeDistance, arrays),
                unnamed("profile.detection", MarkerDetection, arrays),
            )
        return cls(arrays["present"].astype(bool), embedding, expression, profile)


def distance_names(features: str) -> list[str]:
    """Names of the columns of `Views.distances`."""
    of_expression = ["expression_profile", "expression_distance", "marker_detection"] if features != "embedding" else []
    return of_expression + (["embedding_distance"] if features != "expression" else [])
