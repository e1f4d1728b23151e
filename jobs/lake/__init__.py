"""The dated tables of the pipeline. They are written whole or not at all, and read whole, by item, by event or with Spark.

May import: base.
"""
