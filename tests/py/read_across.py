"""Writes records with one schema and reads them with the other, both ways, with fastavro.

Reads a file of JSON lines {older, newer, seed}. Prints a line for each: `same`, every record was read and means the same;
`other`, every record was read and one means something else; `unread` and why.
"""
import io
import json
import random
import sys
import uuid

import fastavro

RECORDS = 6


def named_types(schema, found):
    """All named types of a schema by their simple names."""
    if isinstance(schema, list):
        for branch in schema:
            named_types(branch, found)
    elif isinstance(schema, dict):
        if "name" in schema and "type" in schema and schema["type"] in ("enum", "fixed", "record"):
            found[schema["name"]] = schema
        for part in ("type", "items", "values"):
            if part in schema and not isinstance(schema[part], str):
                named_types(schema[part], found)
        for field in schema.get("fields", []):
            named_types(field["type"], found)
    return found


def plain(schema):
    """The schema without logical types, to write raw values."""
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if key not in ("logicalType", "precision", "scale", "default")}
        for part in ("type", "items", "values"):
            if part in kept:
                kept[part] = plain(kept[part])
        if "fields" in kept:
            kept["fields"] = [dict(field, type=plain(field["type"])) for field in kept["fields"]]
            for field in kept["fields"]:
                field.pop("default", None)
        return kept
    return schema


def value(schema, names, rng):
    """A raw value of the type."""
    if isinstance(schema, list):
        return value(rng.choice(schema), names, rng)
    kind, logical = schema, None
    if isinstance(schema, dict):
        kind, logical = schema["type"], schema.get("logicalType")
    if kind in names:
        return value(names[kind], names, rng)
    if kind == "null":
        return None
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "int":
        return rng.randrange(0, 40_000)
    if kind == "long":
        return rng.randrange(0, 86_000_000_000)
    if kind in ("float", "double"):
        return float(rng.randrange(-1000, 1000))
    if kind == "string":
        return str(uuid.UUID(int=rng.getrandbits(128))) if logical == "uuid" else "t%d" % rng.randrange(100)
    if kind == "bytes":
        return b"\x00\x05" if logical == "decimal" else b"t%d" % rng.randrange(100)
    if kind == "fixed":
        return bytes([0] * (schema["size"] - 1) + [7])
    if kind == "enum":
        return rng.choice(schema["symbols"])
    if kind == "array":
        return [value(schema["items"], names, rng) for _ in range(rng.randrange(3))]
    if kind == "map":
        return {"k": value(schema["values"], names, rng)}
    return {field["name"]: value(field["type"], names, rng) for field in schema["fields"]}


def as_read(decoded, schema, names):
    """What a reader with this type makes of a value: symbols that it lacks become its default."""
    if isinstance(schema, list):
        rest = [branch for branch in schema if branch != "null"]
        return decoded if decoded is None else as_read(decoded, rest[0], names)
    if isinstance(schema, str):
        schema = names.get(schema, schema)
    if isinstance(schema, dict) and schema["type"] == "array":
        return [as_read(item, schema["items"], names) for item in decoded]
    if isinstance(schema, dict) and schema["type"] == "enum" and decoded not in schema["symbols"]:
        return schema.get("default")
    return decoded


def one_way(writer, reader, rng):
    """Whether records of `writer` mean the same to `reader`."""
    names, reader_names = named_types(writer, {}), named_types(reader, {})
    raw = fastavro.parse_schema(plain(writer))
    full, other = fastavro.parse_schema(writer), fastavro.parse_schema(reader)
    same = True
    for _ in range(RECORDS):
        body = io.BytesIO()
        fastavro.schemaless_writer(body, raw, value(writer, names, rng))
        own = fastavro.schemaless_reader(io.BytesIO(body.getvalue()), full, None)
        read = fastavro.schemaless_reader(io.BytesIO(body.getvalue()), full, other)
        for field in reader["fields"]:
            source = next((name for name in [field["name"]] + field.get("aliases", []) if name in own), None)
            if source is None:
                continue
            expected, found = as_read(own[source], field["type"], reader_names), read[field["name"]]
            same = same and type(expected) is type(found) and expected == found
    return same


def main(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            rng = random.Random(case["seed"])
            older, newer = json.loads(case["older"]), json.loads(case["newer"])
            try:
                same = one_way(older, newer, rng) & one_way(newer, older, rng)
                print("same" if same else "other")
            except Exception as error:  # whatever fastavro raises is its answer
                print("unread", type(error).__name__, str(error).replace("\n", " ")[:120])


main(sys.argv[1])
