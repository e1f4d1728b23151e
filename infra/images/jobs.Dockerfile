# Image of everything that computes: Airflow's tasks, Spark's driver, master, workers and executors, training, MLflow's server.
# Build it from the repository's root:
#     docker build -f infra/images/jobs.Dockerfile -t esans-jobs:local .
# For GPUs, with the CUDA build of torch that PyPI has (some GB more):
#     docker build -f infra/images/jobs.Dockerfile --build-arg TORCH_INDEX= -t esans-jobs:local-cuda .
# For tables in an object store, with the jars that infra/clusters/spark/s3a.conf and its like ask for:
#     ... --build-arg STORE_PACKAGES=org.apache.spark:spark-hadoop-cloud_2.13:4.2.0
# The tag names a patch release; to pin the bytes as well: --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS environment
# PyTorch's own index of CPU builds, or of one CUDA version (.../whl/cu130); empty: what PyPI has.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /build
COPY requirements.in requirements.txt infra/images/extra.in infra/images/extra.txt ./
# Leaves out what requirements.in lists under Development.
RUN sed '/^# Development/,$d' requirements.in > jobs.in \
    && python -m venv /opt/esans/.venv \
    && /opt/esans/.venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
        -c requirements.txt -c extra.txt -r jobs.in -r extra.in

FROM ${PYTHON_IMAGE} AS runtime
# Debian withdraws superseded versions, so a pinned one could not be built again. The base image pins the release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 50000 --gid 0 --create-home --home-dir /home/esans esans \
    && mkdir -p /opt/airflow/logs /data/esans /scratch \
    && chown -R 50000:0 /opt/airflow /data/esans /home/esans /scratch \
    && chmod -R g=u /opt/airflow /data/esans /home/esans /scratch
COPY --from=environment /opt/esans/.venv /opt/esans/.venv
ENV PATH=/opt/esans/.venv/bin:$PATH \
    PYTHONPATH=/opt/esans \
    PYTHONUNBUFFERED=1 \
    HOME=/home/esans \
    PYSPARK_PYTHON=/opt/esans/.venv/bin/python \
    PYSPARK_DRIVER_PYTHON=/opt/esans/.venv/bin/python \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    ESANS_HOME=/data/esans \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/esans/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/esans/dags/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    GX_ANALYTICS_ENABLED=false

FROM runtime AS jars
ARG STORE_PACKAGES=
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Spark fetches packages when a session starts. Hadoop's client comes with Spark, so it is not needed twice.
RUN mkdir -p /jars/jars \
    && if [ -n "$STORE_PACKAGES" ]; then STORE_PACKAGES="$STORE_PACKAGES" python -c "import os; \
from pyspark.sql import SparkSession as S; \
S.builder.config('spark.jars.packages', os.environ['STORE_PACKAGES']).config('spark.jars.ivy', '/jars').getOrCreate().stop()"; fi \
    && rm -f /jars/jars/org.apache.hadoop_hadoop-client-*

FROM runtime
COPY --from=jars /jars/jars/ /opt/esans/.venv/lib/python3.11/site-packages/pyspark/jars/
COPY infra/images/spark-executor.sh /opt/esans/spark-executor.sh
COPY esans_core /opt/esans/esans_core
COPY jobs /opt/esans/jobs
COPY dags /opt/esans/dags
WORKDIR /opt/esans
# Group 0 has the same rights as the user, so that any user id can run the image with that group.
USER 50000:0
# It serves nothing by itself; whoever starts a server in it says how to look after it (compose.yaml, mlflow.yaml).
HEALTHCHECK NONE
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "jobs.prepare", "--help"]
