"""Command-line programs of the pipeline: each reads dated tables, writes dated tables, and can be run by hand."""
