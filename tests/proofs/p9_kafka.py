"""A compacted state topic written in the transaction: what hides the newest checkpoint, and what fencing does in which order."""

import time

from confluent_kafka import IsolationLevel, Producer
from confluent_kafka.admin import ConfigResource, ResourceType

from broker import RUN, Broker, outcome
from lab import eventually, finish, server, verdict

STATE, DATA, AUTOMATIC = f"p9.state.{RUN}", f"p9.data.{RUN}", f"p9.automatic.{RUN}"
FENCED = ("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH")
broker = Broker(server("GIMBAL_TEST_KAFKA"))


def producer(name, timeout_ms=60_000):
    """A producer that has fenced its predecessors of the same name."""
    config = {"transactional.id": f"p9.{name}.{RUN}", "transaction.timeout.ms": timeout_ms, "linger.ms": 0}
    p = Producer({"bootstrap.servers": broker.address, **config})
    p.init_transactions(30)
    return p


def checkpoint(p, n):
    p.begin_transaction()
    p.produce(DATA, key="k", value=f"v{n}")
    p.produce(STATE, key="position", value=str(n))
    p.flush(10)
    p.commit_transaction(10)


def left_open(p, value):
    """A transaction that nobody ends."""
    p.begin_transaction()
    p.produce(STATE, key="position", value=value)
    p.flush(10)


def stable_end():
    return broker.end(STATE, IsolationLevel.READ_COMMITTED)


def high_watermark():
    return broker.end(STATE, IsolationLevel.READ_UNCOMMITTED)


def newest(until, seconds=10):
    values, reached = broker.committed(STATE, until, seconds)
    return (values[-1] if values else None), reached


def foreign_transaction():
    a = producer("A")
    checkpoint(a, 1)
    left_open(producer("foreign", timeout_ms=4_000), "hanging")
    checkpoint(a, 2)
    checkpoint(a, 3)
    value, _ = newest(stable_end())
    claim = "an open transaction of another id hides newer committed checkpoints from read_committed 'to the end'"
    verdict(claim, value == "1", f"newest committed is 3, read {value}; stable end {stable_end()}, high watermark {high_watermark()}")
    value, reached = newest(high_watermark(), seconds=1)
    verdict("reading to the high watermark does not get there either: the reader must wait, and say so", value == "1" and not reached)
    start = time.time()
    eventually(lambda: stable_end() == high_watermark(), 60)
    value, _ = newest(stable_end())
    verdict("after the broker has ended it, all is visible", value == "3", f"{time.time() - start:.0f} s")
    return a


def own_zombie(a):
    checkpoint(a, 4)
    left_open(a, "5, not committed")
    b = producer("A")
    end = high_watermark()
    value, reached = newest(end)
    claim = "after init_transactions of the same id: stable end = high watermark, and the newest committed checkpoint is read"
    verdict(claim, stable_end() == end and value == "4" and reached, f"read {value}")
    zombie = outcome(lambda: a.commit_transaction(10))
    verdict("the zombie's commit fails", zombie in FENCED, zombie)
    checkpoint(b, 5)
    return b


def order_of_starting(healthy):
    mistaken = producer("A")
    result = outcome(lambda: checkpoint(healthy, 6))
    verdict("init_transactions first: a mistaken second daemon kills the healthy one that holds the slot", result in FENCED, result)
    checkpoint(mistaken, 6)
    value, _ = newest(high_watermark())
    checkpoint(mistaken, 7)  # the old instance is still at work
    producer("A")
    later, _ = newest(high_watermark())
    verdict("state read before fencing can be stale at once", (value, later) == ("6", "7"), f"read {value}, then {later}")


def limits():
    slow = producer("slow", timeout_ms=2_000)
    left_open(slow, "open for too long")
    eventually(lambda: stable_end() == high_watermark(), 60)
    result = outcome(lambda: (slow.produce(DATA, value="more"), slow.flush(10), slow.commit_transaction(10)))
    verdict("a Kafka transaction that is open longer than transaction.timeout.ms is lost", result != "ok", result)
    result = outcome(lambda: producer("greedy", timeout_ms=900_001))
    verdict("transaction.timeout.ms above the broker's maximum (900 s) is refused at the start", result != "ok", result)
    p = Producer({"bootstrap.servers": broker.address})
    p.produce(AUTOMATIC, value="x")
    p.flush(10)
    described = broker.admin.describe_configs([ConfigResource(ResourceType.TOPIC, AUTOMATIC)])
    policy = next(iter(described.values())).result()["cleanup.policy"].value
    verdict("a state topic that the broker makes by itself would lose the checkpoint to retention", policy == "delete", policy)


broker.create(STATE, cleanup_policy="compact", segment_bytes="1048576", min_cleanable_dirty_ratio="0.01")
broker.create(DATA, partitions=2)
order_of_starting(own_zombie(foreign_transaction()))
limits()
broker.admin.delete_topics([STATE, DATA, AUTOMATIC])
finish()
