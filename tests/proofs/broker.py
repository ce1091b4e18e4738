"""What the proofs on Kafka share: topics, offsets, readers."""

import time
import uuid

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

RUN = uuid.uuid4().hex[:6]  # keeps two runs on one broker apart


class Broker:
    def __init__(self, address):
        self.address = address
        self.admin = AdminClient({"bootstrap.servers": address})

    def create(self, topic, partitions=1, **config):
        config = {name.replace("_", "."): value for name, value in config.items()}
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result()

    def end(self, topic, isolation):
        """The offset after the last record: READ_UNCOMMITTED the high watermark, READ_COMMITTED the last stable one."""
        asked = self.admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()}, isolation_level=isolation)
        return next(iter(asked.values())).result().offset

    def committed(self, topic, until=None, seconds=3):
        """(values that read_committed sees, whether offset `until` was reached); without `until` reads for `seconds`."""
        config = {"group.id": uuid.uuid4().hex, "isolation.level": "read_committed", "enable.auto.commit": False}
        consumer = Consumer({"bootstrap.servers": self.address, **config})
        consumer.assign([TopicPartition(topic, 0, 0)])
        values, end, reached = [], time.time() + seconds, False
        while time.time() < end and not reached:
            message = consumer.poll(0.1)
            if message is not None and not message.error():
                values.append(message.value().decode())
            reached = until is not None and consumer.position([TopicPartition(topic, 0)])[0].offset >= until
        consumer.close()
        return values, reached


def outcome(action):
    """`ok`, or the name of the Kafka error."""
    try:
        action()
        return "ok"
    except KafkaException as error:
        return error.args[0].name()
