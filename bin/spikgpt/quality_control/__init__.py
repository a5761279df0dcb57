"""QUALITY_CONTROL: cells told from empty droplets, ambient RNA, doublets, and cells of poor quality."""
