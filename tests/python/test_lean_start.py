"""What a script must not load to start: it is paid for with every sample."""

import json
import subprocess
import sys

import pytest
from conftest import BIN

NEURON = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from spikgpt.cli import without_triton
if sys.argv[2] == "without":
    without_triton()
import torch
from spikgpt.annotator.network import lif
torch.manual_seed(0)
with torch.inference_mode():
    spikes = lif()(3 * torch.randn(2, 50, 8, 16))
loaded = [name for name in ("triton", "torch._inductor", "torch._dynamo") if sys.modules.get(name)]
print(json.dumps({"loaded": loaded, "spikes": hashlib.sha256(spikes.numpy().tobytes()).hexdigest()}))
"""


@pytest.fixture(scope="module")
def neurons() -> dict[str, tuple[dict, str]]:
    found = {}
    for how in ("with", "without"):
        done = subprocess.run(
            [sys.executable, "-c", NEURON, str(BIN), how], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found[how] = json.loads(done.stdout), done.stderr
    return found


def test_neurons_spike_without_the_compiler(neurons):
    (plain, _), (lean, said) = neurons["with"], neurons["without"]
    # the premise: a neuron loads it
    assert "torch._inductor" in plain["loaded"]
    assert lean["loaded"] == []
    assert lean["spikes"] == plain["spikes"]
    assert "Triton" not in said


def test_annotation_does_without_it():
    assert "    without_triton()\n" in (BIN / "annotate.py").read_text(encoding="utf-8")


GRAPH = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from spikgpt.base.threads import pin_process
from spikgpt.cli import without_pynndescent
pin_process()
if sys.argv[2] == "without":
    without_pynndescent()
import numpy as np
from spikgpt.cohort.clusters import cluster_embedding
draw = np.random.default_rng(0)
z = (draw.normal(size=(300, 8)) + draw.integers(0, 4, (300, 1)) * 3).astype(np.float32)
found = cluster_embedding(z, resolution=1.0, seed=0)
places = hashlib.sha256(found.umap.tobytes()).hexdigest()
print(json.dumps({"loaded": "pynndescent" in sys.modules, "clusters": list(found.clusters), "places": places}))
"""


def test_clusters_and_map_are_the_same_without_pynndescent():
    with_it, lean = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", GRAPH, str(BIN), how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("with", "without")
    )
    # the premise: scanpy's map loads it
    assert with_it.pop("loaded")
    assert not lean.pop("loaded")
    assert lean == with_it
    assert "    without_pynndescent()\n" in (BIN / "cluster_cohort.py").read_text(encoding="utf-8")


CHOOSES = """
import json, sys
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = json.loads(sys.argv[2])
import runpy
runpy.run_path(sys.argv[0] if sys.argv[0] != "-c" else sys.argv.pop(1), run_name="__main__")
print(json.dumps([name for name in ("torch", "pandas", "scipy") if name in sys.modules]))
"""


def test_an_annotators_labels_are_chosen_without_reading_them(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"as they are")
    (tmp_path / "a.json").write_text(json.dumps({
        "cells": 1, "unknown": 0, "median_confidence": 1, "not_calibrated": [], "sample": "s"}))  # fmt: skip
    (tmp_path / "o.json").write_text(json.dumps({"looks_like_blood": True}))
    words = [
        str(BIN / "choose_labels.py"), "--sample", "s", "--rule", "unless_blood", "--annotation", "a.parquet",
        "--stats", "a.json", "--name", "pbmc", "--second-opinion", "o.parquet", "--second-opinion-stats", "o.json",
        "--profiles", "none", "--scgpt-model", "none",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CHOOSES, str(BIN), json.dumps(words)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert (tmp_path / "s.annotation.parquet").read_bytes() == b"as they are"
    assert json.loads((tmp_path / "s.annotation.json").read_text())["annotators"][0]["gives_labels"]
