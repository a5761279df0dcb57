"""Clusters without a second opinion, and labels that are compared with none: for tests of all else."""

from collections import defaultdict

from spikgpt.cohort.second_opinion import NOTHING, Conflicts, Likeness

SILENT: defaultdict[str, Likeness] = defaultdict(lambda: NOTHING)
# the library is asked for labels that mean a term alone, and there are none
UNCOMPARED = Conflicts(None, [], {})  # type: ignore[arg-type]
