"""Decodes framed records with fastavro and compares them with what they must mean.

Reads a file of JSON lines {schema, id, record (hexadecimal), expected (a list, in schema order)} in the plain form of
tests/suite/projection/forms.rs. Prints how many records are equal; ends with 1 at the first that is not.
"""
import datetime
import decimal
import io
import json
import struct
import sys
import uuid

import fastavro

EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)


def plain(value, schema):
    """The plain form of a decoded value."""
    if isinstance(schema, list):
        if value is None:
            return None
        return plain(value, next(branch for branch in schema if branch != "null"))
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, list):
        return [plain(item, schema["items"]) for item in value]
    logical = schema.get("logicalType") if isinstance(schema, dict) else None
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(value, datetime.datetime):
        micros = (value.replace(tzinfo=None) - EPOCH) // MICROSECOND
        return micros // 1000 if logical == "timestamp-millis" else micros
    if isinstance(value, datetime.date):
        return (value - EPOCH.date()).days
    if isinstance(value, datetime.time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
    if isinstance(value, decimal.Decimal):
        sign, digits, exponent = value.as_tuple()
        unscaled = int("".join(map(str, digits)))
        assert -exponent == schema.get("scale", 0), "the decimal's scale"
        return str(-unscaled if sign else unscaled)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        # fastavro leaves a fixed uuid as its bytes.
        return str(uuid.UUID(bytes=value)) if logical == "uuid" else value.hex()
    if isinstance(value, float):
        return struct.pack(">f" if kind == "float" else ">d", value).hex()
    return value


def main(path):
    decimal.getcontext().prec = 200
    equal = 0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            record = bytes.fromhex(case["record"])
            assert record[0] == 0 and int.from_bytes(record[1:5], "big") == case["id"], "the frame"
            schema = fastavro.parse_schema(case["schema"])
            body = io.BytesIO(record[5:])
            decoded = fastavro.schemaless_reader(body, schema, None)
            assert body.read() == b"", "bytes are left over"
            found = [plain(decoded[field["name"]], field["type"]) for field in case["schema"]["fields"]]
            if found != case["expected"]:
                sys.exit(f"record {equal}: fastavro reads {found!r}, it must be {case['expected']!r}")
            equal += 1
    print(f"{equal} records equal")


main(sys.argv[1])
