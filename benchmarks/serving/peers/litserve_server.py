"""LitServe: images read by a FastAPI dependency in both forms, batches of what is queued.

    python -m benchmarks.serving.peers.litserve_server PORT BATCH

LitServe's own multipart reader would send the form through a pickle to the worker; the dependency hands over the
bytes alone, which is less work. A batch waits for nobody, which is LitServe's default and answers most requests; its
worker then asks its queue without a pause, and takes a core whether there is work or not.
"""

import os
import sys
from typing import Annotated, Any

import litserve
from fastapi import Depends, Request

from benchmarks.serving.peers.classifiers import answers, loaded

__all__ = ["Classifier", "main"]


async def _image(request: Request) -> tuple[str, bytes]:
    key = request.query_params["model"]
    if request.headers["content-type"].startswith("image/"):
        return key, await request.body()
    async with request.form() as form:
        return key, await form["image"].read()  # type: ignore[union-attr]


class Classifier(litserve.LitAPI):  # type: ignore[misc] # mypy runs where no peer is installed
    """Pixels to label and probabilities."""

    def setup(self, device: str) -> None:  # noqa: ARG002 # LitServe names it
        """Load what the first request will ask for."""
        loaded("tiny-module")

    def decode_request(self, request: Annotated[tuple[str, bytes], Depends(_image)]) -> tuple[str, bytes]:
        """The image as the dependency read it."""
        return request

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Requests stay apart until their pictures are decoded."""
        return inputs

    def predict(self, x: Any) -> Any:
        """Of a batch, or of one request where there is no batching."""
        return answers(x) if isinstance(x, list) else answers([x])[0]

    def unbatch(self, output: list[Any]) -> list[Any]:
        """One answer each."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As JSON."""
        return output


def main() -> None:
    """The server."""
    port, batch, workers = int(sys.argv[1]), int(sys.argv[2]), int(os.environ["MODA_BENCH_WORKERS"])
    api = Classifier(max_batch_size=batch, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=workers, timeout=120)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
