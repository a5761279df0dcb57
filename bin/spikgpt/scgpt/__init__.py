"""scGPT cell embeddings: checkpoint, tokens, forward pass, and a check for unfamiliar tissues.

Method: Cui et al. 2024, Nature Methods 21:1470, https://doi.org/10.1038/s41592-024-02201-0.
"""
