"""Runs the real Airflow on one machine: api-server, scheduler and DAG processor, on loopback and with the LocalExecutor."""
