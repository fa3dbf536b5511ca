"""A Redis of our own: what it was told, it keeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from redis import Redis

from moda_core.errors import Conflict, Unavailable
from worker import embedded
from worker.embedded import EmbeddedRedis, free_port, redis_server


def value(redis):
    with Redis.from_url(redis.url, decode_responses=True) as client:
        return client.get("key")


def write(redis):
    with Redis.from_url(redis.url) as client:
        client.set("key", "kept")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_answered_survives_the_server(tmp_path, end):
    with EmbeddedRedis(tmp_path / "redis") as redis:
        write(redis)
        os.kill(redis.pid, end)
        while redis.exited() is None:
            time.sleep(0.01)
        port = redis.port
        redis.start()
        assert (value(redis), redis.port) == ("kept", port)


def test_it_stops_and_starts_anew_on_the_same_folder(tmp_path):
    with EmbeddedRedis(tmp_path) as redis:
        write(redis)
    assert redis.pid is None
    with EmbeddedRedis(tmp_path, port=free_port()) as other:
        assert value(other) == "kept"


def test_it_listens_on_this_machine_alone_and_syncs_every_write(tmp_path):
    with EmbeddedRedis(tmp_path) as redis, Redis.from_url(redis.url, decode_responses=True) as client:
        settings = client.config_get("*")
    wanted = {"bind": "127.0.0.1", "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    assert {name: settings[name] for name in wanted} == wanted


def test_one_server_per_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_LOCK_TIMEOUT_S", 0.1)
    with EmbeddedRedis(tmp_path) as redis:
        write(redis)
        with pytest.raises(Conflict, match="another Redis keeps its files"):
            EmbeddedRedis(tmp_path).start()
        assert value(redis) == "kept"


def test_a_taken_port_is_said(tmp_path):
    with EmbeddedRedis(tmp_path / "one") as redis:
        with pytest.raises(Unavailable, match=r"Redis did not start: .*(in use|listen)"):
            EmbeddedRedis(tmp_path / "two", port=redis.port).start()
        assert redis.exited() is None


def test_a_server_can_be_named(tmp_path, monkeypatch):
    named = tmp_path / "redis-server"
    named.symlink_to(redis_server())
    monkeypatch.setenv("MODA_REDIS_SERVER", str(named))
    assert redis_server() == str(named)
    with EmbeddedRedis(tmp_path / "redis") as redis:
        write(redis)
        assert value(redis) == "kept"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the Linux kernel")
def test_it_ends_with_a_parent_that_was_killed(tmp_path):
    program = (
        "import pathlib, sys, time; from worker.embedded import EmbeddedRedis; redis = EmbeddedRedis(pathlib.Path("
        "sys.argv[1])); redis.start(); print(redis.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        os.kill(int(parent.stdout.readline()), 0)
        parent.kill()
    with EmbeddedRedis(tmp_path) as redis:
        assert redis.exited() is None, "its folder is free again"
