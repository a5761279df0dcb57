"""Reading a scGPT checkpoint: both published layouts, every key and shape checked, no pickled code run."""

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from spikgpt.base.errors import UserError
from spikgpt.base.files import read_json_object
from spikgpt.scgpt.checkpoint_files import checkpoint_files, checkpoint_sha256
from spikgpt.scgpt.model import ScGPT

BUNDLED = "scgpt-mini"
"""The name that the args.json of the project's own small checkpoint carries."""
UNUSED_HEADS = ("decoder.", "cls_decoder.", "mvc_decoder.", "flag_encoder.")
"""Parts of scGPT that embedding never runs: they may be there or not."""
N_BINS, PAD_VALUE = 51, -2
"""What the published checkpoints have, and ``embed_data`` assumes, where the configuration is silent."""


@dataclass
class Checkpoint:
    """A checked checkpoint, ready to embed."""

    model: ScGPT
    vocabulary: dict[str, int]
    """Token to id; ids run from 0 without a gap."""
    cls_token: int
    pad_token: int
    pad_value: float
    n_bins: int
    width: int
    name: str
    bundled: bool
    """Whether this is the project's own scgpt-mini, which is not scGPT's published model."""
    sha256: str


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Read and check a checkpoint folder; the model is in evaluation mode, float32, on the CPU.

    Raises
    ------
    UserError
        A file is missing or broken, a setting is one that this model does not have, or weights are
        missing, extra or misshapen: the message lists them.
    """
    config_file, vocabulary_file, weights_file = checkpoint_files(folder)
    config = _read_json(config_file)
    width = _integer(config, config_file, "embsize")
    heads = _integer(config, config_file, "nheads", "nhead")
    hidden = _integer(config, config_file, "d_hid")
    layers = _integer(config, config_file, "nlayers")
    n_bins = _integer(config, config_file, "n_bins") if "n_bins" in config else N_BINS
    pad_value = config.get("pad_value", PAD_VALUE)
    for setting, wanted, given in (
        ("embsize", f"a multiple of nheads ({heads})", width if width % heads else None),
        ("n_bins", "at least 3", n_bins if n_bins < 3 else None),
        ("pad_value", "a number", None if isinstance(pad_value, (int, float)) else pad_value),
        ("input_emb_style", "continuous", _other_than(config, "input_emb_style", "continuous")),
        ("cell_emb_style", "cls", _other_than(config, "cell_emb_style", "cls")),
        ("norm_scheme", "post", _other_than(config, "norm_scheme", "post")),
        ("pre_norm", "false", _other_than(config, "pre_norm", False)),
    ):
        if given is not None:
            raise UserError(
                "The scGPT checkpoint has a setting that this pipeline cannot follow.",
                where=f"{config_file}, {setting}",
                found=json.dumps(given),
                expected=wanted,
                fix="Give a checkpoint of scGPT's published architecture.",
            )
    vocabulary = _read_vocabulary(vocabulary_file)
    pad = config.get("pad_token", "<pad>")
    for token in (pad, "<cls>"):
        if token not in vocabulary:
            raise UserError(
                f"The scGPT vocabulary lacks the token {token}.",
                where=str(vocabulary_file),
                found=f"{len(vocabulary)} other tokens",
                expected=f"{pad} and <cls> among them",
                fix="Give the vocab.json that belongs to these weights.",
            )
    # not on the meta device: filling a tensor there imports torch's compiler, which takes seconds
    model = ScGPT(len(vocabulary), width, heads, hidden, layers)
    weights = _fitting(_normalised(_read_weights(weights_file), weights_file), model, weights_file, len(vocabulary))
    model.load_state_dict(weights, strict=True, assign=True)
    model.requires_grad_(False).eval()
    name = str(config.get("name") or Path(folder).resolve().name)
    return Checkpoint(
        model=model,
        vocabulary=vocabulary,
        cls_token=vocabulary["<cls>"],
        pad_token=vocabulary[pad],
        pad_value=float(pad_value),
        n_bins=n_bins,
        width=width,
        name=name,
        bundled=name == BUNDLED,
        sha256=checkpoint_sha256(folder),
    )


def _read_json(path: Path) -> dict[str, Any]:
    return read_json_object(path, "A file of the scGPT checkpoint", fix="Copy the checkpoint again.")


def _integer(config: Mapping[str, Any], path: Path, *spellings: str) -> int:
    for key in spellings:
        value = config.get(key)
        if type(value) is int and value > 0:
            return value
    raise UserError(
        f"The scGPT checkpoint does not say its {spellings[0]}.",
        where=f"{path}, {' or '.join(spellings)}",
        found=json.dumps({key: config[key] for key in spellings if key in config}),
        expected="a whole number above 0",
        fix="Give the configuration that belongs to these weights.",
    )


def _other_than(config: Mapping[str, Any], key: str, wanted: object) -> Any:
    """The configuration's value when it has one that is not `wanted`."""
    value = config.get(key)
    return None if value == wanted else value


