"""librdkafka sends EndTxn again by itself, and the first one, late, ends the next transaction.

The broker (GIMBAL_TEST_KAFKA) must advertise GIMBAL_TEST_KAFKA_PROXY (host:port), where this script listens:
    GIMBAL_LAB_KAFKA_ADVERTISED=127.0.0.1:29193 scripts/lab.sh start kafka
The proxy passes everything on, and holds back one EndTxn.
"""

import json
import logging
import socket
import struct
import threading
import time
import uuid

from confluent_kafka import Producer

from broker import Broker, outcome
from lab import eventually, finish, server, verdict

END_TXN = 26  # key of the request in Kafka's protocol
SUSPECT_MS = 80  # 0.8 × retry.backoff.ms: the pause before a resend, less its jitter


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


class Proxy:
    """Holds back the next EndTxn when armed: its client sees a lost connection, and the request is still on its way."""

    def __init__(self, front, back):
        self.front, self.back = front, back
        self.armed, self.held, self.versions = False, None, []
        threading.Thread(target=self.listen, daemon=True).start()

    def arm(self):
        self.armed, self.held = True, None

    def deliver(self):
        """The held request reaches the broker at last."""
        connection, request = self.held
        connection.sendall(request)

    def listen(self):
        with socket.create_server(self.front) as listener:
            while True:
                client, _ = listener.accept()
                try:
                    broker = socket.create_connection(self.back)
                except OSError:
                    client.close()
                    continue
                threading.Thread(target=self.requests, args=(client, broker), daemon=True).start()
                threading.Thread(target=self.replies, args=(broker, client), daemon=True).start()

    def requests(self, client, broker):
        try:
            while True:
                header = exactly(client, 4)
                body = exactly(client, struct.unpack(">i", header)[0])
                key, version = struct.unpack(">hh", body[:4])
                if key == END_TXN:
                    self.versions.append(version)
                    if self.armed:
                        self.armed, self.held = False, (broker, header + body)
                        client.shutdown(socket.SHUT_RDWR)
                        client.close()
                        return
                broker.sendall(header + body)
        except OSError:
            pass

    def replies(self, broker, client):
        try:
            while data := broker.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        for side in (broker, client):
            side.close()


def exactly(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


class Watched:
    """Producers of one transactional id, and everything that the library says about them."""

    def __init__(self, bootstrap):
        self.bootstrap, self.id = bootstrap, uuid.uuid4().hex[:6]
        self.errors, self.lines, self.statistics = [], [], {}
        self.logger = logging.Logger("librdkafka")
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append(record.getMessage())
        self.logger.addHandler(handler)

    def producer(self):
        config = {
            "bootstrap.servers": self.bootstrap,
            "transactional.id": self.id,
            "linger.ms": 0,
            "log_level": 6,
            "statistics.interval.ms": 50,
            "error_cb": lambda error: self.errors.append(error.name()),
            "stats_cb": self.note_statistics,
        }
        p = Producer(config, logger=self.logger)
        p.init_transactions(30)
        return p

    def note_statistics(self, text):
        for name, broker in json.loads(text)["brokers"].items():
            self.statistics[name] = broker["txretries"] + broker["disconnects"]

    def forget(self):
        self.errors.clear()
        self.lines.clear()
        self.before = dict(self.statistics)

    def hints(self):
        """Lost connections to the transaction coordinator in the log, and the growth of its counters."""
        log = [line for line in self.lines if "TxnCoordinator" in line and ("FAIL" in line or "REQTMOUT" in line)]
        grown = {name: n - self.before.get(name, 0) for name, n in self.statistics.items() if n > self.before.get(name, 0)}
        return log, grown


def polled(p, condition):
    """The condition, after the producer's callbacks have run."""
    p.poll(0.05)
    return condition()


class Scene:
    """Transaction 1: EndTxn held back, sent again by the library. Transaction 2: one record, then the late EndTxn arrives,
    before the checkpoint."""

    def __init__(self, broker, proxy, new_producer):
        topic = f"p11b.{uuid.uuid4().hex[:6]}"
        broker.create(topic)
        watched = Watched(broker.address)
        p = watched.producer()
        p.begin_transaction()
        p.produce(topic, "1")
        p.flush(10)
        eventually(lambda: polled(p, lambda: watched.statistics), 5)
        watched.forget()
        sent, start = len(proxy.versions), time.time()
        proxy.arm()
        self.commit = outcome(lambda: p.commit_transaction(30))
        self.milliseconds = round(1000 * (time.time() - start))
        eventually(lambda: polled(p, lambda: all(watched.hints())), 5)
        self.sent = len(proxy.versions) - sent
        self.errors, (self.log, self.grown) = list(watched.errors), watched.hints()

        if new_producer:
            p = watched.producer()
        p.begin_transaction()
        p.produce(topic, "2")
        p.flush(10)
        proxy.deliver()
        self.early, _ = broker.committed(topic, seconds=2)
        p.produce(topic, "checkpoint 2")
        self.end = outcome(lambda: (p.flush(10), p.commit_transaction(20)))
        self.final, _ = broker.committed(topic, seconds=2)


def main():
    front = server("GIMBAL_TEST_KAFKA_PROXY")
    proxy = Proxy(address(front), address(server("GIMBAL_TEST_KAFKA")))
    broker = Broker(front)
    eventually(lambda: broker.admin.list_topics(timeout=2))

    same = Scene(broker, proxy, new_producer=False)
    claim = "commit_transaction() returns success although EndTxn left twice"
    verdict(claim, same.commit == "ok" and same.sent == 2, f"EndTxn v{proxy.versions[-1]}, {same.milliseconds} ms")
    claim = "same producer: the late EndTxn commits the next transaction before its checkpoint"
    verdict(claim, same.early == ["1", "2"], f"visible early {same.early}, then commit: {same.end}, at the end {same.final}")
    claim = "the error callback is silent about it; statistics, the log line FAIL and the time tell"
    told = same.grown and same.log and same.milliseconds >= SUSPECT_MS
    verdict(claim, not same.errors and told, f"txretries + disconnects grew by {same.grown}; log {same.log}")

    fresh = Scene(broker, proxy, new_producer=True)
    good = (fresh.early, fresh.end, fresh.final) == (["1"], "ok", ["1", "2", "checkpoint 2"])
    verdict("new producer first: the late EndTxn is fenced", good, (fresh.early, fresh.end, fresh.final))
    finish()


main()
