"""SpikGPT: cell type annotation with scGPT embeddings, spiking self-attention and Unknown rejection.

The package travels with ``bin/`` to every executor; the scripts beside it are thin command lines over it.
Its folders are the subworkflows of ``main.nf``, in the order in which data pass through them. A folder imports
``base`` and the folders before it, never one after it; ``cli`` is imported by the scripts alone.
"""

__version__ = "0.1.0"

UNKNOWN = "Unknown"
"""The one word for a rejected cell, in every table, plot and file."""
