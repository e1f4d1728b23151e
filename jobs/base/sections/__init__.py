"""The sections of the settings, a few to a file; they are imported from `jobs.base.settings` alone."""
