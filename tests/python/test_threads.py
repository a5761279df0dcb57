"""The same bytes whatever numbers of threads a shell, a scheduler or an earlier import has set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import BIN
from spikgpt.annotator.cells import in_turn, side_by_side, working_threads
from spikgpt.base.threads import VARIABLES, one_thread
from threadpoolctl import threadpool_info, threadpool_limits

HERE = Path(__file__).parent
SETTINGS = (*VARIABLES, "NUMBA_NUM_THREADS")


def environment(threads: int | None) -> dict[str, str]:
    """As `env -i` gives it, and a number of threads where one is given."""
    bare = {"PATH": os.defpath, "HOME": os.sep}
    return bare | (dict.fromkeys(SETTINGS, str(threads)) if threads else {})


def results(folder: Path, threads: int | None, *steps: str) -> dict[str, str]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, HERE / "one_result.py", folder, *steps],
        env=environment(threads),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_training_and_annotation_are_the_same_in_every_environment(tmp_path):
    found = {
        threads: results(tmp_path / str(threads), threads, "train_and_annotate", "mix") for threads in (None, 1, 2, 4)
    }
    assert len(found[None]) == 3
    assert all(result == found[None] for result in found.values()), found


def test_clusters_and_doublets_are_the_same_in_every_environment(tmp_path):
    found = {threads: results(tmp_path / str(threads), threads, "cluster", "doublets") for threads in (None, 1)}
    assert len(found[None]) == 3
    assert found[None] == found[1]


def numbers() -> set[int]:
    return {library["num_threads"] for library in threadpool_info()} | {torch.get_num_threads()}


def test_one_thread_while_a_function_runs_and_what_was_set_afterwards(monkeypatch):
    import numba

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    most = numba.get_num_threads()
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    @one_thread("numba")
    def inside() -> None:
        assert numbers() == {1}
        assert numba.get_num_threads() == 1
        assert [os.environ[name] for name in VARIABLES] == ["1", "1", "1"]
        raise KeyError("left by an error")

    try:
        with threadpool_limits(2):
            with pytest.raises(KeyError, match="left by an error"):
                inside()
            assert numbers() == {2}
    finally:
        torch.set_num_threads(before)
    assert numba.get_num_threads() == most
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_script_has_one_thread_whatever_was_loaded_before_it_starts(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(BIN)!r})\n"
        "import numba, numpy, sklearn.cluster, torch\n"
        "import json, os, subprocess\n"
        "from threadpoolctl import threadpool_info\n"
        "from spikgpt.cli import launch\n"
        "def counts():\n"
        "    of = [library['num_threads'] for library in threadpool_info()]\n"
        "    return [max(of), torch.get_num_threads(), numba.get_num_threads()]\n"
        "def main():\n"
        "    child = subprocess.check_output(['sh', '-c', 'echo $OMP_NUM_THREADS'])\n"
        "    print(json.dumps([before, counts(), int(child)]))\n"
        "before = counts()\n"
        "launch(main)\n"
    )
    done = subprocess.run(
        [sys.executable, script], env=environment(2), capture_output=True, text=True, check=True, cwd=tmp_path
    )
    before, inside, child = json.loads(done.stdout)
    assert before == [2, 2, 2]
    assert inside == [1, 1, 1]
    assert child == 1


def test_importing_the_package_changes_no_setting(tmp_path):
    told = (
        f"import os, sys; sys.path.insert(0, {str(BIN)!r}); before = dict(os.environ)\n"
        "import spikgpt.cli, spikgpt.annotator.train, spikgpt.scgpt.embed\n"
        "import torch; torch_threads = torch.get_num_threads()\n"
        "changed = {key for key in os.environ.keys() | before.keys() if os.environ.get(key) != before.get(key)}\n"
        "assert not {key for key in changed if key.endswith('_NUM_THREADS') or key.startswith('NUMBA')}, changed\n"
        "assert torch_threads == 2\n"
    )
    subprocess.run([sys.executable, "-c", told], env=environment(2), check=True, cwd=tmp_path)


def test_threads_that_share_blocks_compute_on_one_each():
    """OpenMP has a number for each thread, and a new thread starts with the environment's."""

    def count(_item: object = None) -> set[int]:
        return numbers()

    with threadpool_limits(2), one_thread(), working_threads(2):
        assert [*in_turn(count, range(4))] == [{1}] * 4
        assert side_by_side(count, count) == ({1}, {1})
