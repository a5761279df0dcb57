"""tools/cloud-check says what is missing before a run, and tools/push-images builds for the clouds' machines: both with
clients of the clouds that are not there but in this file."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

CLIENT = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path

here = Path(__file__).parent
called = " ".join([Path(__file__).name, *sys.argv[1:]])
with (here / "calls").open("a") as calls:
    calls.write(called + chr(10))
answers = json.loads((here / "answers.json").read_text())
known = [start for start in answers if called.startswith(start)]
if not known:
    sys.exit("an error occurred: not foreseen: " + called)
answer = answers[max(known, key=len)]
if isinstance(answer, str) and answer.startswith("!"):
    sys.exit(answer[1:])
print(answer if isinstance(answer, str) else json.dumps(answer))
"""

AMD64 = {"Descriptor": {"platform": {"os": "linux", "architecture": "amd64"}}}
ARM64 = {"Descriptor": {"platform": {"os": "linux", "architecture": "arm64"}}}

ENVIRONMENT = {
    "computeEnvironmentName": "spikgpt-cpu", "state": "ENABLED", "status": "VALID", "statusReason": "Healthy",
    "computeResources": {
        "type": "SPOT", "maxvCpus": 64, "instanceTypes": ["m5", "r5"], "launchTemplate": {"launchTemplateName": "d"},
    },
}  # fmt: skip
QUEUE = {
    "state": "ENABLED",
    "status": "VALID",
    "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "arn:ce"}],
}
OFF = {"jobQueues": [QUEUE | {"state": "DISABLED"}]}
AWS = {
    "aws sts get-caller-identity": {"Account": "111122223333", "Arn": "arn:aws:iam::111122223333:user/me"},
    "aws s3api head-bucket": "",
    "aws s3api get-bucket-location": {"LocationConstraint": "eu-central-1"},
    "aws s3api put-object": {},
    "aws s3api delete-object": "",
    "aws batch describe-job-queues": {"jobQueues": [QUEUE]},
    "aws batch describe-compute-environments": {"computeEnvironments": [ENVIRONMENT]},
    "aws service-quotas get-service-quota": {"Quota": {"Value": 64.0}},
    "aws ecr describe-images": {"imageDetails": [{}]},
    "docker manifest inspect": AMD64,
}
ECR = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/"
AWS_RUN = (
    "-profile", "awsbatch", "--region", "eu-central-1", "--queue", "spikgpt-cpu", "--work_dir", "s3://my-cells/work",
    "--outdir", "s3://my-cells/results", "--input", "samplesheet.csv", "--container_registry", ECR,
)  # fmt: skip

GOOGLE_RUN = (
    "-profile", "googlebatch,gpu", "--google_project", "lab", "--region", "europe-west4", "--work_dir", "gs://my-cells/work",
    "--gpu_type", "nvidia-l4", "--container_registry", "europe-west4-docker.pkg.dev/lab/lab/",
)  # fmt: skip
MACHINES = "serviceAccount:7-compute@developer.gserviceaccount.com"
GOOGLE = {
    "gcloud auth application-default print-access-token": "token",
    "gcloud auth list": "me@example.org",
    "gcloud services list": [
        {"config": {"name": f"{name}.googleapis.com"}} for name in ("batch", "compute", "logging", "storage")
    ],
    "gcloud storage buckets describe": {"location": "EUROPE-WEST4"},
    "gcloud projects describe": {"projectNumber": "7"},
    "gcloud projects get-iam-policy": {"bindings": [{"role": "roles/editor", "members": [MACHINES]}]},
    "gcloud compute regions describe": {
        "quotas": [{"metric": "CPUS", "limit": 24.0}, {"metric": "NVIDIA_L4_GPUS", "limit": 1.0},
                   {"metric": "PREEMPTIBLE_NVIDIA_L4_GPUS", "limit": 0.0}]
    },
    "gcloud compute project-info describe": {"quotas": [{"metric": "GPUS_ALL_REGIONS", "limit": 1.0}]},
    "docker manifest inspect": AMD64,
}  # fmt: skip

AZURE_RUN = (
    "-profile", "azurebatch", "--region", "westeurope", "--work_dir", "az://cells/work",
    "--container_registry", "lab.azurecr.io/",
)  # fmt: skip
AZURE_KEYS = {
    "AZURE_STORAGE_ACCOUNT_NAME": "store", "AZURE_STORAGE_ACCOUNT_KEY": "k", "AZURE_BATCH_ACCOUNT_NAME": "lab",
    "AZURE_BATCH_ACCOUNT_KEY": "k", "AZURE_REGISTRY_USER_NAME": "lab", "AZURE_REGISTRY_PASSWORD": "p",
}  # fmt: skip
ACCOUNT = {
    "name": "lab", "location": "westeurope", "poolAllocationMode": "BatchService", "dedicatedCoreQuota": 20,
    "poolQuota": 20, "accountEndpoint": "lab.westeurope.batch.azure.com",
}  # fmt: skip
AZURE = {
    "az account show": {"name": "Lab"},
    "az storage container exists": {"exists": True},
    "az batch account list": [ACCOUNT],
    "az batch pool show": {"id": "mine"},
    "docker manifest inspect": AMD64,
}

