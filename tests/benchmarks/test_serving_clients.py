"""Clients that notice what becomes of each of their requests while a server ends."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.serving.clients import Ask, Clients


class Handler(BaseHTTPRequestHandler):
    """Answers, closes the connection without an answer, or answers and says that it closes, as the server has it now."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.set()
        if self.server.manner == "silent":
            self.close_connection = True
            return
        time.sleep(0.01)
        self.send_response(503 if self.server.manner == "full" else 200)
        self.send_header("Content-Length", "0")
        if self.server.manner == "closing":
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def server(manner="well"):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.manner, running.got = manner, threading.Event()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(running):
    return Ask(port=running.server_address[1], path="/predict", picture=b"picture")


@pytest.mark.parametrize(("manner", "status"), [("well", 200), ("full", 503)])
def test_one_request_has_a_status(manner, status):
    with server(manner) as running:
        assert ask(running).once() == status


@pytest.mark.parametrize(("manner", "kind"), [("well", "answered"), ("full", "refused"), ("silent", "lost")])
def test_requests_before_the_end_are_answered_refused_or_lost(manner, kind):
    with server(manner) as running, Clients(ask(running), 2) as clients:
        assert running.got.wait(5)
        time.sleep(0.1)
        fate = clients.fate()
    assert fate[kind] > 0
    assert sum(fate.counted.values()) == fate[kind]


def test_what_is_sent_after_the_end_and_not_answered_is_cut():
    with server() as running, Clients(ask(running), 2) as clients:
        assert running.got.wait(5)
        clients.told()
        time.sleep(0.1)
        running.manner = "silent"
        time.sleep(0.1)
        fate = clients.fate()
    assert fate["lost"] == 0
    assert fate["cut"] > 0


def test_a_server_that_says_that_it_closes_has_cut_nothing():
    with server() as running:
        clients = Clients(ask(running), 1).__enter__()
        assert running.got.wait(5)
        clients.told()
        running.manner = "closing"
        running.socket.close()
        time.sleep(0.2)
        fate = clients.fate()
        assert (fate["lost"], fate["cut"]) == (0, 0)
        assert fate["answered"] > 0
