"""wrk: its output read, and its script's requests understood by a server that was not written for it."""

import shutil
import threading
from contextlib import contextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.serving.load import Load, Loaded, parsed

OUTPUT = """\
Running 1s test @ http://127.0.0.1:8000/predict?model=tiny
  1 threads and 8 connections
  800 requests in 1.00s, 200.00KB read
Requests/sec:    800.00
RESULT {"duration_us": 1000000, "requests": 800, "p50_us": 9500, "p99_us": 20250, "connect": 1, "read": 2, "write": 0, "status": 30, "timeout": 4}
"""
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (package wrk)")


def test_good_answers_errors_and_percentiles_are_read():
    found = parsed(OUTPUT)
    assert found == Loaded(duration_s=1.0, requests=770, p50_ms=9.5, p99_ms=20.25, errors=37)
    assert found.rate == 770


def test_a_run_that_failed_says_why():
    with pytest.raises(RuntimeError, match="unable to connect"):
        parsed("unable to connect to 127.0.0.1:1 Connection refused\n")


class Recorder(BaseHTTPRequestHandler):
    """Answers with the status that the path names, and keeps the first request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.headers["Content-Type"], body))
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@contextmanager
def recording():
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def load(server, tmp_path, *, form="raw", field="", status=200):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\0 not really \xff")
    url = f"http://127.0.0.1:{server.server_address[1]}/{status}"
    return Load(url=url, form=form, picture=picture, field=field, connections=2, seconds=1)


def parts(content_type: str, body: bytes) -> dict[str, bytes]:
    message = BytesParser(EmailMessage).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.get_payload()
    }


@needs_wrk
def test_a_raw_body_is_the_picture(tmp_path):
    with recording() as server:
        found = load(server, tmp_path).run()
        assert server.seen[0] == ("image/png", (tmp_path / "picture.png").read_bytes())
    assert found.requests > 0
    assert found.errors == 0
    assert 0 < found.p50_ms <= found.p99_ms


@needs_wrk
def test_a_form_holds_the_picture_and_the_model_where_one_is_named(tmp_path):
    with recording() as server:
        load(server, tmp_path, form="multipart", field="tiny").run()
        content_type, body = server.seen[0]
        assert parts(content_type, body) == {"model": b"tiny", "image": (tmp_path / "picture.png").read_bytes()}
    with recording() as server:
        load(server, tmp_path, form="multipart").run()
        assert set(parts(*server.seen[0])) == {"image"}


@needs_wrk
def test_answers_of_400_and_above_are_errors(tmp_path):
    with recording() as server:
        found = load(server, tmp_path, status=503).run()
    assert found.requests == 0
    assert found.errors > 0
