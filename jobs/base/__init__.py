"""What every other room needs: settings, errors, places and files, locks, verdicts, sessions of Spark and MLflow.

May import: no other room.
"""
