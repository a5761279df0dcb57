"""The MultiQC report: custom content made from the steps' statistics and the cohort's tables."""
