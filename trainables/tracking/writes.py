"""Single writes to a run in MLflow, and what decides whether they are needed."""

import contextlib
import datetime
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.space import Value
from trainables.study.outcome import TIMESTAMP_FORMAT


def log_params(client: Any, run_id: str, params: Mapping[str, Value]) -> None:
    """Log parameters; logging the same values again is allowed."""
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])


def log_file(client: Any, run_id: str, path: str, data: bytes) -> None:
    """Log a file as an artifact of a run.

    Raises:
        OSError: the temporary folder cannot be written, or MLflow raised it.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / Path(path).name
            file.write_bytes(data)
        except OSError as error:
            place = tempfile.gettempdir()
            raise OSError(f"cannot write to the temporary folder {place}: {error.strerror}; set TMPDIR to another") from None
        parent = str(Path(path).parent)
        client.log_artifact(run_id, str(file), None if parent == "." else parent)


def value_at(client: Any, run_id: str, name: str, step: int) -> float | None:
    """The newest value of a metric at a step."""
    values = [m for m in client.get_metric_history(run_id, name) if m.step == step]
    return max(values, key=lambda m: m.timestamp).value if values else None


def milliseconds(when: str) -> int:
    """A time of a revision in milliseconds since the epoch."""
    return int(datetime.datetime.strptime(when, TIMESTAMP_FORMAT).timestamp() * 1000)
