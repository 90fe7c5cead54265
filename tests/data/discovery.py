#!/usr/bin/env python3
"""Writes discovery.json: the few facts that the tests of config/*.toml compare with, from the discovery documents that
Google publishes and the Python package google-api-python-client ships. Usage, with that package installed:

    python3 tests/data/discovery.py > tests/data/discovery.json
"""
import importlib.metadata
import json
import pathlib

import googleapiclient

DOCUMENTS = pathlib.Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
APIS = ["dialogflow.v2beta1", "dialogflow.v2", "dialogflow.v3", "aiplatform.v1", "documentai.v1", "cloudbuild.v1"]


def methods(resource, kind):
    """Every method `….operations.<kind>`, however deep."""
    for method in resource.get("methods", {}).values():
        if method["id"].endswith(f".operations.{kind}"):
            yield method
    for inner in resource.get("resources", {}).values():
        yield from methods(inner, kind)


def facts(document, kind):
    found = list(methods(document, kind))
    shape = {(m["httpMethod"], m["path"], m.get("request", {}).get("$ref")) for m in found}
    [(verb, path, body)] = shape  # The same for all of them, or this script needs a change.
    assert all(m["parameterOrder"] == ["name"] for m in found)
    return {
        "verb": verb,
        "path": path,
        "body": body and {"type": body, "properties": sorted(document["schemas"][body].get("properties", {}))},
        "patterns": sorted({m["parameters"]["name"]["pattern"] for m in found}),
    }


def api(name):
    document = json.loads((DOCUMENTS / f"{name}.json").read_text())
    hosts = document.get("endpoints", [])
    return {
        "revision": document["revision"],
        "root_url": document["rootUrl"] + document["servicePath"],
        "mtls_root_url": document["mtlsRootUrl"],
        # Google's staging hosts are listed beside the real ones.
        "endpoints": {e["location"]: e["endpointUrl"] for e in hosts if "-preprod." not in e["endpointUrl"]},
        "cancel": facts(document, "cancel"),
        "get": facts(document, "get"),
    }


version = importlib.metadata.version("google-api-python-client")
source = f"Google's discovery documents, as in the Python package google-api-python-client {version}"
print(json.dumps({"source": source, "apis": {name: api(name) for name in APIS}}, indent=1))
