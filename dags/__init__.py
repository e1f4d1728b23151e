"""The Airflow DAG: it wires the jobs together and holds no logic of its own."""
