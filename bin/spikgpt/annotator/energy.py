"""Energy of a cell's inference, as the literature on spiking networks states it. Theoretical: nothing is measured.

``E = 4.6 pJ * MAC + 0.9 pJ * AC``: multiply-accumulates (MAC) of layers with real-valued input, accumulates (AC) of
layers with binary input, 32-bit floating point at 45 nm [1]. Behind a layer of neurons an AC is done for every spike
and connection: ``AC = firing rate * T * connections`` [2, suppl.; 3, suppl.], with the rates measured on the sample's
cells. Left out, as there: memory, neuron states, batch normalisation (folded into weights), additions of residuals.
Moving data costs more than computing it on real hardware, and CPUs and GPUs gain nothing from sparse spikes: these are
figures to compare with other papers', not a promise.

What is counted, for an embedding of ``E`` numbers, ``L`` tokens, width ``D``, ``H`` heads, ``T`` steps:

- MAC: the tokenizer, once (its input is the same at every step); the linear skip; the read-out of the mean membrane.
- AC: queries, keys and values; ``K^T V`` and ``Q (K^T V)``, each ``L * D * D / H`` connections; the projection; both
  layers of the MLP. The rate of queries, keys and values is one, as they are one layer of neurons.

[1] Horowitz, ISSCC 2014. [2] Zhou et al., Spikformer, ICLR 2023. [3] Yao et al., Spike-driven Transformer, NeurIPS
2023.

spikingjelly's `op_counter.estimate_simple_energy` runs the network and counts more. Its synaptic operations are the AC
here (where the rates of queries, keys and values differ, not to the last one); its MAC have batch normalisation on top,
one for each output; its AC have every element-wise addition of neurons and residuals on top; and it adds memory at
24.96 pJ a byte, with every weight read anew for each batch. `tests/python/test_energy.py` holds both side by side.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the report, which has no torch, reads this module too
    from spikgpt.annotator.network import Architecture

PICOJOULE_MAC = 4.6
PICOJOULE_AC = 0.9


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates and accumulates of one cell."""

    macs: float
    acs: float = 0.0

    @property
    def microjoules(self) -> float:
        return (PICOJOULE_MAC * self.macs + PICOJOULE_AC * self.acs) * 1e-6

    def as_dict(self) -> dict[str, float]:
        return {"macs": round(self.macs), "acs": round(self.acs), "microjoules": round(self.microjoules, 6)}


@dataclass(frozen=True)
class ScGPTShape:
    """What scGPT's cost depends on; ``hidden`` is the width of its feed-forward layers (``d_hid``)."""

    layers: int
    width: int
    hidden: int


def spiking(shape: "Architecture", rates: dict[str, float]) -> Operations:
    """The embedding view's network.

    Parameters
    ----------
    rates
        Mean firing rate of every layer of neurons, by its name in the network, see `network.firing_rates`.
    """
    tokens, width, hidden = shape.tokens, shape.width, shape.width * shape.mlp_ratio
    acs = 0.0
    for number in range(shape.depth):
        block = f"blocks.{number}."
        acs += rates[block + "attention_in"] * tokens * width * 3 * width
        acs += rates[block + "attention.qkv_lif"] * 2 * tokens * width * (width // shape.heads)
        acs += rates[block + "attention.attention_lif"] * tokens * width * width
        acs += rates[block + "mlp_in"] * tokens * width * hidden
        acs += rates[block + "mlp_lif"] * tokens * hidden * width
    return Operations(_ends(shape), shape.time_steps * acs)


def transformer(shape: "Architecture") -> Operations:
    """A Transformer of the same shape without spikes: one pass, softmax attention over the tokens, all of it MACs."""
    tokens, width, hidden = shape.tokens, shape.width, shape.width * shape.mlp_ratio
    block = 4 * tokens * width * width + 2 * tokens * tokens * width + 2 * tokens * width * hidden
    return Operations(_ends(shape) + shape.depth * block)


def _ends(shape: "Architecture") -> float:
    """MACs of tokenizer, skip and read-out."""
    inside = shape.tokens * shape.width
    return float(shape.embedding_size * (inside + shape.classes) + inside * shape.classes)


def linear(shape: "Architecture") -> Operations:
    """Logistic regression on the embedding."""
    return Operations(float(shape.embedding_size * shape.classes))


def scgpt(shape: ScGPTShape, tokens: float) -> Operations:
    """scGPT's own pass over a cell of so many tokens (genes and ``<cls>``): the value encoder and all layers.

    Attention grows with the square of the tokens: with the mean over cells this is a lower bound of the mean cost.
    """
    layer = tokens * (4 * shape.width**2 + 2 * shape.width * shape.hidden) + 2 * tokens**2 * shape.width
    return Operations(tokens * (shape.width + shape.width**2) + shape.layers * layer)


def scgpt_shape(configuration: Path) -> ScGPTShape:
    """The shape of a checkpoint that was used before, from its args.json or config.json alone."""
    config = json.loads(configuration.read_text(encoding="utf-8"))
    return ScGPTShape(int(config["nlayers"]), int(config["embsize"]), int(config["d_hid"]))


def of_sample(shape: "Architecture", rates: dict[str, float], checkpoint: ScGPTShape) -> dict[str, Any]:
    """Entry ``energy`` of annotation.json: operations and microjoules of one cell, and scGPT's shape."""
    return {
        "basis": "theoretical: 4.6 pJ per MAC, 0.9 pJ per AC (45 nm, Horowitz 2014); without memory",
        "spiking": spiking(shape, rates).as_dict(),
        "transformer": transformer(shape).as_dict(),
        "linear": linear(shape).as_dict(),
        "scgpt": asdict(checkpoint),
    }
