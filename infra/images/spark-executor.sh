#!/usr/bin/env bash
# The container of an executor's pod runs this. Spark on Kubernetes passes everything through the environment, and the word
# `executor` as an argument, because Spark's own images are for drivers as well.
set -euo pipefail

options=()
while IFS= read -r -d '' variable; do
    options+=("${variable#*=}")
done < <(env -0 | grep -z '^SPARK_JAVA_OPT_' | sort -z -V)

spark=$(python -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])')
exec java "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
    -cp "${SPARK_CONF_DIR:+$SPARK_CONF_DIR:}$spark/jars/*" \
    org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
    --driver-url "$SPARK_DRIVER_URL" \
    --executor-id "$SPARK_EXECUTOR_ID" \
    --cores "$SPARK_EXECUTOR_CORES" \
    --app-id "$SPARK_APPLICATION_ID" \
    --hostname "$SPARK_EXECUTOR_POD_IP" \
    --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" \
    --podName "$SPARK_EXECUTOR_POD_NAME"