def _read_vocabulary(path: Path) -> dict[str, int]:
    vocabulary = _read_json(path)
    ids = list(vocabulary.values())
    if not all(type(i) is int for i in ids):
        found = f"ids that are not whole numbers, such as {next(i for i in ids if type(i) is not int)!r}"
    elif set(ids) != set(range(len(ids))) or not ids:
        absent = sorted(set(range(len(ids))) - set(ids))
        found = f"{len(ids)} tokens, and no token for id {', '.join(map(str, absent[:10])) or 0}"
    else:
        return vocabulary
    raise UserError(
        "The scGPT vocabulary has holes.",
        where=str(path),
        found=found,
        expected="token ids that run from 0 without a gap, each used once",
        fix="Give the vocab.json that belongs to these weights.",
    )


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    """The file's tensors by key; a pickle is read by torch's restricted reader alone."""
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        restricted = "weights_only" in str(error)
        reason = "an old or broken file, or a pickle of more than tensors" if restricted else str(error).split("\n")[0]
        raise UserError(
            "The scGPT weights cannot be read.",
            where=str(path),
            found=f"{path.stat().st_size} bytes; {reason}",
            expected="a state dict: tensors by name, and no code (a pickle with code in it is never run)",
            fix="Copy the file again, and compare its size or checksum with the source's.",
        ) from error
    if not isinstance(weights, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()
    ):
        found = "not a state dict"
        if isinstance(weights, Mapping):
            found = f"a dict of {', '.join(f'{k}: {type(v).__name__}' for k, v in list(weights.items())[:5])}"
        raise UserError(
            "The scGPT weights are not a plain state dict.",
            where=str(path),
            found=found,
            expected="tensors by name, as scGPT saves them",
            fix="Save model.state_dict() alone.",
        )
    return weights


def _normalised(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Keys in one spelling, without the heads that embedding does not use.

    ``module.`` comes from data-parallel training, ``Wqkv`` from flash attention (rows q, k, v, the
    same as torch's ``in_proj_``), ``_impl.`` from scGPT 0.2.5's wrapper around flash attention 2.
    """
    normal: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        key = re.sub(r"^(?:module\.)+", "", key)
        key = key.replace("self_attn._impl.", "self_attn.").replace("self_attn.Wqkv.", "self_attn.in_proj_")
        if key.startswith(UNUSED_HEADS):
            continue
        if key in normal:
            raise UserError(
                "The scGPT weights hold one parameter under two names.",
                where=str(path),
                found=key,
                expected="each parameter once",
                fix="Save the state dict of one model.",
            )
        normal[key] = tensor
    return normal


def _fitting(weights: dict[str, Tensor], model: ScGPT, path: Path, n_tokens: int) -> dict[str, Tensor]:
    """The weights as float32, when they are exactly those of the model."""
    wanted = {key: tuple(parameter.shape) for key, parameter in model.state_dict().items()}
    wrong = [f"{key} {wanted[key]} is missing" for key in wanted if key not in weights]
    wrong += [f"{key} {tuple(weights[key].shape)} is not known" for key in weights if key not in wanted]
    for key in wanted.keys() & weights.keys():
        tensor = weights[key]
        if tuple(tensor.shape) != wanted[key]:
            rows = f" (the vocabulary has {n_tokens} tokens)" if key == "encoder.embedding.weight" else ""
            wrong.append(f"{key} is {tuple(tensor.shape)}, not {wanted[key]}{rows}")
        elif not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            wrong.append(f"{key} ({tensor.dtype}) holds values that are no finite real numbers")
    if wrong:
        raise UserError(
            f"The scGPT weights do not fit their configuration: {len(wrong)} parameters are wrong.",
            where=str(path),
            found="\n             ".join(sorted(wrong)),
            expected="every parameter of the encoder once, in the shape that configuration and vocabulary give",
            fix="Give weights, configuration and vocabulary of one and the same checkpoint.",
        )
    # a copy of its own for each: safetensors gives views at odd addresses, and torch's kernels may
    # add in another order there, which changes the last digit
    return {
        key: tensor.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        for key, tensor in weights.items()
    }
