"""Serving a trained model: exported towers, an index of the items, and the bundle of both on disk.

The pip extra `serving` is for this folder: pyarrow may be imported here, and faiss inside the functions that need it.
It may import every module of the library but those of `esans_core.clusters`. Training needs nothing from here.
"""
