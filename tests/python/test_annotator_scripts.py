"""train_annotator.py and annotate.py as the pipeline calls them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from annotator_cells import TYPES, made_cells, written

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "assets" / "scgpt-mini"


@pytest.mark.skipif(not MINI.is_dir(), reason="no bundled scGPT checkpoint")
def test_train_then_annotate(script, tmp_path: Path) -> None:
    reference, parts = written(tmp_path, *made_cells(dict.fromkeys(TYPES, 60), seed=3, name="r"), "reference")
    run = script("train_annotator.py", "--reference", reference, "--embedding", *reversed(parts), "--scgpt-model", MINI)
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in (tmp_path / "annotator").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert "SpikGPT" in (tmp_path / "benchmark.tsv").read_text()
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
    ]
    figures = json.loads((tmp_path / "s1.annotation.json").read_text())
    assert figures["sample"] == "s1"
    assert figures["cells"] == 120

    np.save(tmp_path / "short.npy", np.zeros((3, 16), dtype=np.float32))
    run = script("annotate.py", *options, "--embedding", "short.npy")
    assert run.returncode == 65
    assert "another number of cells" in run.stderr
