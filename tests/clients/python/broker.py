"""Starting, stopping and killing a broker process, and small things that every scenario needs."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid


class Broker:
    """One broker process with a data directory of its own; it keeps its port across restarts."""

    running = set()

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="oncelog-python-")
        self.port = 0
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        port_file = os.path.join(self.directory, "port")
        with open(os.path.join(self.directory, "stderr"), "ab") as stderr:
            self.process = subprocess.Popen(
                [
                    os.environ["ONCELOG_BIN"], "serve",
                    "--listen", self.address,
                    "--data-dir", os.path.join(self.directory, "data"),
                    "--port-file", port_file,
                ],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        Broker.running.add(self)
        for line in self.process.stdout:
            if "ready" in line:
                break
        else:
            with open(os.path.join(self.directory, "stderr")) as stderr:
                raise RuntimeError(f"the broker ended before it was ready:\n{stderr.read()[-2000:]}")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        with open(port_file) as file:
            self.port = int(file.read().strip().rpartition(":")[2])
        settle()

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()
        Broker.running.discard(self)

    def restart(self):
        self.kill()
        self.start()

    def stop(self):
        """SIGTERM; removes the data."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        Broker.running.discard(self)
        shutil.rmtree(self.directory, ignore_errors=True)

    @classmethod
    def stop_all(cls):
        for broker in list(cls.running):
            broker.process.kill()
            shutil.rmtree(broker.directory, ignore_errors=True)


def scenario(function):
    """Marks a scenario that may share a broker with others; it is handed the address."""
    function.own_broker = False
    return function


def scenario_with_own_broker(function):
    """Marks a scenario that stops and starts the broker; it is handed a `Broker` that is not started yet."""
    function.own_broker = True
    return function


def unique(name):
    return f"{name}-{uuid.uuid4().hex[:8]}"


def settle():
    """With APACHE_KAFKA set, waits where Apache Kafka, unlike oncelog, answers before all is in place: before the markers
    of a transaction are written, before the brokers know of a topic, before the coordinators are loaded."""
    time.sleep(1.5 if os.environ.get("APACHE_KAFKA") else 0)


def eventually(check, seconds=30, every=0.05):
    """The first true value of `check()`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f"not so within {seconds} s: {check.__name__}"
        time.sleep(every)
