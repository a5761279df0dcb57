"""Sections of docs/benchmarks.md: each module renders the JSON of its own name from docs/benchmarks/.

A module has ``render(figures) -> str``, Markdown that begins with a second-level heading, and, where it draws,
``pictures(figures) -> dict[str, Figure]``, by file name. Prose is written here; every number comes from the JSON.
"""
