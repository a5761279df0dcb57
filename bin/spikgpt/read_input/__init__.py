"""READ_INPUT: samplesheet, count matrices and a labelled reference, checked before any heavy work."""
