"""The real Airflow on one machine: api-server, scheduler and DAG processor on loopback, SQLite, LocalExecutor."""
