"""Every variant of the embedding view that bench/attention.py measures: how it is trained, asked, and what it costs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from library.attention_inputs import Floats, Floats32, Keys, Prepared, episodes, prototypes, with_neighbours
from library.attention_networks import (
    ABSENT,
    CODE,
    CodeAlone,
    Retrieval,
    TokenNetwork,
    default_without_spikes,
    retrieved,
    train_episodes,
)
from spikgpt.annotator.energy import Operations, spiking
from spikgpt.annotator.network import (
    Architecture,
    Recipe,
    SpikingTransformer,
    counted_spikes,
    deterministic,
    firing_rates,
    log_probabilities,
    train,
)
from spikgpt.annotator.probabilities import log_softmax

RECIPE = Recipe(min_steps=100, max_steps=100, batch_size=64)
"""A shorter training than the product's, the same for every network: the bench trains several hundred."""
WIDTH = 32
"""Of tokens that are given; the default's 64 where there is one embedding to make tokens of."""

Setting = tuple[int, ...]
Network = Callable[[Architecture], torch.nn.Module]


@dataclass
class Fitted:
    """Log-probabilities ``(cells, classes)`` of held-out cells and query; CPU seconds; operations of one cell.

    ``network`` and ``keys``: of retrieval alone.
    """

    held: Floats
    query: Floats
    train_seconds: float
    annotate_seconds: float
    operations: Operations
    network: Retrieval | None = None
    keys: Keys | None = None


@dataclass(frozen=True)
class Variant:
    """``settings`` among which the other pairs choose; ``without``: the variants that lack what this one has;
    ``left_out``: whether it is also measured with types left out."""

    kind: str
    fit: Callable[[Prepared, Setting, int], Fitted]
    settings: tuple[Setting, ...] = ((),)
    without: tuple[str, ...] = ()
    left_out: bool = True


def tokens_of(prepared: Prepared, kind: str, setting: Setting, part: str) -> tuple[Floats32, int]:
    """Input ``(cells, tokens * width)`` of a part, and the number of tokens that are given."""
    own = prepared.cls[part]
    if kind == "neighbours":
        return with_neighbours(own, prepared.batches[part], setting[0]), 1 + setting[0]
    if kind == "genes":
        return np.hstack([own, prepared.modules[part]]), 1 + len(prepared.classes)
    return own, 1


def by_steps(
    prepared: Prepared, setting: Setting, seed: int, *, kind: str, network: Network, scale: float = 1.0, depth: int = 1,
    cost: Callable[[Architecture, dict[str, float]], Operations],
) -> Fitted:  # fmt: skip
    """Trained as the annotator trains its network."""
    start = time.process_time()
    cells, tokens = tokens_of(prepared, kind, setting, "train")
    given = {} if tokens == 1 else {"tokens": tokens, "width": WIDTH}
    shape = Architecture(
        prepared.cls["train"].shape[1], len(prepared.classes), depth=depth, attention_scale=scale, **given
    )
    trained = train(cells, prepared.codes["train"], shape, RECIPE, seed, network)
    trained_at = time.process_time()
    with counted_spikes(trained) as counts:
        query = log_probabilities(trained, tokens_of(prepared, kind, setting, "query")[0])
    done = time.process_time()
    held = log_probabilities(trained, tokens_of(prepared, kind, setting, "held")[0])
    return Fitted(held, query, trained_at - start, done - trained_at, cost(shape, firing_rates(counts)))


def by_episodes(prepared: Prepared, setting: Setting, seed: int, *, kind: str) -> Fitted:
    """Trained on keys of other batches; asked with the keys of all training cells."""
    per_type, skip = setting
    start = time.process_time()
    cells, codes, batches = prepared.cls["train"], prepared.codes["train"], prepared.batches["train"]
    classes = len(prepared.classes)
    sets = episodes(cells, codes, batches, per_type)
    network = train_episodes(cells, codes, sets, kind, bool(skip), classes, RECIPE, seed)
    keys = Keys(*prototypes(cells, codes, batches, per_type), np.arange(len(cells)))
    trained_at = time.process_time()
    with counted_spikes(network) as counts:
        query = retrieved(network, prepared.cls["query"], keys, classes)
    done = time.process_time()
    held = retrieved(network, prepared.cls["held"], keys, classes)
    rate = firing_rates(counts).get("code_lif", 0.0)
    ends = cells.shape[1] * (CODE + skip * classes)
    work = {
        "popcount": Operations(ends, rate * CODE * classes),
        "popcount, softmax": Operations(ends, (rate * CODE + 1) * len(keys.codes)),
        "cosine, softmax": Operations(ends + (CODE + 1) * len(keys.codes)),
        "mean": Operations(ends + CODE * classes),
    }[kind]
    return Fitted(held, query, trained_at - start, done - trained_at, work, network, keys)


