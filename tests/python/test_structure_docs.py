"""docs/structure.md lists what is in the repository; method.md says of the network what was measured."""

import re
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import structure


def test_the_page_lists_the_repository():
    """`git add` a new file, then run `tools/structure.py`."""
    assert structure.PAGE.read_text(encoding="utf-8") == structure.page(ROOT)


def test_a_folder_that_nobody_described_is_an_error(monkeypatch):
    monkeypatch.delitem(structure.LINES, "conf")
    with pytest.raises(ValueError, match=r"nothing on \['conf'\]"):
        structure.listing(ROOT)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("One sentence.", "One sentence"),
        ("Two lines of\none sentence. Another.", "Two lines of one sentence"),
        ("A command:\n  it is called so", "A command"),
        ("No point\n\nAnother paragraph.", "No point"),
        ("Names a file.tsv, and base/.\nNext.", "Names a file.tsv, and base/"),
    ],
)
def test_the_line_is_the_first_sentence(text, line):
    assert structure.first_sentence(text) == line


def test_every_module_and_script_says_what_it_is():
    for folder in ("bin", "bench", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            assert structure.says(path), path


def test_paths_that_pages_name_are_there():
    """Paths of the repository in README and docs, in backticks or as targets of links."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    parents = ("assets/", "bench/", "bin/", "conf/", "docs/", "modules/", "subworkflows/", "tests/", "tools/")
    named = 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        quoted = [path for path in re.findall(r"`([\w./-]+)`", text) if path.startswith(parents)]
        linked = [(page.parent / path).resolve() for path in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text)]
        named += len(quoted) + len(linked)
        for path in [*(ROOT / path for path in quoted), *linked]:
            assert path.exists(), f"{page.name}: {path}"
    assert named > 50


def test_the_method_says_of_the_block_what_was_measured():
    measured = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    row = next(line for line in measured.splitlines() if line.startswith("| depth 0 |"))
    splits, *_, difference, _, by_split = (field.strip() for field in row.strip("|").split("|")[1:])
    method = " ".join((ROOT / "docs" / "method.md").read_text(encoding="utf-8").split())
    assert float(difference) < 0
    assert f"a network without a block is better by {difference[1:]} points" in method
    assert (splits, by_split.startswith("-"), by_split.split(" to ")[1][0]) == ("3", True, "-")
    assert "not worse on any of the three splits" in method
