# SPDX-License-Identifier: Apache-2.0
"""Requests to the API server, through the official client's connection and login, with plain objects in and out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from rserpool_operator.kube.kinds import Kind, Object
from rserpool_operator.names import FIELD_MANAGER

TIMEOUT: Final = 15.0
"""Seconds for one request."""
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE: Final = 500
"""Objects asked for at once."""


class KubeError(Exception):
    """The API server refused, or could not be asked.

    Attributes:
        status: of HTTP; 0 if there was no answer.
        reason: Kubernetes' word for it.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


def _json_object(octets: bytes) -> Object:
    """An answer's object; nothing if it is none, as what some proxy has to say."""
    try:
        value: Any = json.loads(octets)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


async def connect() -> ApiClient:
    """Log in: as the pod's service account, or, outside a cluster, as kubectl would."""
    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)
    return client_of(configuration)


def client_of(configuration: Configuration) -> ApiClient:
    """A client for who is logged in; a proxy that the environment names is used, as kubectl would.

    The proxy is looked up here, once: the client's session would look for it, and for a ``.netrc``, before each
    request, each time in a thread of its own.
    """
    configuration.connection_pool_maxsize = 32
    configuration.proxy = configuration.proxy or _proxy(configuration.host)
    configuration.client_session_kwargs = {"trust_env": False}
    return ApiClient(configuration)


def _proxy(url: str) -> str | None:
    """``https_proxy`` and the like, unless ``no_proxy`` excepts the host."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return getproxies().get(parts.scheme)


class Kube:
    """The verbs.

    Args:
        api: a client that is logged in.

    Attributes:
        on_answer: called after each request with its verb, the resource's plural and the status (0: no answer).
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self.on_answer: Callable[[str, str, int], None] = lambda _verb, _plural, _status: None

    async def _request(
        self,
        verb: str,
        plural: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        """Ask, and read the answer.

        Raises:
            KubeError: it was refused, or there was no answer.
        """
        headers = {"Accept": accept, "Content-Type": content_type}
        status = 0
        try:
            request = await self._api.param_serialize(
                verb, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            response = await self._api.call_api(*request, _request_timeout=TIMEOUT)
            octets = await response.read()
            status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise KubeError(0, "NoAnswer", f"{verb} {path}: no answer: {type(e).__name__}") from None
        finally:
            self.on_answer(verb, plural, status)
        answer = _json_object(octets)
        if status >= 400:
            message = str(answer.get("message", "")) or f"HTTP status {status}"
            raise KubeError(status, str(answer.get("reason", "")), f"{verb} {path}: {message}")
        return answer

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Read an object; ``None`` if there is none.

        Raises:
            KubeError: it cannot be read.
        """
        try:
            return await self._request("GET", kind.plural, kind.path(namespace, name))
        except KubeError as e:
            if e.status == 404:
                return None
            raise

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: str = "", *, metadata_only: bool = False
    ) -> list[Object]:
        """Read all objects of a kind, in all namespaces or one, with certain labels; all of them, or their metadata.

        Raises:
            KubeError: they cannot be read.
        """
        found: list[Object] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        accept = METADATA_ONLY if metadata_only else "application/json"
        while True:
            answer = await self._request("GET", kind.plural, kind.path(namespace), query=query, accept=accept)
            said = {"apiVersion": kind.api_version, "kind": kind.kind}  # which items of a list do not say
            found += [said | item for item in answer.get("items") or []]  # metadata of nothing is a null
            more = answer.get("metadata", {}).get("continue")
            if not more:
                return found
            query = {**query, "continue": more}

    async def get_list_head(self, kind: Kind, namespace: str) -> Object:
        """One object of a kind, to see whether there is such a kind at all.

        Raises:
            KubeError: status 404 if there is not.
        """
        return await self._request("GET", kind.plural, kind.path(namespace), query={"limit": "1"})

    async def create(self, kind: Kind, namespace: str | None, manifest: Object) -> Object:
        """Make an object that is not there yet.

        Raises:
            KubeError: status 409 if it is there.
        """
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request("POST", kind.plural, kind.path(namespace), query=query, body=manifest)

    async def apply(
        self, kind: Kind, manifest: Object, *, subresource: str = "", manager: str = FIELD_MANAGER
    ) -> Object:
        """Server-side apply: what the manifest says is ours from now on; one with a uid is never made anew.

        Raises:
            KubeError: status 409 if the object with that uid is gone.
        """
        metadata = manifest["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        content = "application/apply-patch+yaml"
        return await self._request("PATCH", kind.plural, path, query=query, body=manifest, content_type=content)

    async def patch(self, kind: Kind, namespace: str, name: str, operations: Object) -> Object:
        """JSON merge patch.

        Raises:
            KubeError: it is refused.
        """
        path = kind.path(namespace, name)
        query = {"fieldManager": FIELD_MANAGER}
        content = "application/merge-patch+json"
        return await self._request("PATCH", kind.plural, path, query=query, body=operations, content_type=content)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str = "") -> bool:
        """Delete an object, if it is still the one with that uid; returns whether there was one.

        Raises:
            KubeError: it is refused.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._request("DELETE", kind.plural, kind.path(namespace, name), body=body)
        except KubeError as e:
            if e.status in (404, 409):
                return False
            raise
        return True
