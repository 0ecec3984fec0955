# SPDX-License-Identifier: Apache-2.0
"""Wrong requests, made from the OpenAPI document: what it says of a path's parameters and bodies is broken one thing at a time. So a path that
is added to the document is tried without a line being written for it.

What is made here never asks for anything that could be done: each has at least one thing that the document forbids."""
import copy
import json
import re

WRONG_TYPES = {"string": [1, True, [], {}, [1]], "integer": ["1", 1.5, [], {}, True, "x" * 100], "boolean": [1, "true", [], {}],
               "array": [1, "x", {}, True], "object": [1, "x", [], True], "number": ["1", [], {}, True]}
TEXTS = ["\0", "a\0b", "\x1b[2J", "%s%n%n", "../" * 40, "x" * 70000, "\u202e\U0001f4a3", ""]
NUMBERS = [-1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400]
METHODS = ("get", "post", "put", "patch", "delete", "options", "head", "trace")


def resolve(document, schema):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def types_of(schema):
    kind = schema.get("type", "object" if "properties" in schema else None)
    return kind if isinstance(kind, list) else [kind] if kind else []


def sample(document, schema):
    """A value of the form that is described."""
    schema = resolve(document, schema)
    if "enum" in schema:
        return schema["enum"][0]
    for word in ("oneOf", "anyOf"):
        if word in schema:
            return sample(document, schema[word][0])
    kind = (types_of(schema) or ["string"])[0]
    if kind == "object":
        return {name: sample(document, schema["properties"][name]) for name in schema.get("required", [])}
    return {"string": "nosuch", "integer": schema.get("minimum", 1), "number": 1.0, "boolean": False, "array": [], "null": None}[kind]


def wrong_values(document, schema):
    """What a member may not be, by its schema alone."""
    schema = resolve(document, schema)
    kinds = types_of(schema)
    if not kinds or "oneOf" in schema or "anyOf" in schema:
        return
    for value in WRONG_TYPES.get(kinds[0], []):
        if not ("object" in kinds and isinstance(value, dict)) and not ("array" in kinds and isinstance(value, list)):
            yield value
    if "enum" in schema:
        yield "no such word"
    if "integer" in kinds:
        for number in NUMBERS:
            if number < schema.get("minimum", -(2**63)) or number > schema.get("maximum", 2**63 - 1):
                yield number
    if "array" in kinds and "items" in schema:
        for value in wrong_values(document, schema["items"]):
            yield [value]
    if "object" in kinds:
        for name, member in schema.get("properties", {}).items():
            base = sample(document, schema)
            for value in wrong_values(document, member):
                yield {**base, name: value}
        if schema.get("additionalProperties") is False:
            yield {**sample(document, schema), "no such member": 1}
        elif isinstance(schema.get("additionalProperties"), dict):
            for value in wrong_values(document, schema["additionalProperties"]):
                yield {"x": value}


def wrong_bodies(document, schema):
    """Bytes of bodies that must be refused."""
    schema = resolve(document, schema)
    right = sample(document, schema)
    for value in wrong_values(document, schema):
        try:
            yield json.dumps(value).encode()
        except ValueError:
            continue
    for name in schema.get("required", []):
        less = copy.copy(right)
        del less[name]
        yield json.dumps(less).encode() if less else b"{ }"
    text = json.dumps(right).encode()
    yield text[:-1]
    yield text + b"x"
    yield b"\xef\xbb\xbf\xff" + text
    yield text.decode().encode("utf-16")
    yield text[:-1] + (b", " if len(text) > 2 else b"") + b'"\xff\xfe": 1}'
    yield text[:-1] + (b", " if len(text) > 2 else b"") + b'"\\ud800": 1}'
    yield text[:-1] + (b", " if len(text) > 2 else b"") + b'"a": 1, "a": 1}'
    yield b"[" * 100000
    yield b'{"a":' * 5000 + b"1" + b"}" * 5000
    yield b"\0" * 64
    yield b"null"


def hostile_bodies(document, schema):
    """Bodies that have the right types and senseless values: refused or not, but not by failing."""
    schema = resolve(document, schema)
    for name, member in schema.get("properties", {}).items():
        kinds = types_of(resolve(document, member))
        values = TEXTS if "string" in kinds else NUMBERS[:4] if "integer" in kinds else [[text] for text in TEXTS] if "array" in kinds else []
        for value in values:
            yield json.dumps({**sample(document, schema), name: value}).encode()


class Operation:
    """One method on one path."""

    def __init__(self, document, path, method):
        self.path, self.method = path, method
        self.described = document["paths"][path][method]
        parameters = document["paths"][path].get("parameters", []) + self.described.get("parameters", [])
        self.parameters = [resolve(document, parameter) if "$ref" in parameter else parameter for parameter in parameters]
        content = self.described.get("requestBody", {}).get("content", {})
        self.schema = content.get("application/json", {}).get("schema")
        self.body_required = self.described.get("requestBody", {}).get("required", False)
        self.other_body = bool(content) and self.schema is None

    def real(self, reference="absent"):
        return re.sub(r"\{\w+\}", reference, self.path)

    @property
    def query(self):
        return [parameter for parameter in self.parameters if parameter["in"] == "query"]

    def calm(self, but=None):
        """So that nothing is followed or waited for."""
        return "".join(f"&{name}=0" for name in ("follow", "timeout", "wait") if name != but and any(p["name"] == name for p in self.query))

    def __repr__(self):
        return f"{self.method.upper()} {self.path}"


def operations(document):
    return [Operation(document, path, method) for path, methods in document["paths"].items() for method in methods if method in METHODS]
