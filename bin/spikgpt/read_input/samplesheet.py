"""The samplesheet, checked against the pipeline's JSON schema."""

import csv
import difflib
import io
import json
import math
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from spikgpt.base.columns import OBS_COLUMNS
from spikgpt.base.errors import UserError
from spikgpt.base.guards import content_of, strange_name

Row = dict[str, Any]

RESERVED = ("cohort", "reference")
"""Names that files of the results have, and so no sample."""

LARGEST_SHEET = 16 * 1024**2
"""Bytes of a samplesheet: some hundred thousand samples."""
STORES = ("s3", "gs", "az")
"""Where a matrix may lie besides on a disk. Anything else would be fetched unchecked from wherever a sheet says."""
EXTRA = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.()%+-]{0,99}")
"""Names that a column of the user's own may have."""
TAKEN = ("barcode", "cell", *OBS_COLUMNS)
"""Columns of the results."""
MISSPELT = 0.8
"""How like a known column's name (difflib) an unknown one is, to be a slip of it."""
URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")

_SHEET_HELP = "see the samplesheet's columns in docs/usage.md"


def nearest(name: str, known: list[str]) -> str:
    """A sentence that suggests the known name most like `name`, or lists them all."""
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known names: {', '.join(sorted(known))}"


def _expectation(error: ValidationError) -> str:
    """What the schema wanted, in words: its own errorMessage where it has one."""
    own = error.schema.get("errorMessage") if isinstance(error.schema, dict) else None
    if own:
        return str(own)
    if error.validator == "type":
        return f"a value of type {error.validator_value}"
    if error.validator == "enum":
        return f"one of {', '.join(map(str, error.validator_value))}"
    bounds = {
        "minimum": "at least",
        "maximum": "at most",
        "exclusiveMinimum": "more than",
        "exclusiveMaximum": "less than",
        "minLength": "text of length at least",
        "maxLength": "text of length at most",
    }
    if error.validator in bounds:
        return f"{bounds[error.validator]} {error.validator_value}"
    return error.message


