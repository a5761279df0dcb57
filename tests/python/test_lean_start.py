"""What a script must not load to start: it is paid for with every sample."""

import json
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from conftest import BIN, ROOT
from spikgpt.base.genes import haemoglobin_genes, immunoglobulin_genes, mitochondrial_genes, ribosomal_genes
from spikgpt.base.h5ad import stored
from spikgpt.quality_control.doublets import detect_doublets

NEURON = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from spikgpt.cli import without_meta_kernels, without_triton
if sys.argv[2] == "without":
    without_meta_kernels()
    without_triton()
import torch
from spikgpt.annotator.network import lif
from spikgpt.scgpt.model import ScGPT
def digest(tensor):
    return hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
torch.manual_seed(0)
with torch.inference_mode():
    spikes = lif()(3 * torch.randn(2, 50, 8, 16))
model, values = ScGPT(60, 16, 2, 32, 2), torch.arange(50.0)[None].requires_grad_()
cls = model(torch.arange(50)[None], values)
(slope,) = torch.autograd.grad(cls[0, 0], values)
heavy = ("triton", "torch._inductor", "torch._dynamo", "torch._refs")
loaded = [name for name in heavy if sys.modules.get(name)]
print(json.dumps({"loaded": loaded, "spikes": digest(spikes), "cls": digest(cls), "slope": digest(slope)}))
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
    assert {"torch._inductor", "torch._refs"} <= set(plain.pop("loaded"))
    assert lean.pop("loaded") == []
    assert lean == plain
    assert "Triton" not in said


def test_tasks_with_torch_do_without_it():
    for script in ("annotate.py", "explain_labels.py"):
        assert "    without_meta_kernels()\n    without_triton()\n" in (BIN / script).read_text(encoding="utf-8")
    assert "    without_meta_kernels()\n" in (BIN / "embed_scgpt.py").read_text(encoding="utf-8")


def test_a_script_ends_without_looking_for_garbage_and_runs_what_waits_for_its_end(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(BIN)!r})\n"
        "import atexit, gc\n"
        "from spikgpt.cli import launch\n"
        "atexit.register(lambda: print(len(gc.get_objects()) < 100, gc.get_freeze_count() > 1000))\n"
        "launch(lambda: print('done'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "done\nTrue True\n"


GRAPH = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from spikgpt.base.threads import pin_process
from spikgpt.cli import lean_scanpy, with_compiled_umap, without_pynndescent, without_scipy_stats, without_zarr
pin_process()
if sys.argv[2] == "without":
    without_zarr()
    without_scipy_stats()
    without_pynndescent()
    lean_scanpy("leiden", "umap")
    with_compiled_umap()
