"""Prints the records of Avro object container files, one JSON object a line, as `gimbal tail --format json` does.

Reads with fastavro alone, so that what gimbal writes is decoded by code that gimbal did not write.
"""

import datetime
import decimal
import json
import sys
import uuid

import fastavro


def plain(value):
    """The value with JSON's types only: decimals as text, times in ISO 8601, bytes as \\x and hexadecimal digits."""
    if isinstance(value, dict):
        return {name: plain(field) for name, field in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return value


def main():
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            for record in fastavro.reader(file):
                print(json.dumps(plain(record)))


if __name__ == "__main__":
    main()
