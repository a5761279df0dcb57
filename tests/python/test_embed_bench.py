"""What the benchmarks of the embedding rest on: resampled cells, costs of a command, the section of the page."""

import json
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))

from library.measure import measured, store  # noqa: E402
from sections.embed import render  # noqa: E402
from spikgpt.scgpt.embed import CountsFile  # noqa: E402


def test_resampled_cells_are_thinned_real_ones(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    counts = random.poisson(random.gamma(0.3, 10, size=(1, 50)), size=(30, 50)).astype(np.float32)
    counts[0] = 0
    ad.AnnData(sparse.csr_matrix(counts)).write_h5ad(tmp_path / "cells.h5ad")
    command = [sys.executable, BENCH / "resample.py", "--cells", tmp_path / "cells.h5ad", "--number", "45000"]
    made = {}
    for name in ("a", "b"):
        subprocess.run([*command, "--depth", "40", "--out", tmp_path / f"{name}.h5ad"], check=True)
        made[name] = ad.read_h5ad(tmp_path / f"{name}.h5ad")
    drawn = made["a"].layers["counts"]
    assert drawn.shape == (45_000, 50)
    assert made["a"].obs_names.is_unique
    # thinned to the depth on average, and no gene that no cell has
    assert 35 < drawn.sum(axis=1).mean() < 41
    assert not drawn.sum(axis=0)[:, counts.sum(axis=0) == 0].any()
    assert (drawn != made["b"].layers["counts"]).nnz == 0
    # what the embedding reads
    rows, barcodes = CountsFile(tmp_path / "a.h5ad").rows(39_990, 40_010)
    assert (rows != drawn[39_990:40_010]).nnz == 0
    assert barcodes == list(made["a"].obs_names[39_990:40_010])


def test_costs_of_a_command() -> None:
    cost = measured([sys.executable, "-c", "x = bytearray(300 << 20); print('done')"])
    assert cost["output"] == "done\n"
    assert 300 <= cost["peak_rss_mib"] < 600
    assert 0 < cost["cpu_s"] < 60
    with pytest.raises(subprocess.CalledProcessError):
        measured([sys.executable, "-c", "raise SystemExit(3)"])


def test_parts_of_the_results_are_kept_beside_each_other(tmp_path: Path) -> None:
    store(tmp_path / "new" / "embed.json", "size", {"runs": []})
    store(tmp_path / "new" / "embed.json", "bins", {"results": [1]})
    store(tmp_path / "new" / "embed.json", "size", {"runs": [2]})
    assert json.loads((tmp_path / "new" / "embed.json").read_text()) == {
        "size": {"runs": [2]}, "bins": {"results": [1]},
    }  # fmt: skip


def test_section_says_what_was_reached_and_what_was_missed() -> None:
    machine = {"cpu": "a CPU", "cores": 2, "instructions": ["avx2"], "memory_gib": 8.0, "torch": "2.13.0"}
    base = {"checkpoint": "full", "token_budget": None, "cells": 4, "largest_difference_to_fp32": None}
    package = {
        "machine": machine, "cores_used": 1,
        "results": [
            base | {"way": "package", "cells_per_core_second": 0.5, "peak_rss_mib": 9000},
            base | {"way": "fp32", "cells_per_core_second": 1.5, "peak_rss_mib": 1200, "speed_ratio": 3.0,
                    "memory_ratio": 0.13},
            base | {"way": "bf16", "cells_per_core_second": 1.9, "peak_rss_mib": 1200, "speed_ratio": 3.8,
                    "memory_ratio": 0.13, "largest_difference_to_fp32": 6e-4},
        ],
    }  # fmt: skip
    run = {"tokens_mean": 190.2, "peak_rss_mib": 800, "file_mib": 10}
    runs = [run | {"cells": 10_000, "cpu_ms_per_cell": 2.0}, run | {"cells": 100_000, "cpu_ms_per_cell": 2.3}]
    text = render({"package": package, "size": {"machine": machine, "depth": 500, "runs": runs}})
    assert "| full, fp32: times `embed_data`'s speed | at least 2.5 | 3.0 | yes |" in text
    assert "| full, bf16: times `embed_data`'s speed | at least 4.0 | 3.8 | **no** |" in text
    assert "| dearest over cheapest cell, less 1 | at most 10% | 15% | **no** |" in text
    assert "| 100,000 | 190 | 2.30 | 800 | 10 |" in text
    assert "Bins of tied counts" not in text
