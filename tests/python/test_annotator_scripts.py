"""train_annotator.py and annotate.py as the pipeline calls them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from annotator_cells import TYPES, made_cells, written

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "assets" / "scgpt-mini"
sys.path[:0] = [str(ROOT / "tools" / "reliability")]

import faults  # noqa: E402


@pytest.mark.skipif(not MINI.is_dir(), reason="no bundled scGPT checkpoint")
def test_train_then_annotate(script, tmp_path: Path) -> None:
    data, embedding = made_cells(dict.fromkeys(TYPES, 60), seed=3, name="r")
    data.obs["cell_type_ontology_term_id"] = np.where(data.obs["cell_type"] == "B cell", "CL:0000236", "unknown")
    data.uns["messages"] = np.array(["Told by the import."], dtype=object)
    reference, parts = written(tmp_path, data, embedding, "reference")
    run = script("train_annotator.py", "--reference", reference, "--embedding", *reversed(parts), "--scgpt-model", MINI)
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in (tmp_path / "annotator").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert "SpikGPT" in (tmp_path / "benchmark.tsv").read_text()
    config = json.loads((tmp_path / "annotator" / "config.json").read_text())
    assert config["ontology"] == {"B cell": "CL:0000236"}
    assert config["warnings"][0] == "Told by the import."
    assert set(config["markers"]["types"]) == set(TYPES)
    assert config["depth"]["leak"]["leak"] < 0.4
    # the log says what would become of each type, were it missing
    for name in TYPES:
        said = rf"train_annotator: without {name}: \d+ % \(\d+ to \d+ %\) of \d+ cells Unknown"
        assert re.search(said, run.stderr)
    assert "warning: Told by the import." in run.stderr
    card = (tmp_path / "annotator" / "README.md").read_text()
    for part in (
        "Told by the import.",
        "| B cell | CL:0000236 | GENE",
        "| Unknown (95 % interval) |",
        "Depth alone names the type",
    ):
        assert part in card, part
    sample, parts = written(tmp_path, *made_cells(dict.fromkeys(TYPES, 40), seed=4, name="q"), "s1")
    options = ["--sample", "s1", "--h5ad", sample, "--annotator", "annotator", "--scgpt-model", MINI]
    run = script("annotate.py", *options, "--embedding", *parts)
    assert run.returncode == 0, run.stderr
    table = pd.read_parquet(tmp_path / "s1.annotation.parquet")
    assert list(table.columns) == [
        "barcode",
        "spikgpt_cell_type",
        "spikgpt_best_match",
        "spikgpt_confidence",
        "spikgpt_p_value",
        "spikgpt_unknown_reason",
        "spikgpt_runner_up",
        "cell_type_ontology_term_id",
        "spikgpt_level_cell_type",
        "spikgpt_level_term_id",
        "spikgpt_level",
        "spikgpt_label_set",
        "spikgpt_agreement",
        "spikgpt_judge_embedding",
        "spikgpt_judge_expression",
        "spikgpt_judge_regression",
        "spikgpt_judge_celltypist",
    ]
    called_b = table["spikgpt_cell_type"] == "B cell"
    assert (table["cell_type_ontology_term_id"] == np.where(called_b, "CL:0000236", "unknown")).all()
    figures = json.loads((tmp_path / "s1.annotation.json").read_text())
    assert figures["sample"] == "s1"
    assert figures["cells"] == 120
    energy = figures["energy"]
    assert energy["basis"].startswith("theoretical")
    assert 0 < energy["spiking"]["microjoules"] < energy["transformer"]["microjoules"]
    assert energy["scgpt"]["layers"] == json.loads((MINI / "args.json").read_text())["nlayers"]

    np.save(tmp_path / "s1.000000000.embedding.npy", np.zeros((3, 16), dtype=np.float32))
    run = script("annotate.py", *options, "--embedding", "s1.000000000.embedding.npy")
    assert run.returncode == 65
    assert "The embedding is not that of the cells." in run.stderr
    run = script("annotate.py", *options, "--embedding", *parts[1:])  # a gap
    assert run.returncode == 65
    assert "begins at cell 60, expected 0" in run.stderr


def workers(folder: Path) -> list[int]:
    """The processes that train below a task in `folder`; the oldest of their kind is the server that forks them."""
    return sorted(
        number
        for number, (words, place) in faults.processes().items()
        if place == folder and "multiprocessing.forkserver" in words
    )[1:]


@pytest.mark.skipif(not MINI.is_dir(), reason="no bundled scGPT checkpoint")
@pytest.mark.parametrize("killed", ["the task", "a worker"])
def test_a_kill_while_training_leaves_no_process_and_no_half_annotator(killed: str, tmp_path: Path) -> None:
    reference, parts = written(tmp_path, *made_cells(dict.fromkeys(TYPES, 60), seed=3, name="r"), "reference")
    files = ["--reference", reference, "--embedding", *parts, "--scgpt-model", MINI]
    task = subprocess.Popen(
        ["train_annotator.py", *files, "--threads", "2"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        while len(found := workers(tmp_path)) < 2:
            assert task.poll() is None, task.communicate()
            time.sleep(0.01)
        # they train for seconds; while it still starts them, Python's own executor can miss that one is gone
        time.sleep(1)
        os.kill(task.pid if killed == "the task" else found[0], signal.SIGKILL)
        # returns once no process is left that could still write
        _out, told = task.communicate(timeout=60)
    finally:
        if workers(tmp_path) or task.poll() is None:
            os.killpg(task.pid, signal.SIGKILL)
    if killed == "a worker":
        # as where the task itself is killed: tried again with more memory
        assert task.returncode == 137
        assert "out of memory: a worker process was killed" in told
        assert "Traceback" not in told
    assert not (tmp_path / "annotator").exists()
