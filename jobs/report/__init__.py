"""The pages that people read: report, summary, history, and what a reviewer sees (`python -m jobs.report`).

May import: base, lake, step, source, clusters, gates, serving, pages, registry.
"""
