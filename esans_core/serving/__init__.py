"""Serving a trained model: exported towers, an index of the items, and the bundle of both on disk.

The pip extra `serving` is for this folder: pyarrow may be imported here, and faiss inside the functions that need it.
The modules `http_*` and `__main__` are the HTTP server, which needs the extra `http`; no other module imports them.
It may import every module of the library but those of `esans_core.clusters`. Training needs nothing from here.
"""