# --- operations of one cell, as `spikgpt.annotator.energy` counts them ---------------------------------


def of_default(shape: Architecture, rates: dict[str, float], attention: bool = True) -> Operations:
    """The annotator's network; without attention its projections are not counted."""
    names = [f"blocks.{number}." for number in range(shape.depth)]
    silent = {} if attention else {name + part: 0.0 for name in names for part in ATTENTION_NEURONS}
    return spiking(shape, rates | silent)


ATTENTION_NEURONS = ("attention_in", "attention.qkv_lif", "attention.attention_lif")


def of_tokens(
    shape: Architecture, rates: dict[str, float], ordered: bool, mixing: str = "attention", spikes: bool = True
) -> Operations:
    """`TokenNetwork`: as the default, though neighbours are read out at the cell's own token alone."""
    tokens, width, hidden = shape.tokens, shape.width, shape.width * shape.mlp_ratio
    read_out = (tokens if ordered else 1) * width * shape.classes
    ends = shape.embedding_size * (tokens * width + shape.classes) + read_out
    if not spikes:
        block = tokens * width * (4 * width + 2 * width // shape.heads + 2 * hidden)
        return Operations(ends + block)
    if mixing == "mean":  # values are added up; their mean is no spike, and is projected once
        mlp = of_default(shape, rates | {"blocks.0." + part: 0.0 for part in ATTENTION_NEURONS}).acs
        own = rates["blocks.0.attention_in"] * width + rates["blocks.0.attention.value_lif"]
        return Operations(ends + width * width, mlp + tokens * width * own)
    return Operations(ends, of_default(shape, rates, mixing == "attention").acs)


def of_default_without_spikes(shape: Architecture, rates: dict[str, float]) -> Operations:
    return of_tokens(shape, rates, ordered=True, spikes=False)


def of_code(shape: Architecture, rates: dict[str, float], spikes: bool, skip: bool) -> Operations:
    """`CodeAlone`."""
    ends, read_out = shape.embedding_size * (CODE + skip * shape.classes), CODE * shape.classes
    return Operations(ends, rates["code_lif"] * read_out) if spikes else Operations(ends + read_out)


# --- the variants -------------------------------------------------------------------------------------


def code_alone(prepared: Prepared, setting: Setting, seed: int, *, spikes: bool) -> Fitted:
    """Retrieval's encoder without keys; ``setting``: whether there is a skip."""
    skip = bool(setting[0])
    return by_steps(
        prepared, setting, seed, kind="cell", network=partial(CodeAlone, spikes=spikes, skip=skip),
        cost=partial(of_code, spikes=spikes, skip=skip),
    )  # fmt: skip


def on_tokens(kind: str, scale: float = 1.0, mean: bool = False, spikes: bool = True) -> Callable[..., Fitted]:
    ordered = kind == "genes"
    mixing = "mean" if mean else "attention" if scale else "none"
    return partial(
        by_steps,
        kind=kind,
        network=partial(TokenNetwork, ordered=ordered, mean=mean, spikes=spikes),
        scale=scale,
        cost=partial(of_tokens, ordered=ordered, mixing=mixing, spikes=spikes),
    )


def on_cell(
    network: Network = SpikingTransformer, cost: Callable[..., Operations] = of_default, **how: float
) -> Callable[..., Fitted]:
    return partial(by_steps, kind="cell", network=network, cost=cost, **how)


KEYS = ((3, 1), (10, 1), (10, 0))
"""Prototypes of a type in a batch, and whether a linear skip stands beside them."""
SKIPS = ((1,), (0,))
NEIGHBOURS = ((5,), (15,))
DEFAULT = "default"
NO_KEYS, MEAN_KEY = "retrieval: the same code, a learned read-out", "retrieval: mean prototype"
NO_GENES, NO_MIX, MEAN_MIX = "genes: no attention", "neighbours: none", "neighbours: their mean"
VARIANTS: dict[str, Variant] = {
    DEFAULT: Variant("cell", on_cell(), without=("default, no attention",)),
    "default, no attention": Variant(
        "cell", on_cell(cost=partial(of_default, attention=False), scale=0.0), left_out=False
    ),
    "default, no spikes": Variant("cell", on_cell(default_without_spikes, of_default_without_spikes), left_out=False),
    "default, no block": Variant("cell", on_cell(depth=0)),
    "retrieval: popcount": Variant("retrieval", partial(by_episodes, kind="popcount"), KEYS, (NO_KEYS, MEAN_KEY)),
    "retrieval: popcount, softmax": Variant(
        "retrieval", partial(by_episodes, kind="popcount, softmax"), KEYS, (NO_KEYS, MEAN_KEY)
    ),
    "retrieval: cosine, softmax": Variant(
        "retrieval", partial(by_episodes, kind="cosine, softmax"), KEYS, (NO_KEYS, MEAN_KEY)
    ),
    MEAN_KEY: Variant("retrieval", partial(by_episodes, kind="mean"), ((3, 1), (3, 0))),
    NO_KEYS: Variant("retrieval", partial(code_alone, spikes=True), SKIPS),
    "retrieval: the same code without spikes, a learned read-out": Variant(
        "retrieval", partial(code_alone, spikes=False), SKIPS
    ),
    "genes: attention": Variant("genes", on_tokens("genes"), without=(NO_GENES,)),
    NO_GENES: Variant("genes", on_tokens("genes", scale=0.0)),
    "genes: attention, no spikes": Variant(
        "genes", on_tokens("genes", spikes=False), without=(NO_GENES,), left_out=False
    ),
    "neighbours: attention": Variant("neighbours", on_tokens("neighbours"), NEIGHBOURS, (NO_MIX, MEAN_MIX)),
    NO_MIX: Variant("neighbours", on_tokens("neighbours", scale=0.0), ((5,),)),
    MEAN_MIX: Variant("neighbours", on_tokens("neighbours", mean=True), NEIGHBOURS),
    "neighbours: attention, no spikes": Variant(
        "neighbours", on_tokens("neighbours", spikes=False), ((5,),), (NO_MIX, MEAN_MIX), left_out=False
    ),
}
"""By the names that the tables give them."""


# --- what an answer hangs on --------------------------------------------------------------------------


def deletion(fitted: Fitted, cells: Floats32, classes: int, seed: int) -> dict[str, float]:
    """What removing keys does to the answers of retrieval: half as many keys as the called type has.

    Those with the largest scores, as many at random, and as many at random of the called type. Mean fall of the called
    type's log-probability and share of cells called another type; cells whose type has at least two keys.
    """
    network, keys = fitted.network, fitted.keys
    assert network is not None
    assert keys is not None
    with torch.inference_mode(), deterministic(0):
        query = torch.from_numpy(cells)
        scores = network.looked_at(query, torch.from_numpy(keys.cells)).double().numpy()  # (cells, keys)
        skip = 0.0 if network.skip is None else network.skip(query).double().numpy()
    hot = np.eye(classes)[keys.codes]  # (keys, classes)

    def answers(kept: np.ndarray) -> Floats:
        number = kept @ hot  # (cells, classes)
        if network.kind == "popcount":
            logits = (scores * kept) @ hot / np.maximum(number, 1)
        else:
            top = scores.max(1, keepdims=True)
            logits = top + np.log((np.exp(scores - top) * kept) @ hot / np.maximum(number, 1) + 1e-30)
        return log_softmax(np.where(number > 0, logits + skip, ABSENT))

    draw = np.random.default_rng(seed)
    whole = answers(np.ones_like(scores))
    called = whole.argmax(1)
    of_type = keys.codes[None] == called[:, None]  # (cells, keys)
    remove = of_type.sum(1) // 2
    some = remove > 0
    chance = draw.random(scores.shape)
    out = {}
    for name, order in (
        ("most", -scores), ("random", chance), ("random_of_type", np.where(of_type, chance, 2.0)),
    ):  # fmt: skip
        rank = order.argsort(1, kind="stable").argsort(1, kind="stable")
        changed = answers(rank >= remove[:, None])
        every = np.arange(len(called))
        out[f"fall_{name}"] = float((whole - changed)[every, called][some].mean())
        out[f"changed_{name}"] = float((changed.argmax(1) != called)[some].mean())
    return out
