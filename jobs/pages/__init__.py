"""What all pages have in common: their templates, in HTML and Markdown, and the words for models, verdicts and numbers.

May import: base.
"""
