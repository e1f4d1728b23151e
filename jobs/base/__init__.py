"""What every other room stands on: settings, errors, places and files, locks, verdicts, sessions of Spark and MLflow.

May import: no other room.
"""