import numpy as np
from spikgpt.cohort.clusters import cluster_embedding
draw = np.random.default_rng(0)
z = (draw.normal(size=(300, 8)) + draw.integers(0, 4, (300, 1)) * 3).astype(np.float32)
found = cluster_embedding(z, resolution=1.0, seed=0)
places = hashlib.sha256(found.umap.tobytes()).hexdigest()
loaded = [name for name in ("pynndescent", "matplotlib", "zarr.core", "scipy.stats._stats_py") if sys.modules.get(name)]
print(json.dumps({"loaded": loaded, "clusters": list(found.clusters), "places": places}))
"""


def test_clusters_and_map_are_the_same_without_what_they_do_not_need():
    with_it, lean = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", GRAPH, str(BIN), how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("with", "without")
    )
    # the premise: scanpy and anndata load them
    assert with_it.pop("loaded") == ["pynndescent", "matplotlib", "zarr.core", "scipy.stats._stats_py"]
    assert lean.pop("loaded") == []
    assert lean == with_it
    script = (BIN / "cluster_cohort.py").read_text(encoding="utf-8")
    lean_start = (
        "    without_scipy_stats()\n    without_pynndescent()\n"
        '    lean_scanpy("leiden", "umap")\n    with_compiled_umap()\n'
    )
    assert lean_start in script


CHOOSES = """
import json, sys
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = json.loads(sys.argv[2])
import runpy
runpy.run_path(sys.argv[0] if sys.argv[0] != "-c" else sys.argv.pop(1), run_name="__main__")
print(json.dumps([name for name in HEAVY if sys.modules.get(name)]))
"""


def loaded_by(words: list[str], heavy: tuple[str, ...], cwd: Path) -> list[str]:
    """Which of these modules a script has loaded when it is done."""
    code = CHOOSES.replace("HEAVY", repr(heavy))
    done = subprocess.run(
        [sys.executable, "-c", code, str(BIN), json.dumps([str(BIN / words[0]), *words[1:]])],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_annotators_labels_are_chosen_without_reading_them(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"as they are")
    (tmp_path / "a.json").write_text(json.dumps({
        "cells": 1, "unknown": 0, "median_confidence": 1, "not_calibrated": [], "sample": "s"}))  # fmt: skip
    (tmp_path / "o.json").write_text(json.dumps({"looks_like_blood": True}))
    words = [
        "choose_labels.py", "--sample", "s", "--rule", "unless_blood", "--annotation", "a.parquet",
        "--stats", "a.json", "--name", "pbmc", "--second-opinion", "o.parquet", "--second-opinion-stats", "o.json",
        "--profiles", "none", "--scgpt-model", "none",
    ]  # fmt: skip
    assert loaded_by(words, ("torch", "pandas", "scipy"), tmp_path) == []
    assert (tmp_path / "s.annotation.parquet").read_bytes() == b"as they are"
    assert json.loads((tmp_path / "s.annotation.json").read_text())["annotators"][0]["gives_labels"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """200 cells of two kinds on the genes of the bundled annotator."""
    genes = json.loads((ROOT / "assets/annotators/pbmc/config.json").read_text(encoding="utf-8"))["genes"]
    draw = np.random.default_rng(0)
    rates = draw.gamma(0.3, 2.0, (2, len(genes))) * (draw.random((2, len(genes))) < 0.2)
    counts = sp.csr_matrix(draw.poisson(rates[np.arange(200) % 2]).astype(np.int32))
    cells = ad.AnnData(
        counts,
        obs=pd.DataFrame(index=pd.Index([f"cell{n}" for n in range(200)], name="barcode")),
        var=pd.DataFrame({"gene_id": [""] * len(genes)}, index=pd.Index(genes, name="gene")),
        layers={"counts": counts},
    )
    folder = tmp_path_factory.mktemp("lean")
    for name in ("s.h5ad", "s.removed.h5ad"):
        cells.write_h5ad(folder / name, convert_strings_to_categoricals=False)
    return folder


def test_the_type_of_removed_cells_is_told_without_the_network(sample):
    words = [
        "type_removed.py", "--h5ad", "s.removed.h5ad", "--annotator", str(ROOT / "assets/annotators/pbmc"),
        "--profiles", str(ROOT / "assets/cell_profiles"),
    ]  # fmt: skip
    heavy = ("torch", "sklearn", "scipy.stats", "numba", "matplotlib", "zarr.core")
    assert loaded_by(words, heavy, sample) == []
    assert (pd.read_parquet(sample / "removed_types.parquet")["nearest_type"] != "").all()


def test_the_second_opinion_loads_scikit_learn_alone(sample):
    words = ["second_opinion.py", "--sample", "s", "--h5ad", "s.h5ad", "--profiles", str(ROOT / "assets/cell_profiles")]
    heavy = ("torch", "numba", "scanpy", "matplotlib", "zarr.core", "scipy.stats._stats_py", "sklearn")
    assert loaded_by(words, heavy, sample) == ["sklearn"]


def test_cells_are_embedded_without_anndata_and_pandas(sample):
    words = [
        "embed_scgpt.py", "--sample", "s", "--h5ad", "s.h5ad", "--scgpt-model", str(ROOT / "assets/scgpt-mini"),
        "--start", "0", "--end", "20",
    ]  # fmt: skip
    heavy = ("anndata", "pandas", "sklearn", "torch._refs", "torch")
    assert loaded_by(words, heavy, sample) == ["torch"]


def test_quality_is_measured_without_scanpy_and_as_scanpy_does(sample):
    heavy = ("torch", "matplotlib", "zarr.core", "numba", "scanpy", "scipy.stats._stats_py", "sklearn")
    assert loaded_by(["qc_metrics.py", "--sample", "s", "--h5ad", "s.h5ad"], heavy, sample) == ["sklearn"]
    found = pd.read_parquet(sample / "s.qc.parquet")
    cells = ad.read_h5ad(sample / "s.h5ad")
    cells.X = cells.X.astype(np.float64)
    cells.var["mt"] = cells.var_names.str.startswith("MT-")
    whole, _ = sc.pp.calculate_qc_metrics(cells, qc_vars=["mt"], percent_top=None, log1p=False)
    for name in ("n_genes_by_counts", "total_counts", "pct_counts_mt"):
        assert (found[name].to_numpy() == whole[name].to_numpy().astype(found[name].dtype)).all(), name
    symbols = list(cells.var_names)
    families = (mitochondrial_genes, ribosomal_genes, haemoglobin_genes, immunoglobulin_genes)
    rest = ~np.logical_or.reduce([of(symbols) for of in families])
    others, _ = sc.pp.calculate_qc_metrics(cells[:, rest].copy(), percent_top=[20], log1p=False)
    top = others["pct_counts_in_top_20_genes"].to_numpy().astype(np.float32)
    assert (found["pct_counts_in_top_20_genes"].to_numpy() == top).all()


def test_doublets_are_the_same_by_the_lean_scanpy(sample):
    words = ["detect_doublets.py", "--sample", "s", "--h5ad", "s.h5ad", "--seed", "0"]
    assert loaded_by(words, ("torch", "matplotlib", "scipy.stats._stats_py", "scanpy"), sample) == ["scanpy"]
    with stored(sample / "s.h5ad") as cells:
        table, stats = detect_doublets(cells, 0)
    assert stats["run"]
    pd.testing.assert_frame_equal(pd.read_parquet(sample / "s.doublets.parquet"), table, check_exact=True)
