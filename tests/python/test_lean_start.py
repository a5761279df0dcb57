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