def read_samplesheet(path: str | Path, schema: dict[str, Any]) -> list[Row]:
    """Read and check a samplesheet.

    Parameters
    ----------
    path
        Comma-separated text, UTF-8 with or without a byte order mark, any line ending.
    schema
        Parsed `assets/schema_input.json`.

    Returns
    -------
    One dict per sample in the sheet's order; empty fields are absent, numbers are numbers. `extra` has the columns that
    the schema does not know, as text: they are carried into the results.
    Whether the files exist is not looked at here: they may lie where only Nextflow reaches them.

    Raises
    ------
    UserError
        Names the line and the column of the first mistake.
    """
    name = Path(path).name
    content = "a folder" if Path(path).is_dir() else content_of(Path(path))
    if content not in ("", "an empty file"):
        raise UserError(
            "The samplesheet is not a text file",
            where=name,
            found=content,
            expected="a file of comma-separated text",
            fix="save it as CSV and give that file",
        )
    if Path(path).stat().st_size > LARGEST_SHEET:
        raise UserError(
            "The samplesheet is too large to be a list of samples",
            where=name,
            found=f"{Path(path).stat().st_size:,} bytes",
            expected=f"at most {LARGEST_SHEET:,} bytes",
            fix="give the list of samples, not a matrix",
        )
    raw = Path(path).read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf_16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise UserError(
            "The samplesheet is not UTF-8 text",
            where=f"{name}, byte {error.start}",
            found=("UTF-16 text, " if utf_16 else "") + repr(raw[error.start : error.start + 8]),
            expected="UTF-8 text",
            fix="save it as CSV in UTF-8",
        ) from None

    columns = schema["items"]["properties"]
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        lines = [(reader.line_num, [field.strip() for field in fields]) for fields in reader]
    except csv.Error as error:
        raise UserError(
            "The samplesheet cannot be read as comma-separated text",
            where=f"{name}, line {reader.line_num}",
            found=str(error),
            expected="comma-separated fields, quoted where they hold a comma",
            fix=_SHEET_HELP,
        ) from None
    lines = [(number, fields) for number, fields in lines if any(fields)]
    if not lines:
        raise UserError(
            "The samplesheet is empty",
            where=name,
            found="no line with text",
            expected=f"a header line and one line per sample; {_SHEET_HELP}",
            fix="list the samples in it",
        )

    (header_line, header), rows = lines[0], lines[1:]
    while header and not header[-1]:  # a spreadsheet's trailing commas
        header.pop()
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise UserError(
                f"The samplesheet is separated by {word}",
                where=f"{name}, line {header_line}",
                found=repr(header[0]),
                expected="fields separated by commas",
                fix="save it as CSV with commas",
            )
    unknown = [column for column in header if column not in columns]
    misspelt = [
        column for column in unknown if difflib.get_close_matches(column.lower(), columns, n=1, cutoff=MISSPELT)
    ]
    has_matrix = bool({"filtered", "unfiltered"} & set(header))
    # a sheet without matrices is told so, not that the column with their paths is unknown
    extra = [column for column in unknown if column not in misspelt and has_matrix]
    for column in [*misspelt, *(column for column in extra if not EXTRA.fullmatch(column) or column in TAKEN)]:
        raise UserError(
            f"The samplesheet has an unknown column '{column}'",
            where=f"{name}, line {header_line}",
            found=", ".join(header),
            expected=nearest(column, list(columns))
            if column in misspelt
            else "a name of letters, digits, spaces and _ . ( ) % + - that no column of the results has",
            fix="rename or remove the column",
        )
    for column in [*columns, *extra]:
        if header.count(column) > 1:
            raise UserError(
                f"The samplesheet has the column '{column}' twice",
                where=f"{name}, line {header_line}",
                found=", ".join(header),
                expected="each column once",
                fix="remove one of them",
            )
    if "sample" not in header or not has_matrix:
        fix = "add the column"
        first = dict(zip(header, rows[0][1], strict=False)) if rows else {}
        paths = sorted(unknown, key=lambda column: not re.search(r"[/\\.]", first.get(column, "")))
        if paths and not has_matrix:
            fix = (
                f"if '{paths[0]}' has the matrices, rename it to 'filtered' (counts of cells) or 'unfiltered' (of "
                "all barcodes)"
            )
        raise UserError(
            "The samplesheet lacks a column",
            where=f"{name}, line {header_line}",
            found=", ".join(header),
            expected="'sample', and 'filtered' or 'unfiltered' or both",
            fix=fix,
        )
    if not rows:
        raise UserError(
            "The samplesheet lists no sample",
            where=name,
            found="only a header line",
            expected="one line per sample",
            fix="add the samples",
        )

    validator = Draft202012Validator(schema["items"])
    samples: list[Row] = []
    lines_by_sample: dict[str, int] = {}
    for number, fields in rows:
        if len([f for f in fields if f]) and any(fields[len(header) :]):
            raise UserError(
                "A line of the samplesheet has more fields than the header",
                where=f"{name}, line {number}",
                found=f"{len(fields)} fields",
                expected=f"{len(header)} fields",
                fix="quote fields that hold a comma",
            )
        row = {
            column: _typed(value, columns[column]["type"])
            for column, value in zip(header, fields, strict=False)
            if value and column in columns
        }
        others = {column: value for column, value in zip(header, fields, strict=False) if column in extra}
        for mistake in sorted(validator.iter_errors(row), key=lambda e: list(map(str, e.path))):
            if mistake.validator == "anyOf":
                column, found, wanted = "filtered", "no matrix", "'filtered', 'unfiltered' or both"
            elif mistake.validator == "required":
                column, found, wanted = "sample", "nothing", columns["sample"]["errorMessage"]
            else:
                column = str(mistake.path[0])
                found, wanted = json.dumps(mistake.instance, ensure_ascii=False), _expectation(mistake)
            raise UserError(
                f"The samplesheet's column '{column}' has an invalid value",
                where=f"{name}, line {number}, column {column}",
                found=found,
                expected=wanted,
                fix=f"{column}: {columns[column]['description']}",
            )
        for column in ("filtered", "unfiltered"):
            scheme = URL.match(row.get(column, ""))
            if scheme and scheme[1].lower() not in STORES:
                raise UserError(
                    f"The samplesheet's column '{column}' has a URL of an unsupported kind",
                    where=f"{name}, line {number}, column {column}",
                    found=row[column],
                    expected=f"a path, or an address in a cloud's store ({', '.join(f'{s}://' for s in STORES)})",
                    fix="download the matrix, check it against its checksum, and give the path",
                )
        carried = {column: row.get(column, "") for column in ("batch", "condition", "donor")} | others
        for column, value in carried.items():
            if strange := strange_name(value):
                raise UserError(
                    f"The samplesheet's column '{column}' has a formula or control characters",
                    where=f"{name}, line {number}, column {column}",
                    found=f"{value[:60]!r} {strange}",
                    expected="text without control characters that does not begin as a formula",
                    fix="write it another way",
                )
        # file names must differ on case-insensitive file systems too
        key = row["sample"].lower()
        if key in RESERVED:
            raise UserError(
                f"No sample can be called '{row['sample']}'",
                where=f"{name}, line {number}, column sample",
                found=row["sample"],
                expected=f"a name other than {' and '.join(RESERVED)}, which name files of the results",
                fix="rename the sample",
            )
        if key in lines_by_sample:
            raise UserError(
                f"Two samples have the name '{row['sample']}'",
                where=f"{name}, lines {lines_by_sample[key]} and {number}, column sample",
                found=row["sample"],
                expected="a different name for each sample",
                fix="rename one, or join the matrices of one sample before the run",
            )
        lines_by_sample[key] = number
        own = {"extra": {column: others.get(column, "") for column in extra}} if extra else {}
        samples.append({**row, **own, "line": number})
    return samples


def _typed(value: str, wanted: str) -> Any:
    """The field as the schema's type; as text when it is none, for the schema to refuse."""
    kinds = {"integer": int, "number": float}
    if wanted not in kinds:
        return value
    try:
        number = kinds[wanted](value)
    except ValueError:
        return value
    # JSON has no NaN and no infinity, and every bound lets NaN pass
    return number if math.isfinite(number) else value
