"""One reader for each way in which tables are kept: text files, typed files, tables with a log of their own, and databases."""
