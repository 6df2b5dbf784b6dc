# SPDX-License-Identifier: Apache-2.0
"""The API server without kubectl: waiting looks often, and a process a look takes the processors it waits for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.stream.ws_client import WSClient, websocket_call
from urllib3.exceptions import HTTPError
from websocket import WebSocketException

from harness.cluster import cluster

_OPTIONS: Final = {"-n": "namespace", "-l": "labelSelector"}


class ApiError(Exception):
    """The API server, or a command in a container, has said no.

    Attributes:
        status: of HTTP, or the command's exit status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotHereError(Exception):
    """A question that only kubectl can ask."""


@cache
def _client() -> client.ApiClient:
    """One for all threads: its pool of connections is theirs too."""
    return config.new_client_from_config(config_file=str(cluster().kubeconfig))


def _ask(path: str, query: Mapping[str, str] | None = None) -> Any:
    return json.loads(_read(path, query))


def _read(path: str, query: Mapping[str, str] | None = None, timeout: float = 60) -> bytes:
    made = _client()
    url = f"{made.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
    try:
        answer = made.call_api("GET", url, {"Accept": "application/json"}, _request_timeout=timeout)
    except (ApiException, HTTPError) as e:
        raise ApiError(0, str(e)) from None
    octets: bytes = answer.read()
    if answer.status != HTTPStatus.OK:
        raise ApiError(answer.status, _said(octets))
    return octets


def _said(octets: bytes) -> str:
    """What the API server, or a kubelet behind it, has to say; as kubectl has it."""
    try:
        told = json.loads(octets)
        return f"Error from server ({told['reason']}): {told['message']}"
    except (ValueError, KeyError, TypeError):
        return octets[:500].decode(errors="replace")


@cache
def _kinds() -> dict[str, tuple[str, bool]]:
    """Where kinds of objects are that Kubernetes and we have: names -> path and whether they are in namespaces."""
    found: dict[str, tuple[str, bool]] = {}
    groups = {"/api/v1": "", "/apis/apps/v1": "apps", "/apis/batch/v1": "batch", "/apis/policy/v1": "policy"}
    groups |= {"/apis/events.k8s.io/v1": "events.k8s.io", "/apis/networking.k8s.io/v1": "networking.k8s.io"}
    for path, group in groups.items():
        for kind in _ask(path)["resources"]:
            if "/" in kind["name"]:
                continue
            for name in (kind["name"], kind["singularName"], *kind.get("shortNames", ())):
                place = (f"{path}/{kind['name']}", bool(kind["namespaced"]))
                found.setdefault(name, place)
                if group:
                    found.setdefault(f"{name}.{group}", place)
    for name in ("serverpool", "serverpools", "serverpools.rserpool.io"):
        found[name] = ("/apis/rserpool.io/v1alpha1/serverpools", True)
    return found


def get(*arguments: str) -> Any:
    """What ``kubectl get … -o json`` answers to simple questions: an object, or the list of them.

    Raises:
        ApiError: the API server has refused; there is no such object.
        NotHereError: it is no simple question.
    """
    words, options, everywhere = [], {}, False
    given = iter(arguments)
    for word in given:
        if word in _OPTIONS:
            options[_OPTIONS[word]] = next(given)
        elif word == "-A":
            everywhere = True
        elif word.startswith("-"):
            raise NotHereError(word)
        else:
            words.append(word)
    if len(words) not in (1, 2) or words[0] not in _kinds():
        raise NotHereError(arguments)
    path, namespaced = _kinds()[words[0]]
    if namespaced and not everywhere:
        version, _, plural = path.rpartition("/")
        path = f"{version}/namespaces/{options.pop('namespace', 'default')}/{plural}"
    options.pop("namespace", None)
    if len(words) == 2:
        return _ask(f"{path}/{words[1]}")
    answer = _ask(path, options)
    version, kind = answer["apiVersion"], answer["kind"].removesuffix("List")
    return [{"apiVersion": version, "kind": kind, **item} for item in answer["items"]]


def logs(pod: str, container: str, *, namespace: str) -> str:
    """What a container has written.

    Raises:
        ApiError: the API server has refused; there is no such pod.
    """
    return _read(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", {"container": container}).decode()


def page(pod: str, port: int, *, namespace: str) -> str:
    """A pod's metrics, by way of the API server.

    Raises:
        ApiError: the API server has refused, or does not reach it.
    """
    return _read(f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics").decode()


def run_in(pod: str, container: str, *command: str, namespace: str, timeout: float = 20) -> str:
    """Run a command in a container; returns its standard output.

    Raises:
        ApiError: it could not be run, failed, or did not end in time.
    """
    configuration = _client().configuration
    query = [("command", word) for word in command]
    query += [("container", container), ("stdout", "true"), ("stderr", "true")]
    url = f"{configuration.host}/api/v1/namespaces/{namespace}/pods/{pod}/exec"
    try:
        shell: WSClient = websocket_call(
            configuration, "GET", url, query_params=query, headers={}, _preload_content=False
        )
    except ApiException as e:
        raise ApiError(e.status or 0, str(e.reason)) from None
    try:
        shell.run_forever(timeout=timeout)
        if shell.is_open():
            raise ApiError(-1, f"not ended within {timeout:g} s")
        if shell.returncode:
            raise ApiError(shell.returncode, shell.read_stderr())
        return str(shell.read_stdout())
    except (WebSocketException, OSError, TypeError) as e:  # without an end there is no exit status, which it reads
        raise ApiError(-1, f"the connection broke: {e}") from None
    finally:
        shell.sock.shutdown()  # its close() leaves the socket open when the far end was first
