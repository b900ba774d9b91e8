"""An S3 server of a test, from a package, on the loopback interface."""

import contextlib
import logging
from collections.abc import Iterator
from typing import NamedTuple

import boto3
from moto.server import ThreadedMotoServer


class Bucket(NamedTuple):
    """An empty bucket on a running server."""

    name: str
    address: str
    """HOST:PORT of the server."""

    def uri(self, folder: str) -> str:
        """The URI of a folder, as pyarrow takes it."""
        return f"s3://{self.name}/{folder}?endpoint_override={self.address}&scheme=http&region=us-east-1"

    def files(self) -> dict[str, bytes]:
        """The contents of all objects by name."""
        client = boto3.client("s3", endpoint_url=f"http://{self.address}", region_name="us-east-1")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        names = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return {name: client.get_object(Bucket=self.name, Key=name)["Body"].read() for name in names}


@contextlib.contextmanager
def running_bucket(name: str) -> Iterator[Bucket]:
    """Start a server with an empty bucket; the environment must contain credentials, which it does not check."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket=name)
        yield Bucket(name, f"{host}:{port}")
    finally:
        server.stop()
