"""Reads all committed records of a pipeline's topics with code that gimbal did not write: one JSON object a line.

    read_committed.py files FOLDER TOPIC…
    read_committed.py kafka BOOTSTRAP REGISTRY STATE_TOPIC TOPIC…

A record is {topic, partition, key, value, op, pos, ts, last}, in the order in which a reader gets it. Before the records
comes one object {"state": …}: the checkpoint's entries by key, as gimbal committed them.

Values have JSON's types only: decimals as text, dates as days and times as microseconds since 1970.
"""
import datetime
import decimal
import io
import json
import os
import struct
import sys
import urllib.request
import uuid

import fastavro

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MICROSECOND = datetime.timedelta(microseconds=1)
SILENCE = 30.0


def plain(value):
    """A value that JSON lacks, in one of its types."""
    if isinstance(value, datetime.datetime):
        return (value.replace(tzinfo=datetime.timezone.utc) - EPOCH) // MICROSECOND
    if isinstance(value, datetime.date):
        return (value - EPOCH.date()).days
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"no plain form for {type(value)}")


ENCODE = json.JSONEncoder(default=plain, check_circular=False).encode


def show(topic, partition, record, key, value):
    """Prints a record; `record` has what goes with key and value."""
    shown = {"topic": topic, "partition": partition, "key": key, "value": value, "op": record["op"]}
    print(ENCODE(shown | {"pos": record["pos"], "ts": record["ts"], "last": record["last"]}))


# ---- files ----------------------------------------------------------------------------------------------------------


def committed_bytes(folder, number, length):
    """The committed part of a file. A closed one may still have its open name; its end is the end of the file."""
    name = os.path.join(folder, f"{number:010}.avro")
    path = name if length is None and os.path.exists(name) else name + ".open"
    with open(path, "rb") as file:
        data = file.read() if length is None else file.read(length)
    assert length is None or len(data) == length, f"{path} is shorter than what is committed"
    return data


def read_file_topic(folder, topic, files):
    parts = [(number, None) for number in range(1, files["closed"]["files"] + 1)]
    if files["open"]:
        parts.append((files["closed"]["files"] + 1, files["open"]["bytes"]))
    count = 0
    for number, length in parts:
        for record in fastavro.reader(io.BytesIO(committed_bytes(os.path.join(folder, topic), number, length))):
            show(topic, 0, record, record["key"], record["value"])
            count += 1
    said = files["closed"]["records"] + (files["open"]["records"] if files["open"] else 0)
    assert count == said, f"{topic} has {count} records, the manifest says {said}"


def read_files(folder, topics):
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    print(json.dumps({"state": {key: json.loads(sealed)["data"] for key, sealed in manifest["state"].items()}}))
    for topic in topics:
        read_file_topic(folder, topic, manifest["topics"][topic])


# ---- Kafka ----------------------------------------------------------------------------------------------------------


class Schemas:
    def __init__(self, registry):
        self.registry, self.parsed = registry, {}

    def decode(self, framed):
        if framed is None:
            return None
        magic, number = struct.unpack(">bI", framed[:5])
        assert magic == 0, "not a Confluent frame"
        if number not in self.parsed:
            with urllib.request.urlopen(f"{self.registry}/schemas/ids/{number}", timeout=10) as answer:
                self.parsed[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        body = io.BytesIO(framed[5:])
        record = fastavro.schemaless_reader(body, self.parsed[number])
        assert not body.read(), "bytes left over after the record"
        return record


def committed_messages(bootstrap, topic):
    """Every message that a read_committed consumer gets, partition after partition's end."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "isolation.level": "read_committed",
        "enable.auto.commit": False, "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(topic, SILENCE).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    unfinished = set(partitions)
    while unfinished:
        message = consumer.poll(SILENCE)
        if message is None:
            sys.exit(f"{topic}: no answer for {SILENCE} s")
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(str(message.error()))
            unfinished.discard(message.partition())
        else:
            yield message
    consumer.close()


def read_kafka(bootstrap, registry, state_topic, topics):
    state = {}
    for message in committed_messages(bootstrap, state_topic):
        state[message.key().decode()] = message.value()
    print(json.dumps({"state": {key: json.loads(value)["data"] for key, value in state.items() if value}}))
    schemas = Schemas(registry)
    for topic in topics:
        for message in committed_messages(bootstrap, topic):
            headers = message.headers() or []
            values = dict(headers)
            assert len(values) == len(headers), f"a header comes twice: {headers}"
            key, value = schemas.decode(message.key()), schemas.decode(message.value())
            record = {name: values[name].decode() for name in ("op", "pos")}
            record |= {"ts": int(values["ts"]), "last": "last" in values}
            show(topic, message.partition(), record, key, value)


if __name__ == "__main__":
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", write_through=False)
    if sys.argv[1] == "files":
        read_files(sys.argv[2], sys.argv[3:])
    else:
        read_kafka(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
