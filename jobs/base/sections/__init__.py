"""The sections of the settings, a few in each file. Import them from `jobs.base.settings`, not from here."""
