"""Scale benchmark: what a day costs as the catalogue and the log grow."""
