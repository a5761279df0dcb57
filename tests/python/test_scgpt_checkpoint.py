"""Reading scGPT checkpoints: layouts, spellings, and everything that must be refused."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from spikgpt.base.errors import UserError
from spikgpt.scgpt.checkpoint import read_checkpoint
from spikgpt.scgpt.checkpoint_files import checkpoint_sha256
from spikgpt.scgpt.model import ScGPT

GENES = ["A", "B", "C", "D", "E", "F", "G"]
VOCABULARY = {token: i for i, token in enumerate([*GENES, "<pad>", "<cls>", "<eoc>"])}
SETTINGS = {"embsize": 16, "nheads": 4, "d_hid": 24, "nlayers": 2, "n_layers_cls": 3, "dropout": 0.2,
            "pad_token": "<pad>", "pad_value": -2}  # fmt: skip


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return ScGPT(len(VOCABULARY), 16, 4, 24, 2).state_dict()


def write(folder: Path, state: dict, settings: dict = SETTINGS, vocabulary: dict = VOCABULARY) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "args.json").write_text(json.dumps(settings))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    torch.save(state, folder / "best_model.pt")
    return folder


def cls(folder: Path) -> torch.Tensor:
    tokens, values = torch.tensor([[8, 0, 3, 5]]), torch.tensor([[-2.0, 1, 20, 50]])
    with torch.inference_mode():
        return read_checkpoint(folder).model(tokens, values)


def renamed(state: dict, old: str, new: str) -> dict:
    return {key.replace(old, new): value for key, value in state.items()}


def test_layouts_and_spellings_give_equal_outputs(tmp_path: Path) -> None:
    state = weights()
    expected = cls(write(tmp_path / "plain", state))
    flash = renamed(state, "self_attn.in_proj_", "self_attn.Wqkv.")
    wrapped = renamed(flash, "self_attn.", "self_attn._impl.")
    heads = {"decoder.fc.0.weight": torch.zeros(3), "cls_decoder.out_layer.bias": torch.zeros(1),
             "mvc_decoder.W.weight": torch.zeros(2), "flag_encoder.weight": torch.zeros(2, 16)}  # fmt: skip
    for name, variant in {
        "flash": flash,
        "wrapped": wrapped,
        "parallel": {f"module.{key}": value for key, value in wrapped.items()},
        "heads": state | heads,
    }.items():
        assert torch.equal(cls(write(tmp_path / name, variant)), expected), name

    other = tmp_path / "safetensors"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({**SETTINGS, "name": "other"}))
    (other / "vocab.json").write_text(json.dumps(VOCABULARY))
    save_file(flash, other / "model.safetensors")
    assert torch.equal(cls(other), expected)
    read = read_checkpoint(other)
    assert (read.name, read.bundled, read.n_bins, read.pad_value, read.cls_token) == ("other", False, 51, -2.0, 8)


def test_missing_extra_and_misshapen_weights_are_all_listed(tmp_path: Path) -> None:
    state = weights()
    del state["value_encoder.norm.bias"]
    state["batch_encoder.embedding.weight"] = torch.zeros(3, 16)
    state["transformer_encoder.layers.1.linear1.weight"] = torch.zeros(16, 24)
    state["encoder.enc_norm.bias"] = torch.full((16,), torch.nan)
    with pytest.raises(UserError) as error:
        read_checkpoint(write(tmp_path / "c", state))
    for part in (
        "4 parameters", "value_encoder.norm.bias (16,) is missing",
        "batch_encoder.embedding.weight (3, 16) is not known",
        "layers.1.linear1.weight is (16, 24), not (24, 16)", "encoder.enc_norm.bias",
    ):  # fmt: skip
        assert part in str(error.value)


def test_one_parameter_under_two_spellings(tmp_path: Path) -> None:
    state = weights()
    key = "transformer_encoder.layers.0.self_attn.in_proj_bias"
    state[key.replace("in_proj_", "Wqkv.")] = state[key]
    with pytest.raises(UserError, match=r"two names(.|\n)*layers\.0\.self_attn\.in_proj_bias"):
        read_checkpoint(write(tmp_path / "c", state))


def test_vocabulary_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is \(10, 16\), not \(11, 16\) \(the vocabulary has 11 tokens\)"):
        read_checkpoint(write(tmp_path / "c", weights(), vocabulary=VOCABULARY | {"H": 10}))


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({**VOCABULARY, "<eoc>": 12}, "no token for id 9"),
        ({**VOCABULARY, "<eoc>": 0}, "no token for id 9"),
        ({**VOCABULARY, "A": "0"}, "ids that are not whole numbers, such as '0'"),
        ({"A": 0, "<pad>": 1}, "lacks the token <cls>"),
        ({}, "no token for id 0"),
    ],
)
def test_broken_vocabularies(tmp_path: Path, vocabulary: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_checkpoint(write(tmp_path / "c", weights(), vocabulary=vocabulary))


class Trap:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_does_not_run(tmp_path: Path, zipped: bool) -> None:
    folder = write(tmp_path / "c", weights())
    witness = tmp_path / "ran"
    if zipped:
        torch.save({"encoder.embedding.weight": Trap(witness)}, folder / "best_model.pt")
    else:
        (folder / "best_model.pt").write_bytes(pickle.dumps(Trap(witness)))
    with pytest.raises(UserError, match="no code"):
        read_checkpoint(folder)
    assert not witness.exists()


@pytest.mark.parametrize("name", ["best_model.pt", "model.safetensors"])
@pytest.mark.parametrize("kept", [0, 0.01, 0.5, 0.99])
def test_truncated_weights(tmp_path: Path, name: str, kept: float) -> None:
    folder = write(tmp_path / "c", weights())
    if name == "model.safetensors":
        (folder / "best_model.pt").unlink()
        (folder / "args.json").rename(folder / "config.json")
        save_file(weights(), folder / name)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(folder)


@pytest.mark.parametrize("state", [{"model": weights(), "epoch": 3}, [torch.zeros(2)]])
def test_not_a_state_dict(tmp_path: Path, state: object) -> None:
    with pytest.raises(UserError, match="not a plain state dict"):
        read_checkpoint(write(tmp_path / "c", state))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embsize": None}, "does not say its embsize"),
        ({"nheads": 5}, "embsize(.|\n)*multiple of nheads"),
        ({"input_emb_style": "category"}, "input_emb_style(.|\n)*continuous"),
        ({"pre_norm": True}, "pre_norm"),
        ({"n_bins": 2}, "n_bins(.|\n)*at least 3"),
    ],
)
def test_settings_that_cannot_be_followed(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_checkpoint(write(tmp_path / "c", weights(), settings=SETTINGS | change))


def test_incomplete_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_checkpoint(tmp_path / "nowhere")
    folder = write(tmp_path / "c", weights())
    (folder / "args.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_checkpoint(folder)
    (folder / "args.json").unlink()
    with pytest.raises(UserError, match=r"not complete(.|\n)*best_model\.pt, vocab\.json"):
        read_checkpoint(folder)


def test_sha256_is_of_the_three_files_alone(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", weights()), write(tmp_path / "two", weights())
    (two / "README.md").write_text("a model card")
    assert checkpoint_sha256(one) == checkpoint_sha256(two) == read_checkpoint(one).sha256
    (two / "args.json").write_text(json.dumps(SETTINGS | {"dropout": 0.1}))
    assert checkpoint_sha256(one) != checkpoint_sha256(two)
