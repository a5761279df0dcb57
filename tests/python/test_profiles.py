"""Every profile comes to what it promises; none needs a plugin before it is used."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("nextflow") is None, reason="nextflow is not on PATH")

PROFILES = {
    "docker", "podman", "singularity", "apptainer", "local", "gpu", "slurm", "awsbatch", "googlebatch", "azurebatch",
    "kubernetes", "test", "test_full",
}  # fmt: skip
CONFIG = (ROOT / "nextflow.config").read_text(encoding="utf-8")
VERSION = re.search(r"version +=\s*'([^']+)'", CONFIG.split("manifest {")[1]).group(1)


def resolved(folder: Path, profiles: str, *params: str) -> tuple[dict, dict, dict]:
    """The configuration, what a plain task asks for, and what a task with the GPU's label asks for.

    Nothing leaves this machine: the tasks run here, where a profile would send them elsewhere.
    """
    here = folder / "here.config"
    here.write_text("process { executor = 'local'; container = null }\n")
    run = subprocess.run(
        ["nextflow", "run", ROOT / "tests/lib/profiles.nf", "-ansi-log", "false", "-c", ROOT / "nextflow.config",
         "-c", here, "-profile", profiles, "--outdir", "results", *params],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    config = next(json.loads(line[7:]) for line in lines if line.startswith("CONFIG "))
    asked = {task["name"]: task for task in (json.loads(line[6:]) for line in lines if line.startswith("ASKED "))}
    return config, asked["plain"], asked["gpu"]


@pytest.fixture(scope="module")
def all_profiles() -> dict:
    """All profiles as the configuration has them, none chosen: what is written down, before parameters."""
    run = subprocess.run(
        ["nextflow", "config", "-show-profiles", "-o", "json", ROOT], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_profiles_are_those_of_the_contract(all_profiles):
    assert set(all_profiles["profiles"]) == PROFILES
    assert "plugins" not in all_profiles
    assert not any("plugins" in profile for profile in all_profiles["profiles"].values())


def test_executors_of_profiles(all_profiles):
    executors = {
        name: profile["process"]["executor"]
        for name, profile in all_profiles["profiles"].items()
        if "executor" in profile.get("process", {})
    }
    assert executors == {
        "slurm": "slurm", "awsbatch": "awsbatch", "googlebatch": "google-batch", "azurebatch": "azurebatch",
        "kubernetes": "k8s",
    }  # fmt: skip


def test_small_machines_are_never_asked_for_more_than_they_have(all_profiles):
    limits = all_profiles["profiles"]["test"]["process"]["resourceLimits"]
    assert (limits["cpus"], limits["memory"]["giga"], limits["time"]["hours"]) == (2, 6, 1)


def test_the_full_test_is_the_demo(all_profiles):
    params = all_profiles["profiles"]["test_full"]["params"]
    assert params["reference"].endswith(".demo/data/reference.h5ad")
    assert (params["label_key"], params["batch_key"]) == ("cell_type", "library")


def test_images_have_the_pipelines_version_and_a_process_each():
    named = re.findall(r"container = \"(.*)\"", (ROOT / "conf" / "containers.config").read_text())
    assert len(named) == 3
    for container in named:
        assert container.startswith("${params.container_registry}spikgpt/")
        assert container.endswith(f":{VERSION}")
    for dockerfile in ROOT.glob("containers/*/Dockerfile"):
        assert f"spikgpt/{dockerfile.parent.name}:{VERSION} ." in dockerfile.read_text()


def test_images_meet_what_aws_batch_asks():
    for dockerfile in ROOT.glob("containers/*/Dockerfile"):
        lines = [line.split() for line in dockerfile.read_text().splitlines() if line and line[0].isupper()]
        words = [line[0] for line in lines]
        assert "ENTRYPOINT" not in words
        assert lines[words.index("FROM")] == ["FROM", "debian:bookworm-slim"]
        assert lines[words.index("USER")] == ["USER", "spikgpt"]
        # the folder that any user can write
        assert lines[words.index("WORKDIR")] == ["WORKDIR", "/home/spikgpt"]
        text = dockerfile.read_text()
        assert "chmod 1777 /home/spikgpt" in text
        assert "procps" in text
        assert text.count("--require-hashes") == text.count("pip install")


def test_awsbatch(tmp_path):
    work = str(tmp_path / "work")
    config, plain, gpu = resolved(
        tmp_path, "awsbatch,gpu", "--queue", "cpu", "--gpu_queue", "gpu", "--region", "eu-central-1",
        "--work_dir", work, "--spot_retries", "5", "--aws_cli_path", "/opt/aws/bin/aws",
    )  # fmt: skip
    assert config["aws"] == {
        "region": "eu-central-1", "batch": {"cliPath": "/opt/aws/bin/aws", "maxSpotAttempts": 5},
    }  # fmt: skip
    assert config["workDir"] == work
    assert "plugins" not in config
    assert (plain["queue"], plain["gpus"]) == ("cpu", None)
    assert (gpu["queue"], gpu["gpus"]) == ("gpu", 1)
    # AWS Batch knows no --gpus: the accelerator is enough
    assert not gpu["container"]
    assert plain["memory"].endswith("GB")
    # on EC2 the launch template decides
    assert plain["disk"] is None


def test_googlebatch(tmp_path):
    config, plain, gpu = resolved(
        tmp_path, "gpu,googlebatch", "--region", "europe-west4", "--google_project", "cells", "--spot",
        "--gpu_machine_type", "g2-standard-8", "--gpu_type", "nvidia-l4",
    )  # fmt: skip
    assert config["google"] == {
        "project": "cells", "location": "europe-west4", "batch": {"spot": True, "maxSpotAttempts": 3},
    }  # fmt: skip
    assert (plain["machine"], plain["disk"], plain["container"]) == (None, "100 GB", "--user 0:0")
    assert (gpu["machine"], gpu["gpus"], gpu["gpu_type"]) == ("g2-standard-8", 1, "nvidia-l4")
    assert gpu["container"] == "--user 0:0"


def test_azurebatch(tmp_path):
    config, plain, gpu = resolved(
        tmp_path, "azurebatch,gpu", "--region", "westeurope", "--spot",
        "--machine_type", "Standard_D*_v3", "--gpu_machine_type", "Standard_NC4as_T4_v3",
        "--container_registry", "lab.azurecr.io/cells/",
    )  # fmt: skip
    # without it Nextflow would sign in to Docker Hub with this registry's password
    assert config["azure"]["registry"] == {"server": "lab.azurecr.io"}
    # a disk would rule out machine types without a temporary one
    assert plain["disk"] is None
    assert config["azure"]["batch"] == {
        "location": "westeurope", "autoPoolMode": True, "deletePoolsOnCompletion": True,
        "pools": {"auto": {"autoScale": True, "lowPriority": True}},
    }  # fmt: skip
    assert (plain["queue"], plain["machine"]) == (None, "Standard_D*_v3")
    assert gpu["machine"] == "Standard_NC4as_T4_v3"
    assert gpu["container"] == "--user 0:0 --gpus all"


def test_kubernetes(tmp_path):
    config, plain, gpu = resolved(
        tmp_path, "kubernetes,gpu", "--k8s_namespace", "cells", "--k8s_service_account", "runner",
        "--k8s_storage_claim", "shared", "--k8s_user", "1000", "--gpu_machine_type", "g5.xlarge", "--disk", "20 GB",
    )  # fmt: skip
    assert config["k8s"] == {
        "namespace": "cells", "serviceAccount": "runner", "storageClaimName": "shared",
        "storageMountPath": "/workspace", "runAsUser": 1000,
    }  # fmt: skip
    assert not plain["pod"]
    # ephemeral storage: a pod that asks for more than a node has is never started
    assert plain["disk"] == "20 GB"
    assert gpu["pod"] == [{"nodeSelector": "node.kubernetes.io/instance-type=g5.xlarge"}]
    assert (gpu["gpus"], gpu["container"]) == (1, "")


WORK_FOLDERS = {
    # profile, work folder, volume claim and mount path of Kubernetes; what is expected instead
    "aws, the default": (("awsbatch", "/home/me/work", None, "/workspace"), "s3://BUCKET/work"),
    "aws, with a GPU": (("gpu,awsbatch", "/home/me/work", None, "/workspace"), "s3://BUCKET/work"),
    "google, a bucket of aws": (("googlebatch", "s3://cells/work", None, "/workspace"), "gs://BUCKET/work"),
    "azure": (("azurebatch", "/home/me/work", None, "/workspace"), "az://CONTAINER/work"),
    "google, the whole bucket": (("googlebatch", "gs://cells", None, "/workspace"), "a folder in it"),
    "kubernetes, elsewhere": (("kubernetes", "/workspaces/work", "shared", "/workspace"), "a folder below /workspace"),
    "aws, right": (("awsbatch", "s3://cells/work", None, "/workspace"), None),
    "google, right": (("googlebatch", "gs://cells/work", None, "/workspace"), None),
    "azure, right": (("azurebatch", "az://cells/work", None, "/workspace"), None),
    "kubernetes, right": (("kubernetes", "/workspace/work", "shared", "/workspace/"), None),
    "kubernetes, volumes of a configuration": (("kubernetes", "/data/work", None, "/workspace"), None),
    "no cloud": (("docker,slurm", "/home/me/work", None, "/workspace"), None),
    "no profile": (("standard", "/home/me/work", None, "/workspace"), None),
}  # fmt: skip


@pytest.fixture(scope="module")
def told_of_work_folders(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("work_folders")
    (folder / "cases.json").write_text(json.dumps([case for case, _ in WORK_FOLDERS.values()]))
    run = subprocess.run(
        ["nextflow", "run", ROOT / "tests/lib/work_folders.nf", "-ansi-log", "false", "--cases", "cases.json",
         "--out", "told.json"],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return dict(zip(WORK_FOLDERS, json.loads((folder / "told.json").read_text()), strict=True))


@pytest.mark.parametrize("name", WORK_FOLDERS)
def test_a_work_folder_that_the_machines_cannot_reach(name, told_of_work_folders):
    case, expected = WORK_FOLDERS[name]
    told = told_of_work_folders[name]
    if expected is None:
        assert told is None
        return
    lines = told.splitlines()
    assert lines[0].startswith("SpikGPT stopped: The work folder is ")
    assert lines[2] == f"  found:     {case[1]}"
    assert expected in lines[3]
    assert "--work_dir" in lines[4]


def test_a_run_in_a_cloud_without_a_work_folder_ends_at_once(tmp_path):
    (tmp_path / "here.config").write_text("process { executor = 'local'; container = null }\n")
    run = subprocess.run(
        ["nextflow", "run", ROOT, "-ansi-log", "false", "-c", "here.config", "-profile", "awsbatch", "--input",
         "sheet.csv", "--outdir", "results"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    told = run.stdout + run.stderr
    assert run.returncode != 0
    assert "SpikGPT stopped: The work folder is not one that the machines of -profile awsbatch can reach" in told
    assert not (tmp_path / "results" / "pipeline_info" / "params.json").exists()


def test_slurm(tmp_path):
    _, plain, gpu = resolved(tmp_path, "slurm,local,gpu", "--queue", "short", "--gpu_queue", "a100")
    assert (plain["queue"], plain["cluster"]) == ("short", None)
    assert (gpu["queue"], gpu["cluster"]) == ("a100", "--gres=gpu:1")


@pytest.mark.parametrize(
    ("engine", "flags"),
    [("docker", "--gpus all"), ("apptainer", "--nv")],
)
def test_gpu_flags_stand_on_the_gpus_label_alone(engine, flags, tmp_path):
    config, plain, gpu = resolved(tmp_path, f"{engine},gpu")
    assert config[engine]["enabled"]
    assert "gpu" not in str(config[engine])
    assert plain["container"] is None
    assert gpu["container"] == flags


def test_tower_lists_the_report_and_tables_that_a_run_makes():
    reports = yaml.safe_load((ROOT / "tower.yml").read_text())["reports"]
    assert "**/multiqc/multiqc_report.html" in reports
    described = (ROOT / "docs" / "output.md").read_text()
    for pattern, entry in reports.items():
        assert pattern.split("/")[-1] in described, pattern
        assert entry["display"]
