"""The leave-one-type-out table in words. Apart from `leave_out`, so that the report reads it without torch."""

from typing import Any

CAUGHT = 0.5
"""A missing type is called caught when at least this share of its cells is Unknown."""


def outcome(row: dict[str, Any]) -> str:
    """What becomes of a type that the reference lacks, from its row: ``caught``, or ``mistaken for`` another."""
    return "caught" if row["caught"] >= CAUGHT else f"mistaken for {row['mistaken_for']}"


def leave_one_out_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The table as lines of the training log."""
    return [
        f"without {row['cell_type']}: {outcome(row)} ({100 * row['caught']:.0f} % of {row['cells']} cells Unknown, "
        f"AUROC {row['auroc']:.3f})"
        for row in rows
    ]
