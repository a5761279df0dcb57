"""SpikGPT: cell type annotation with scGPT embeddings, spiking self-attention and Unknown rejection.

The package travels with ``bin/`` to every executor; the scripts beside it are thin
command lines over it.
"""

__version__ = "0.1.0"

UNKNOWN = "Unknown"
"""The one word for a rejected cell, in every table, plot and file."""
