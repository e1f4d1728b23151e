"""The Airflow DAGs: they wire the jobs together and hold no logic of their own."""
