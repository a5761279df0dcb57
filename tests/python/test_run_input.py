"""The samplesheet: what is accepted, and what each mistake is told."""

import json

import pytest
from conftest import ROOT
from spikgpt.base.errors import UserError
from spikgpt.read_input.samplesheet import read_samplesheet

SHEET = json.loads((ROOT / "assets" / "schema_input.json").read_text())


def sheet(tmp_path, text):
    path = tmp_path / "sheet.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_are_typed_and_empty_fields_absent(tmp_path):
    path = sheet(tmp_path, "sample,filtered,batch,min_genes,max_mito_percentage\na,x.h5,b 1,200,12.5\nb,y.h5ad,,,\n")
    assert read_samplesheet(path, SHEET) == [
        {"sample": "a", "filtered": "x.h5", "batch": "b 1", "min_genes": 200, "max_mito_percentage": 12.5, "line": 2},
        {"sample": "b", "filtered": "y.h5ad", "line": 3},
    ]


def test_other_columns_are_carried(tmp_path):
    path = sheet(tmp_path, "sample,filtered,age,time point\na,x.h5,40,day 1\nb,y.h5,,day 2\n")
    assert [row["extra"] for row in read_samplesheet(path, SHEET)] == [
        {"age": "40", "time point": "day 1"},
        {"age": "", "time point": "day 2"},
    ]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("Batch", "unknown column 'Batch'(?s:.)*did you mean 'batch'"),
        ("filterd", "did you mean 'filtered'"),
        ("spikgpt_cell_type", "no column of the results"),
        ("a/b", "letters, digits, spaces"),
    ],
)
def test_a_column_that_may_be_a_slip_is_refused(tmp_path, header, told):
    with pytest.raises(UserError, match=told):
        read_samplesheet(sheet(tmp_path, f"sample,filtered,{header}\na,x.h5,1\n"), SHEET)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfsample,filtered\na,x.h5\n",
        b"sample,filtered\r\na,x.h5\r\n",
        b"sample,filtered,,\na,x.h5,,\n",
        b"\nsample,filtered\n\na,x.h5\n,\n",
        b'sample,filtered\n"a", "x.h5"\n',
    ],
    ids=["byte order mark", "CRLF", "trailing commas", "empty lines", "quotes and spaces"],
)
def test_what_spreadsheets_write_is_read(tmp_path, text):
    (row,) = read_samplesheet(sheet(tmp_path, text), SHEET)
    assert (row["sample"], row["filtered"]) == ("a", "x.h5")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("sample,filtered\n", "lists no sample"),
        ("filtered\nx.h5\n", "'sample', and 'filtered'"),
        ("sample\na\n", "'filtered' or 'unfiltered'"),
        ("sample,filtred\na,x.h5\n", "did you mean 'filtered'"),
        ("sample,filtered,filtered\na,x,y\n", "twice"),
        ("sample,filtered,unfiltered\na,,\n", "line 2, column filtered"),
        ("sample,filtered\n,x.h5\n", "line 2, column sample"),
        ("sample,filtered\na,x.h5\nA,y.h5\n", "lines 2 and 3"),
        ("sample,filtered\na b,x.h5\n", "line 2, column sample"),
        ("sample,filtered\n../a,x.h5\n", "line 2, column sample"),
        ("sample,filtered\n$(id),x.h5\n", "line 2, column sample"),
        ("sample,filtered\ncohort,x.h5\n", "name files of the results"),
        ("sample,filtered,min_genes\na,x.h5,many\n", "column min_genes"),
        ("sample,filtered,min_genes\na,x.h5,-1\n", "at least 0"),
        ("sample,filtered,min_genes\na,x.h5,1.5\n", "column min_genes"),
        ("sample,filtered,max_mito_percentage\na,x.h5,nan\n", "column max_mito_percentage"),
        ("sample,filtered,max_mito_percentage\na,x.h5,101\n", "at most 100"),
        ("sample,filtered\na,x.h5,extra\n", "line 2"),
        (b"PK\x03\x04rest", "Excel workbook"),
        (b"sample,filtered\n\xff\xfe,x\n", "UTF-8"),
    ],
)
def test_a_mistake_in_the_sheet_is_told_with_its_place(tmp_path, text, told):
    with pytest.raises(UserError) as error:
        read_samplesheet(sheet(tmp_path, text), SHEET)
    message = str(error.value)
    assert told in message
    assert "sheet.csv" in message
    assert "next step:" in message


def test_the_script_writes_the_samples_or_nothing(tmp_path, script):
    args = ("--samplesheet", "sheet.csv", "--samplesheet-schema", ROOT / "assets" / "schema_input.json")
    sheet(tmp_path, "sample,filtered\na,x.h5\n")
    assert script("check_input.py", *args).returncode == 0
    assert json.loads((tmp_path / "samples.json").read_text())[0]["sample"] == "a"

    (tmp_path / "samples.json").unlink()
    sheet(tmp_path, "sample,filtred\na,x.h5\n")
    failed = script("check_input.py", *args)
    assert failed.returncode == 65
    assert failed.stderr.startswith("SpikGPT stopped: The samplesheet has an unknown column 'filtred'")
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "samples.json").exists()
