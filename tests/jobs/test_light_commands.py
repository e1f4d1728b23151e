"""Which commands start without the libraries that take longest to load, because a step of seconds should not wait for them."""

import subprocess
import sys

import pytest

PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(sorted({"torch", "faiss", "sklearn"} & set(sys.modules)))
"""


@pytest.mark.mlflow
def test_commands_that_move_or_show_versions_do_not_load_what_trained_them() -> None:
    commands = ("judge", "promote", "promote_version", "publish_champion", "rollback", "report.__main__", "review_page")
    names = [f"jobs.{command}" for command in commands]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
