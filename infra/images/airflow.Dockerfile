# Image of Airflow's own components, which read the DAGs and run no step: api-server, dag-processor, triggerer, and the
# scheduler of a KubernetesExecutor. Build it from the repository's root:
#     docker build -f infra/images/airflow.Dockerfile -t esans-airflow:local .
# It does not start from apache/airflow, because that pins other versions than requirements.txt, with which the jobs are tested.
# The tag names a patch release; to pin the bytes as well: --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS environment
WORKDIR /build
COPY requirements.txt infra/images/airflow.in infra/images/extra.txt ./
RUN python -m venv /opt/esans/.venv \
    && /opt/esans/.venv/bin/pip install --no-cache-dir -c requirements.txt -c extra.txt -r airflow.in \
    && /opt/esans/.venv/bin/pip install --no-cache-dir --no-deps -c requirements.txt apache-airflow-providers-apache-spark

FROM ${PYTHON_IMAGE}
# Debian withdraws superseded versions, so a pinned one could not be built again. The base image pins the release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 50000 --gid 0 --create-home --home-dir /home/esans esans \
    && mkdir -p /opt/airflow/logs \
    && chown -R 50000:0 /opt/airflow /home/esans \
    && chmod -R g=u /opt/airflow /home/esans
COPY --from=environment /opt/esans/.venv /opt/esans/.venv
COPY esans_core /opt/esans/esans_core
COPY jobs /opt/esans/jobs
COPY dags /opt/esans/dags
ENV PATH=/opt/esans/.venv/bin:$PATH \
    PYTHONPATH=/opt/esans \
    PYTHONUNBUFFERED=1 \
    HOME=/home/esans \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/esans/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/esans/dags/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
WORKDIR /opt/esans
# Group 0 has the same rights as the user, so that any user id can run the image with that group.
USER 50000:0
EXPOSE 8080
# This checks the api-server, which is the default. Other components bring checks of their own (compose.yaml, the chart's probes).
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/api/v2/monitor/health', timeout=5)"]
ENTRYPOINT ["tini", "--"]
CMD ["airflow", "api-server"]
