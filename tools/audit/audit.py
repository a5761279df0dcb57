#!/usr/bin/env python3
"""What the images are made of: an SBOM of each, the licence of each package, and known vulnerabilities.

    make audit

SBOMs are CycloneDX JSON, made by cyclonedx-py from the lock file of each image, with the licences that the installed
packages state. A licence that this script cannot place ends it with exit status 1, as does a known vulnerability.
Where the database of vulnerabilities cannot be reached, the summary says that nothing was measured.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent

IMAGES = {
    "spikgpt": ("containers/spikgpt/requirements.lock", "tools/env/no-deps.lock"),
    "scgpt": ("containers/scgpt/requirements.lock", "containers/scgpt/no-deps.lock"),
    "multiqc": ("containers/multiqc/requirements.lock",),
}
"""The Python packages of each image, as its Dockerfile installs them."""

DUMP = """
import importlib.metadata as m, json, sys
found = {}
for d in m.distributions():
    about = d.metadata
    classes = [c.split(" :: ")[-1] for c in about.get_all("Classifier", []) if c.startswith("License :: ")]
    short = (about.get("License") or "").strip().splitlines()[:1]
    stated = about.get("License-Expression") or (short[0] if short and len(short[0]) < 60 else "")
    found[about["Name"]] = " / ".join(dict.fromkeys([*([stated] if stated else []), *classes])) or "not stated"
json.dump(found, sys.stdout)
"""

FAMILIES = (
    ("GPL", r"\b(GPL|GNU General Public)|\bGPL[v-]?\d"),
    ("weak copyleft", r"LGPL|Lesser General|MPL|Mozilla"),
    ("NVIDIA", r"NVIDIA"),
    (
        "permissive",
        r"MIT|BSD|Apache|ISC|PSF|Python Software|Python-2|zlib|Zlib|Unlicense|CC0|HPND|0BSD|Public Domain|CNRI",
    ),
)
"""A licence's family: the first whose pattern it has."""

MEANING = {
    "permissive": "free to use and to pass on beside MIT code",
    "weak copyleft": "the package's own files stay under their licence; passed on unchanged",
    "GPL": "compatible with MIT code; who passes an image on does so under the GPL's terms and offers the source",
    "NVIDIA": "proprietary; CUDA libraries of torch, free to use and to pass on as part of an application",
}

STATED_ELSEWHERE = {
    "celltypist": "MIT (its LICENSE file)",
    "cuda-toolkit": "NVIDIA (a name for the CUDA packages, without files of its own)",
    "spikingjelly": "Apache-2.0 (its LICENSE file)",
}
"""Licences that a package's metadata does not state."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def stated_licences(pythons: list[Path]) -> dict[str, str]:
    """What the packages installed in these environments say of their licence."""
    found: dict[str, str] = {}
    for python in pythons:
        dump = subprocess.run([python, "-c", DUMP], capture_output=True, text=True, check=True).stdout
        found |= {canonical(name): licence for name, licence in json.loads(dump).items()}
    return found | STATED_ELSEWHERE


def family(licence: str) -> str | None:
    return next((name for name, pattern in FAMILIES if re.search(pattern, licence)), None)


def sbom(image: str, licences: dict[str, str], out: Path) -> list[dict]:
    """Write the CycloneDX JSON of an image; gives its components."""
    lock = "".join((ROOT / name).read_text(encoding="utf-8") for name in IMAGES[image])
    made = subprocess.run(
        [TOOLS / "cyclonedx-py", "requirements", "--output-reproducible", "--of", "JSON", "-"],
        input=lock, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    content = json.loads(made)
    content["metadata"]["component"] = {"type": "container", "name": f"spikgpt/{image}", "bom-ref": f"spikgpt/{image}"}
    for component in content["components"]:
        component.pop("description", None)
        if licence := licences.get(canonical(component["name"])):
            component["licenses"] = [{"license": {"name": licence}}]
    (out / f"{image}.cdx.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content["components"]


def vulnerabilities(image: str, out: Path) -> dict:
    """What pip-audit finds in the locks of an image, or why it could not look."""
    lock = out / f"{image}.lock"
    lock.write_text("".join((ROOT / name).read_text(encoding="utf-8") for name in IMAGES[image]), encoding="utf-8")
    done = subprocess.run(
        [TOOLS / "pip-audit", "--no-deps", "--disable-pip", "-f", "json", "-r", lock],
        capture_output=True,
        text=True,
        check=False,
    )
    lock.unlink()
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return {"measured": False, "why": (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]}
    seen = [package for package in packages if "skip_reason" not in package]
    if not seen:
        return {"measured": False, "why": "the database of vulnerabilities was not reached"}
    found = {f"{p['name']} {p['version']}": [v["id"] for v in p["vulns"]] for p in seen if p["vulns"]}
    return {"measured": True, "packages": len(seen), "skipped": len(packages) - len(seen), "found": found}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--python", type=Path, nargs="+", required=True, help="environments that have the packages installed"
    )
    made.add_argument("--out", type=Path, default=ROOT / "results" / "audit", help="folder for SBOMs and licences.tsv")
    made.add_argument("--json", type=Path, default=ROOT / "docs" / "reliability" / "audit.json")
    given = made.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    licences = stated_licences(given.python)
    rows: dict[tuple[str, str], list[str]] = {}
    for image in IMAGES:
        for component in sbom(image, licences, given.out):
            rows.setdefault((canonical(component["name"]), component.get("version", "")), []).append(image)
    lines, families, odd = ["package\tversion\tlicence\tfamily\timages"], {}, []
    for (name, version), images in sorted(rows.items()):
        licence = licences.get(name, "not installed")
        kind = family(licence)
        if kind is None:
            odd.append(f"{name} {version}: {licence}")
        else:
            families.setdefault(kind, []).append(name)
        lines.append("\t".join([name, version, licence, kind or "unknown", ",".join(images)]))
    (given.out / "licences.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    audit = {image: vulnerabilities(image, given.out) for image in IMAGES}
    summary = {
        "packages": len(rows),
        "images": {image: sum(image in images for images in rows.values()) for image in IMAGES},
        "licences": {
            kind: {"packages": len(names), "meaning": MEANING[kind], "names": names if kind != "permissive" else []}
            for kind, names in sorted(families.items())
        },
        "unknown_licences": odd,
        "vulnerabilities": audit,
    }
    given.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"[audit] SBOMs and licences.tsv are in {given.out}")
    for line in odd:
        print(f"[audit] licence to look at: {line}")
    found = {name: ids for report in audit.values() for name, ids in report.get("found", {}).items()}
    for name, ids in found.items():
        print(f"[audit] vulnerable: {name}: {', '.join(ids)}")
    sys.exit(bool(odd or found))


if __name__ == "__main__":
    main()