KUBERNETES_RUN = (
    "-profile", "kubernetes,gpu", "--k8s_namespace", "cells", "--k8s_storage_claim", "shared", "--work_dir",
    "/workspace/work", "--k8s_service_account", "runner", "--container_registry", "registry.example.org/lab/",
)  # fmt: skip
NODE = {"cpu": "3920m", "memory": "15Gi", "nvidia.com/gpu": "1"}
ONE_NODE = {"spec": {"accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Bound"}}
CLAIM = {"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}}
KUBERNETES = {
    "kubectl get namespace": {},
    "kubectl auth can-i": "yes",
    "kubectl get serviceaccount": {},
    "kubectl get persistentvolumeclaim": CLAIM,
    "kubectl get nodes": {"items": [{"status": {"allocatable": NODE}}]},
    "docker manifest inspect": AMD64,
}

RUNS = {
    "aws": (AWS_RUN, AWS, {}), "gcloud": (GOOGLE_RUN, GOOGLE, {}), "az": (AZURE_RUN, AZURE, AZURE_KEYS),
    "kubectl": (KUBERNETES_RUN, KUBERNETES, {}),
}  # fmt: skip


def clients(folder: Path, answers: dict, *, without: str = "") -> Path:
    """A folder for PATH with clients that give these answers; "!..." is an error."""
    folder.mkdir(exist_ok=True)
    (folder / "answers.json").write_text(json.dumps(answers))
    for name in {"aws", "gcloud", "az", "kubectl", "docker"} - {without}:
        (folder / name).write_text(CLIENT)
        (folder / name).chmod(0o755)
    return folder


def check(path: Path, run: tuple, **environment: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "cloud-check", *run],
        env={"PATH": str(path), **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_missing(name, tmp_path):
    run, answers, environment = RUNS[name]
    status, lines = check(clients(tmp_path / "bin", answers), run, **environment)
    assert (status, lines[-1]) == (0, "nothing is missing")
    assert all(line.startswith("ok ") for line in lines[:-1]), lines


@pytest.mark.parametrize("name", RUNS)
def test_a_client_that_is_not_there(name, tmp_path):
    run, answers, environment = RUNS[name]
    status, lines = check(clients(tmp_path / "bin", answers, without=name), run, **environment)
    assert status == 1
    assert any(line.startswith(f"missing  client: {name} is not on PATH. Next step: install") for line in lines)


def gpu_queue(answers: dict) -> None:
    answers["aws batch describe-compute-environments"]["computeEnvironments"][0]["computeResources"] |= {
        "type": "EC2", "instanceTypes": ["g5.xlarge"]
    }  # fmt: skip


def environments(**change) -> dict:
    return {"aws batch describe-compute-environments": {"computeEnvironments": [ENVIRONMENT | change]}}


def nodes(**allocatable: str) -> dict:
    return {"kubectl get nodes": {"items": [{"status": {"allocatable": allocatable}}]}}


def roles(*names: str) -> dict:
    return {"gcloud projects get-iam-policy": {"bindings": [{"role": name, "members": [MACHINES]} for name in names]}}


REQUEST = "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code"
LACKING = {
    # what is changed of the answers, parameters added, what the line names, and its next step
    "no credentials": ("aws", {"aws sts": "!Unable to locate credentials"}, (), "credentials", "aws configure"),
    "no bucket": ("aws", {"aws s3api head-bucket": "!An error occurred (404) when calling HeadBucket: Not Found"}, (),
                  "it is not there", "aws s3 mb s3://my-cells --region eu-central-1"),
    "a stranger's bucket": ("aws", {"aws s3api head-bucket": "!An error occurred (403): Forbidden"}, (), "(403)",
                            "another name"),
    "a bucket elsewhere": ("aws", {"aws s3api get-bucket-location": {"LocationConstraint": None}}, (),
                           "it is in us-east-1, the machines in eu-central-1", "a bucket in eu-central-1"),
    "a bucket to read only": ("aws", {"aws s3api put-object": "!An error occurred (AccessDenied)"}, (), "AccessDenied",
                              "s3:PutObject"),
    "no work folder": ("aws", {}, ("--work_dir", "/scratch"), "work folder: /scratch", "--work_dir s3://BUCKET/work"),
    "no queue": ("aws", {"aws batch describe-job-queues": {"jobQueues": []}}, (), "queue spikgpt-cpu: it is not there",
                 "docs/cloud.md, step 4"),
    "a queue that is off": ("aws", {"aws batch describe-job-queues": OFF}, (),
                           "DISABLED and VALID", "--state ENABLED"),
    "machines not ready": ("aws", environments(status="CREATING"), (),
                           "ENABLED and CREATING", "wait until it is VALID"),
    "Fargate": ("aws", environments(computeResources={"type": "FARGATE", "maxvCpus": 64}), (),
                "its type is FARGATE", "EC2 or SPOT"),
    "no GPU in the queue": ("aws", {}, ("--gpu_queue", "spikgpt-cpu"), "no machine of m5, r5 has a GPU", "g5.xlarge"),
    "a new account's quota": ("aws", {"aws service-quotas": {"Quota": {"Value": 0.0}}}, (),
                              "All Standard Spot Instance Requests (L-34B43A08) is 0 vCPUs",
                              f"{REQUEST} L-34B43A08 --desired-value 32"),
    "no repository": ("aws", {"aws ecr describe-images": "!An error occurred (RepositoryNotFoundException)"}, (),
                      f"{ECR}spikgpt/spikgpt:", "aws ecr create-repository --repository-name spikgpt/spikgpt"),
    "no image": ("aws", {"aws ecr describe-images": "!An error occurred (ImageNotFoundException)"}, (), "ImageNotFound",
                 f"make push REGISTRY={ECR}"),
    "an image of an ARM Mac": ("aws", {"docker manifest inspect": ARM64}, (), "is for linux/arm64, not linux/amd64",
                               f"make push REGISTRY={ECR}"),
    "no registry": ("aws", {}, ("--container_registry", ""), "no --container_registry", "make push REGISTRY="),
    "Google: no service": ("gcloud", {"gcloud services list": []}, (), "not enabled: batch.googleapis.com",
                           "gcloud services enable batch.googleapis.com"),
    "Google: no bucket": ("gcloud", {"gcloud storage": "!ERROR: not found: 404."}, (), "bucket gs://my-cells",
                          "gcloud storage buckets create gs://my-cells --location europe-west4"),
    "Google: no roles": ("gcloud", roles("roles/logging.logWriter", "roles/artifactregistry.reader"), (),
                         "it has no roles/batch.agentReporter, roles/storage.objectAdmin",
                         "gcloud projects add-iam-policy-binding lab"),
    "Google: no GPU": ("gcloud", {}, ("--spot",), "PREEMPTIBLE_NVIDIA_L4_GPUS is 0, at least 1", "Quotas"),
    "Google: no login": ("gcloud", {"gcloud auth application-default": "!ERROR: no credentials"}, (), "credentials",
                         "gcloud auth application-default login"),
    "Azure: no container": ("az", {"az storage container exists": {"exists": False}}, (), "container az://cells",
                            "az storage container create --name cells --account-name store"),
    "Azure: no cores": ("az", {"az batch account list": [ACCOUNT | {"dedicatedCoreQuota": 0}]}, (), "0 dedicated cores",
                        "Quotas"),
    "Azure: another region": ("az", {"az batch account list": [ACCOUNT | {"location": "northeurope"}]}, (),
                              "it is in northeurope", "--region northeurope"),
    "Azure: no pool": ("az", {"az batch pool show": "!The specified pool does not exist."}, ("--queue", "mine"),
                       "pool mine: The specified pool does not exist", "leave --queue out"),
    "Kubernetes: no rights": ("kubectl", {"kubectl auth can-i create pods": "!no"}, (), "may not create pods",
                              "docs/cloud.md"),
    "Kubernetes: one node": ("kubectl", {"kubectl get persistentvolumeclaim": ONE_NODE}, (),
                             "its access mode is ReadWriteOnce", "NFS"),
    "Kubernetes: elsewhere": ("kubectl", {}, ("--work_dir", "/scratch/work"), "/scratch/work is not on the volume",
                              "--work_dir /workspace/work"),
    "Kubernetes: small nodes": ("kubectl", nodes(cpu="4", memory="4Gi"), (),
                                "none of 1 has 2 cores and 8 GB", "larger nodes"),
    "Kubernetes: no GPU": ("kubectl", nodes(cpu="4", memory="16Gi"), (),
                           "no node offers nvidia.com/gpu", "device plugin"),
}  # fmt: skip


@pytest.mark.parametrize("case", LACKING)
def test_what_is_missing_is_one_line_with_its_next_step(case, tmp_path):
    name, change, more, found, step = LACKING[case]
    run, answers, environment = RUNS[name]
    answers = {key: value for key, value in answers.items() if not any(key.startswith(start) for start in change)}
    status, lines = check(clients(tmp_path / "bin", answers | change), (*run, *more), **environment)
    missing = [line for line in lines if line.startswith("missing  ")]
    assert status == 1
    assert lines[-1] == f"{len(missing)} thing{'' if len(missing) == 1 else 's'} missing"
    assert any(
        found in line.split(". Next step: ")[0] and step in line.split(". Next step: ")[1] for line in missing
    ), lines


def test_quota_of_a_gpu_queue_is_that_of_on_demand_machines(tmp_path):
    answers = copy.deepcopy(AWS)
    gpu_queue(answers)
    answers["aws service-quotas get-service-quota --service-code ec2 --quota-code L-DB2E81BA"] = {
        "Quota": {"Value": 0.0}
    }
    run = (*AWS_RUN[:1], "awsbatch,gpu", *AWS_RUN[2:], "--gpu_queue", "spikgpt-gpu")
    _, lines = check(clients(tmp_path / "bin", answers), run)
    assert any(
        "Running On-Demand G and VT instances (L-DB2E81BA) is 0 vCPUs, one machine needs 4" in line for line in lines
    )


def test_what_cannot_be_asked_is_no_fault(tmp_path):
    answers = AWS | {"aws service-quotas": "!An error occurred (AccessDeniedException)"}
    answers.pop("aws service-quotas get-service-quota")
    status, lines = check(clients(tmp_path / "bin", answers), AWS_RUN)
    assert status == 0
    assert any(line.startswith("note     quota: ") and "AccessDenied" in line for line in lines)


def test_spot_machines_of_azure_depend_on_the_account(tmp_path):
    status, lines = check(clients(tmp_path / "bin", AZURE), (*AZURE_RUN, "--spot"), **AZURE_KEYS)
    assert status == 0
    assert any(line.startswith("note     spot: the low-priority machines") for line in lines)
    own = AZURE | {"az batch account list": [ACCOUNT | {"poolAllocationMode": "UserSubscription"}]}
    _, lines = check(clients(tmp_path / "bin", own), (*AZURE_RUN, "--spot"), **AZURE_KEYS)
    assert not any("spot:" in line for line in lines)


def test_the_region_is_told_to_every_client_of_aws(tmp_path):
    """Version 1 of the command line reads AWS_DEFAULT_REGION and not AWS_REGION."""
    path = clients(tmp_path / "bin", AWS)
    check(path, AWS_RUN)
    calls = [call for call in (path / "calls").read_text().splitlines() if call.startswith("aws ")]
    assert len(calls) >= 8
    assert all("--region eu-central-1" in call for call in calls)


def test_keys_of_azure_are_on_no_command_line(tmp_path):
    path = clients(tmp_path / "bin", AZURE)
    check(path, (*AZURE_RUN, "--queue", "mine"), **AZURE_KEYS | {"AZURE_STORAGE_ACCOUNT_KEY": "secret-key"})
    assert "secret-key" not in (path / "calls").read_text()


def push(path: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [ROOT / "tools" / "push-images", *arguments],
        env={"PATH": f"{path}:{os.environ['PATH']}"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_images_for_a_cloud_are_built_for_its_machines(tmp_path):
    path = clients(tmp_path / "bin", {"docker build": "", "docker push": "", "docker image inspect": "linux/amd64"})
    done = push(path, "registry.example.org/lab/", "spikgpt", "multiqc")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("--container_registry registry.example.org/lab/")
    calls = (path / "calls").read_text().splitlines()
    built = [call for call in calls if call.startswith("docker build")]
    assert [("--platform linux/amd64" in call, call.split(" -t ")[1].split(":")[0]) for call in built] == [
        (True, "registry.example.org/lab/spikgpt/spikgpt"), (True, "registry.example.org/lab/spikgpt/multiqc"),
    ]  # fmt: skip
    assert [call.startswith("docker push") for call in calls] == [False] * 4 + [True] * 2


def test_an_image_of_another_machine_is_not_pushed(tmp_path):
    path = clients(tmp_path / "bin", {"docker build": "", "docker push": "", "docker image inspect": "linux/arm64"})
    done = push(path, "registry.example.org/lab/", "spikgpt")
    assert done.returncode == 1
    assert "is linux/arm64, not linux/amd64. Next step" in done.stderr
    assert "docker push" not in (path / "calls").read_text()


@pytest.mark.parametrize("arguments", [(), ("",), ("registry.example.org/lab", "spikgpt"), ("r/", "spikgtp"), ("r/",)])
def test_a_push_without_a_registry_or_of_no_image_is_refused(arguments, tmp_path):
    path = clients(tmp_path / "bin", {})
    done = push(path, *arguments)
    assert done.returncode == 65
    assert done.stderr.startswith("[push] ")
    assert not (path / "calls").exists()
