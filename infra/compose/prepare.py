"""Makes what compose.yaml expects beside itself: `secrets/`, `store/`, `passwd` and `.env`. Needs nothing but Python 3.

    python3 -m infra.compose.prepare

Passwords and keys are drawn once, into files that only their owner can read, and are never printed. Files that are
there already stay as they are, so it is safe to run this again.
"""

import json
import os
import secrets
import shutil
import sys
from base64 import urlsafe_b64encode
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
USER = "admin"
_IMAGE_USER = 50000  # the user of both images; it runs everything if the folder belongs to root


def main(folder: Path = FOLDER) -> int:
    """Make what is missing in a folder; returns the exit status."""
    target = folder / "secrets"
    owner = os.getuid() or _IMAGE_USER
    if target.exists():
        print(f"{target} is there already; it stays as it is. Remove it, and the volumes, to start anew.")
    else:
        draft = folder / f".secrets-{secrets.token_hex(4)}"
        draft.mkdir(mode=0o700)
        try:
            for name, text in contents().items():
                _write_private(draft / name, text, owner)
            os.chown(draft, owner, -1)
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        print(f"made {target}: sign in to Airflow as '{USER}' with the password in {target / 'airflow_users'},")
        print(f"and to MLflow as '{USER}' with the one in {target / 'mlflow_credentials'}")
    store = folder / "store"
    if not store.exists():
        store.mkdir(mode=0o700)
        os.chown(store, owner, -1)
    users = {"root": 0, "esans": owner}
    passwd = "".join(f"{name}:x:{uid}:0::/home/{name}:/bin/false\n" for name, uid in users.items())
    # Secrets are mounted as they are: only a container that runs as their owner can read them.
    for name, text in {".env": f"RUN_AS={owner}:0\n", "passwd": passwd}.items():
        if not (folder / name).exists():
            (folder / name).write_text(text)
    return 0


def contents() -> dict[str, str]:
    """Every secret file by its name in compose.yaml, drawn anew."""
    airflow, mlflow, admin, store = (secrets.token_urlsafe(24) for _ in range(4))
    identity = {"accessKey": "esans", "secretKey": store}
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return {
        "postgres_password": secrets.token_urlsafe(24),
        "airflow_database_password": airflow,
        "airflow_database_uri": f"postgresql+psycopg2://airflow:{airflow}@postgres/airflow",
        "airflow_fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "airflow_jwt_secret": secrets.token_hex(64),
        "airflow_api_secret_key": secrets.token_hex(32),
        "airflow_users": json.dumps({USER: secrets.token_urlsafe(18)}),
        "airflow_connections": "{}\n",  # for `esans_alerts`: see README.md
        "mlflow_database_password": mlflow,
        "mlflow_database_pgpass": f"postgres:5432:*:mlflow:{mlflow}\n",
        "mlflow_flask_key": secrets.token_hex(32),
        "mlflow_auth": "[mlflow]\ndefault_permission = READ\n"
        "database_uri = postgresql+psycopg2://mlflow@postgres/mlflow_users?passfile=/run/secrets/mlflow_database_pgpass\n"
        f"admin_username = {USER}\nadmin_password = {admin}\n",
        "mlflow_credentials": f"[mlflow]\nmlflow_tracking_username = {USER}\nmlflow_tracking_password = {admin}\n",
        "spark_properties": "".join(f"{name} {value}\n" for name, value in _spark().items()),
        "store_identities": json.dumps({"identities": [{"name": "esans", "credentials": [identity], "actions": actions}]}),
        "store_credentials": f"[default]\naws_access_key_id = esans\naws_secret_access_key = {store}\n",
        "gate_key": secrets.token_hex(32),
    }


def _spark() -> dict[str, str]:
    return {
        "spark.authenticate": "true",
        "spark.authenticate.secret": secrets.token_hex(32),
        "spark.master.rest.enabled": "false",
        "spark.ui.killEnabled": "false",
        # One task at a time on each worker for one job, so that steps that run side by side both get executors.
        "spark.executor.cores": "1",
        "spark.cores.max": "2",
        "spark.executor.memory": "1g",
        # For tables in the store, if ESANS_LAKE says so and the image has the jars. Credentials come from the file that
        # AWS_SHARED_CREDENTIALS_FILE names.
        "spark.hadoop.fs.s3a.endpoint": "http://store:8333",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.aws.credentials.provider": "software.amazon.awssdk.auth.credentials.ProfileCredentialsProvider",
    }


def _write_private(path: Path, text: str, owner: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    os.chown(path, owner, -1)


if __name__ == "__main__":
    sys.exit(main())
