"""The environment variables of Airflow and the jobs when they run on one machine."""

import json
import os
import secrets
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
USER = "admin"
# Every process of a stack carries its home under this name, so that the stack can find them all again to stop them.
MARKER = "ESANS_LOCAL_STACK"
COMPONENT = "ESANS_LOCAL_COMPONENT"  # beside it: which of the components the process belongs to
# How many steps of one run are at work at a time. Slots beside these are for what must not wait behind a step.
PARALLEL_STEPS, GPU_SLOTS, HAND_SLOTS = 2, 1, 2


def load_secrets(folder: Path) -> dict[str, str]:
    """The keys and the passwords of one home: made once, kept in `<folder>/secrets.json`, readable only by the owner.

    `password` belongs to the user `admin` in Airflow, and `mlflow_password` to the same user in MLflow. The jobs know only the
    second.
    """
    path = folder / "secrets.json"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {}
    values = {
        "fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": secrets.token_hex(64),
        "session_key": secrets.token_hex(32),
        "password": secrets.token_urlsafe(18),
        "mlflow_password": secrets.token_urlsafe(18),
        "mlflow_session_key": secrets.token_hex(32),
        "postgres_password": secrets.token_urlsafe(18),
    } | kept
    if values != kept:
        write_private(path, json.dumps(values))
        write_private(folder / "passwords.json", json.dumps({USER: values["password"]}))
    return values


def stack_environment(
    home: Path,
    port: int,
    *,
    spark_master: str | None = None,
    spark_properties: Path | None = None,
    inherited: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment of every component, and through them of every job.

    Args:
        home: the pipeline's home folder, absolute; Airflow lives in `<home>/airflow`.
        port: loopback port of the api-server.
        spark_master: Spark master of the connection `spark_default`; None keeps an `AIRFLOW_CONN_SPARK_DEFAULT` that is
            set already, or takes `local[*]`.
        spark_properties: file with the Spark properties that this master asks for.
        inherited: the environment to start from, this process's own unless given.
    """
    folder, url = home / "airflow", f"http://127.0.0.1:{port}"
    keys = load_secrets(folder)
    start = dict(os.environ if inherited is None else inherited)
    # Another Airflow's configuration in the caller's shell must not reach this one, but the caller may say where metrics go.
    kept = {
        name: value
        for name, value in start.items()
        if not name.startswith(("AIRFLOW__", "AIRFLOW_CONFIG")) or name.startswith("AIRFLOW__METRICS__")
    }
    extra = {"properties-file": str(spark_properties)} if spark_properties else {}
    spark = json.dumps({"conn_type": "spark", "host": spark_master or "local[*]", "extra": extra})
    if spark_master is None:
        spark = start.get("AIRFLOW_CONN_SPARK_DEFAULT", spark)
    airflow = {
        "CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "CORE__PLUGINS_FOLDER": str(REPOSITORY / "dags" / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": str(PARALLEL_STEPS + GPU_SLOTS + HAND_SLOTS),
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": str(PARALLEL_STEPS),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "CORE__FERNET_KEY": keys["fernet_key"],
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": url,
        "API__SECRET_KEY": keys["session_key"],
        "API_AUTH__JWT_SECRET": keys["jwt_secret"],
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}?timeout=60",
        "LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # A changed file is parsed at once. Unchanged files would be parsed every 30 s, a tenth of the cost of a small run.
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # How long a worker may sleep before it sees that its step has ended and takes the next one (5 s by default).
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    bin_folder = str(Path(sys.executable).parent)
    return {
        **kept,
        **{f"AIRFLOW__{name}": value for name, value in airflow.items()},
        MARKER: str(home),
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW_CONN_SPARK_DEFAULT": spark,
        "ESANS_HOME": str(home),
        "ESANS_SCHEDULE": "",  # only the run that was asked for starts
        "PATH": os.pathsep.join([bin_folder, *filter(None, [start.get("PATH")])]),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [start.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        # Steps run side by side, and threads that spin while they wait for each other's core cost more than they bring: a
        # training epoch took 158 s with two steps of two threads on two busy cores, and about 20 s with one thread each.
        "OMP_NUM_THREADS": start.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // PARALLEL_STEPS))),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        # A proxy in the caller's shell must not stand between the components.
        "NO_PROXY": ",".join(filter(None, [start.get("NO_PROXY"), "127.0.0.1,localhost"])),
        "no_proxy": ",".join(filter(None, [start.get("no_proxy"), "127.0.0.1,localhost"])),
        "SPT_NOENV": "1",  # setproctitle would write over the environment, and with it over MARKER
    }


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from the first byte on. It appears whole or not at all."""
    unfinished = path.with_name(f".{path.name}-new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    unfinished.replace(path)
