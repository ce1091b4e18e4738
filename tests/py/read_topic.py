"""Reads a topic to its end with code that gimbal did not write, and prints one JSON object a line.

Schemas come from `--schema ID=JSON` or from a registry (`--registry URL`, the Confluent API). `java_partition` is the
partition that Java's default partitioner gives to the key, computed here.
"""
import argparse
import io
import json
import struct
import sys
import urllib.request
import uuid

import fastavro
from confluent_kafka import Consumer, KafkaError, TopicPartition


def murmur2(data):
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        k = k * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


class Schemas:
    def __init__(self, given, registry):
        self.registry = registry
        self.parsed = {}
        for text in given:
            number, schema = text.split("=", 1)
            self.parsed[int(number)] = fastavro.parse_schema(json.loads(schema))

    def __getitem__(self, number):
        if number not in self.parsed:
            with urllib.request.urlopen(f"{self.registry}/schemas/ids/{number}", timeout=10) as answer:
                self.parsed[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        return self.parsed[number]


def decode(framed, schemas):
    if framed is None:
        return None
    magic, number = struct.unpack(">bI", framed[:5])
    assert magic == 0, "not a Confluent frame"
    body = io.BytesIO(framed[5:])
    record = fastavro.schemaless_reader(body, schemas[number])
    assert not body.read(), "bytes left over after the record"
    return record


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--topic", required=True)
    arguments.add_argument("--schema", action="append", default=[])
    arguments.add_argument("--registry")
    arguments.add_argument("--timeout", type=float, default=30)
    a = arguments.parse_args()
    schemas = Schemas(a.schema, a.registry)
    consumer = Consumer({
        "bootstrap.servers": a.bootstrap, "group.id": uuid.uuid4().hex, "isolation.level": "read_committed",
        "enable.auto.commit": False, "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(a.topic, a.timeout).topics[a.topic].partitions
    consumer.assign([TopicPartition(a.topic, p, 0) for p in partitions])
    unfinished = set(partitions)
    while unfinished:
        message = consumer.poll(a.timeout)
        if message is None:
            sys.exit(f"no answer for {a.timeout} s")
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(str(message.error()))
            unfinished.discard(message.partition())
            continue
        key = message.key()
        print(json.dumps({
            "partition": message.partition(), "offset": message.offset(),
            "java_partition": None if key is None else (murmur2(key) & 0x7FFFFFFF) % len(partitions),
            "key": decode(key, schemas), "value": decode(message.value(), schemas),
            "headers": [[name, value.decode()] for name, value in message.headers() or []],
        }, default=str))
    consumer.close()


if __name__ == "__main__":
    main()
