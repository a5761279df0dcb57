"""Import, quality control and cohort, as `qc_docs.py` writes them."""

from qc_docs import render

__all__ = ["render"]
