"""Airflow's own hook for matters of the deployment: it decides which steps get a machine with a GPU.

Give it to the chart with `--set-file airflowLocalSettings=infra/helm/airflow_local_settings.py`. Airflow calls `task_policy`
for each task when it reads the DAGs. So the DAGs need not know where they run: they say `pool="gpu"`, and this file says what
that means here. The pod is laid over the chart's own pod template, whose volumes, environment and secrets stay.
"""

import os

from airflow.sdk import BaseOperator
from kubernetes.client import models as k8s

POOL = "gpu"
# For the machines with GPUs: the value of their label `pool`, and the image with a CUDA build of torch.
NODES = os.environ.get("GPU_NODE_POOL", "gpu")
IMAGE = os.environ.get("GPU_IMAGE")


def task_policy(task: BaseOperator) -> None:
    """Run the tasks of the pool `gpu` in a pod with one GPU."""
    if task.pool != POOL:
        return
    container = k8s.V1Container(
        name="base",
        image=IMAGE,
        resources=k8s.V1ResourceRequirements(
            requests={"cpu": "8", "memory": "32Gi"}, limits={"memory": "32Gi", "nvidia.com/gpu": "1"}
        ),
        # Containers get 64 MB of shared memory, which is less than NCCL or the workers of a data loader need.
        volume_mounts=[k8s.V1VolumeMount(name="shm", mount_path="/dev/shm")],
    )
    pod = k8s.V1PodSpec(
        containers=[container],
        node_selector={"pool": NODES},
        tolerations=[k8s.V1Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")],
        volumes=[k8s.V1Volume(name="shm", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit="8Gi"))],
    )
    task.executor_config = {**(task.executor_config or {}), "pod_override": k8s.V1Pod(spec=pod)}
