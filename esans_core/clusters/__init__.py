"""Making clusters of items from their views: alignment, codebooks, repair, and the files of the index.

The pip extra `cluster` is for this folder: faiss may be imported here, inside the functions that need it.
It may import every module of the library but those of `esans_core.serving`. The index that draws are made from is outside.
"""
