# SPDX-License-Identifier: Apache-2.0
"""What `rserpool up` will run: which processes, where, how each is configured, and what its user is told once."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from rserpool.daemon.settings import load
from rserpool.pool import ServerPool
from rserpool_cli.errors import CommandError
from rserpool_cli.up.loopback import Addresses, Networks, OnePort, Subnet, read_networks
from rserpool_cli.up.plan import ProcessPlan, UpOptions, UpPlan, make_plan, resize
from rserpool_cli.up.state import write_process
from rserpool_registrar.config import RegistrarSettings
from rserpool_sidecar.config import SidecarSettings
from support.rig_model import server_pool

COMMAND = ("serve", "--at", "{address}:{port}", "{port}{port}", "{other}")
URL = "https://127.20.129.1:8443"


def planned(
    pool: ServerPool | None = None, folder: Path = Path("/state"), addresses: Addresses | None = None, **options: Any
) -> UpPlan:
    chosen = UpOptions(**{"elements": 2, "command": COMMAND, **options})
    return make_plan(pool or server_pool(), chosen, addresses or Subnet(20), folder, Path("/work/pool.yaml"), URL)


def annotated(command: str, **spec: Any) -> ServerPool:
    pool = server_pool(**spec)
    metadata = pool.metadata.model_copy(update={"annotations": {"rserpool.io/up-command": command}})
    return pool.model_copy(update={"metadata": metadata})


def sidecar(plan: ProcessPlan, tmp_path: Path) -> SidecarSettings:
    write_process(plan, "t")
    return load(SidecarSettings, Path(plan.command[-1]), {})


def test_every_process_has_a_name_and_a_place_of_its_own() -> None:
    plan = planned(server_pool(registrars={"replicas": 3}))
    assert [p.name for p in plan.registrars] == ["echo-registrar-0", "echo-registrar-1", "echo-registrar-2"]
    assert [p.name for p in plan.applications] == ["echo-0", "echo-1"]
    assert [p.name for p in plan.sidecars] == ["echo-0/sidecar", "echo-1/sidecar"]
    assert [p.place for p in plan.applications] == [p.place for p in plan.sidecars]
    assert len({p.place.address for p in (*plan.registrars, *plan.sidecars)}) == 5
    assert {p.kind for p in plan.processes} == {"registrar", "sidecar", "application"}


def test_the_command_finds_its_address_and_port_in_its_words_and_in_its_environment() -> None:
    first, second = planned().applications
    assert first.command == ("serve", "--at", "127.20.65.1:7007", "70077007", "{other}")
    assert first.environment == {"RSERPOOL_ADDRESS": "127.20.65.1", "RSERPOOL_PORT": "7007"}
    assert second.environment == {"RSERPOOL_ADDRESS": "127.20.65.2", "RSERPOOL_PORT": "7007"}
    assert first.folder is None


def test_the_annotations_command_is_split_as_a_shell_does_and_runs_beside_the_manifest(tmp_path: Path) -> None:
    pool = annotated("python3 'my app.py' --port={port} \"a b\"")
    for manifest in (tmp_path / "pool.yaml", tmp_path):
        plan = make_plan(pool, UpOptions(elements=1), Subnet(20), Path("/state"), manifest, URL)
        assert plan.applications[0].command == ("python3", "my app.py", "--port=7007", "a b")
        assert plan.applications[0].folder == tmp_path.resolve()


def test_a_command_line_comes_before_the_annotation() -> None:
    assert planned(annotated("from annotation")).applications[0].command[0] == "serve"


def test_a_pool_that_does_not_say_what_to_run_is_refused_with_what_to_write() -> None:
    with pytest.raises(CommandError) as caught:
        planned(command=())
    assert str(caught.value) == (
        "demo/echo does not say which program to run: give one after --,"
        " or write it into the annotation rserpool.io/up-command"
    )


def test_an_annotation_whose_quotes_do_not_close_is_refused_with_its_name() -> None:
    with pytest.raises(CommandError, match=r"rserpool\.io/up-command.*quot"):
        planned(annotated("python3 'app.py"), command=())


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"transport": {"order": ["SCTP"]}}, "spec.transport.order names SCTP only.*add TCP"),
        ({"elements": {"port": 1, "protocol": "SCTP"}}, "spec.elements.protocol is SCTP.*write TCP or UDP"),
    ],
    ids=["order", "protocol"],
)
def test_what_this_machine_cannot_run_is_refused_with_what_to_write(spec: dict[str, Any], reason: str) -> None:
    with pytest.raises(CommandError, match=f"demo/echo: {reason}"):
        planned(server_pool(**spec))


@pytest.mark.parametrize(("port", "given"), [(1, 8001), (80, 8080), (1023, 9023), (1024, 1024), (65535, 65535)])
def test_a_port_that_needs_rights_is_mapped_and_that_is_said_once(port: int, given: int, tmp_path: Path) -> None:
    plan = planned(server_pool(elements={"port": port}), tmp_path)
    assert [p.environment["RSERPOOL_PORT"] for p in plan.applications] == [str(given)] * 2
    assert [sidecar(p, tmp_path).application.port for p in plan.sidecars] == [given] * 2
    said = [r for r in plan.remarks if "rights" in r]
    assert said == ([] if port == given else [f"port {port} needs rights a user has not: elements get {given} instead"])


@pytest.mark.parametrize("probe", ["tcpSocket", "httpGet"])
@pytest.mark.parametrize("addresses", [Subnet(20), OnePort()], ids=["mapped", "single address"])
def test_a_probe_of_the_elements_own_port_goes_where_the_application_is(
    probe: str, addresses: Addresses, tmp_path: Path
) -> None:
    pool = server_pool(elements={"port": 80, "health": {probe: {"port": 80}}})
    plan = planned(pool, tmp_path, addresses)
    for application, configured in zip(plan.applications, plan.sidecars, strict=True):
        assert sidecar(configured, tmp_path).health.port in (0, application.place.ports["application"])


@pytest.mark.parametrize("port", [81, 3864, 8081])
def test_an_application_never_gets_a_port_of_its_sidecar(port: int) -> None:
    for process in planned(server_pool(elements={"port": port})).sidecars:
        assert len(set(process.place.ports.values())) == len(process.place.ports)


def test_with_one_address_no_port_is_given_twice(tmp_path: Path) -> None:
    plan = planned(server_pool(registrars={"replicas": 3}), tmp_path, OnePort(), elements=5)
    ports = list(chain.from_iterable(p.place.ports.values() for p in (*plan.registrars, *plan.sidecars)))
    assert len(set(ports)) == len(ports) == 3 * 3 + 5 * 3
    assert {str(p.place.address) for p in plan.processes} == {"127.0.0.1"}


def test_registrars_know_each_other_and_sidecars_know_them_all(tmp_path: Path) -> None:
    plan = planned(server_pool(registrars={"replicas": 2}), tmp_path)
    for process in plan.registrars:
        write_process(process, "t")
        settings = load(RegistrarSettings, Path(process.command[-1]), {})
        assert settings.peers.addresses == (("127.20.1.1", 9902), ("127.20.1.2", 9902))
        assert settings.network.address == process.place.address
        assert settings.network.loopback is True
        assert settings.control.socket == Path(process.command[-1]).with_suffix(".sock")
    found = sidecar(plan.sidecars[1], tmp_path)
    assert found.registrars.addresses == (("127.20.1.1", 3864), ("127.20.1.2", 3864))
    assert str(found.network.address) == "127.20.65.2"


def test_each_process_may_enrol_as_itself_only(tmp_path: Path) -> None:
    plan = planned(folder=tmp_path)
    identities = [str(p.identity) for p in (*plan.registrars, *plan.sidecars)]
    assert len(set(identities)) == 3
    assert [i.split("/")[-2] for i in identities] == ["registrar", "element", "element"]
    assert all(i.startswith("spiffe://up.local/ns/demo/pool/echo/") for i in identities)
    assert all(p.identity is None for p in plan.applications)
    found = sidecar(plan.sidecars[0], tmp_path).security
    assert (found.mode, found.source, found.url) == ("Secure", "enrolment", URL)
    assert found.pod_uid == identities[1].rpartition("/")[2]
    assert (found.token_file, found.authority_file) == (tmp_path / "s0.token", tmp_path / "authority.pem")


def test_without_security_nobody_has_an_identity_and_the_user_is_told(tmp_path: Path) -> None:
    plan = planned(server_pool(security={"mode": "Insecure"}), tmp_path)
    assert all(p.identity is None for p in plan.processes)
    assert sidecar(plan.sidecars[0], tmp_path).security.secure is False
    assert plan.remarks == ("security mode Insecure: no TLS, nobody is verified",)


def test_what_differs_from_a_cluster_is_said() -> None:
    embedded = {"signer": {"type": "Embedded"}}
    assert planned(server_pool(security=embedded)).remarks == ()
    assert planned().remarks == ("certificates are signed by this process, not by CertManager",)
    assert planned(server_pool(security=embedded, policy={"type": "LeastUsed"})).remarks == ()


def test_a_sidecar_measures_its_own_application_whose_process_is_written_down(tmp_path: Path) -> None:
    plan = planned(server_pool(policy={"type": "LeastUsed"}), tmp_path, elements=2)
    told = [sidecar(p, tmp_path).load for p in plan.sidecars]
    assert [load.source for load in told] == ["cpu", "cpu"]
    assert [load.process_file for load in told] == [str(p.process_file) for p in plan.applications]
    assert len({load.process_file for load in told}) == 2


def test_where_no_cpu_time_counts_nobody_writes_a_process_down(tmp_path: Path) -> None:
    asked = {"port": 7007, "load": {"source": "http", "path": "/busy", "port": 7007}}
    pools = (server_pool(), server_pool(policy={"type": "LeastUsed"}, elements=asked))
    plans = [planned(pool, tmp_path, elements=1) for pool in pools]
    assert [plan.applications[0].process_file for plan in plans] == [None, None]
    round_robin, load = (sidecar(plan.sidecars[0], tmp_path).load for plan in plans)
    assert (round_robin.process_file, load.process_file) == ("", "")
    assert (load.source, load.path, load.port) == ("http", "/busy", 0)


def test_weights_go_to_elements_in_turn_and_else_the_manifests(tmp_path: Path) -> None:
    pool = server_pool(elements={"port": 1024, "weight": 9}, policy={"type": "WeightedRandom"})
    for weights, expected in (((5, 1), [5, 1, 5]), ((), [9, 9, 9])):
        plan = planned(pool, tmp_path, elements=3, weights=weights)
        assert [sidecar(p, tmp_path).policy.weight for p in plan.sidecars] == expected


def registrar(plan: ProcessPlan) -> RegistrarSettings:
    write_process(plan, "t")
    return load(RegistrarSettings, Path(plan.command[-1]), {})


def test_with_two_networks_registrars_serve_both_families_and_each_element_enrols_by_its_own(tmp_path: Path) -> None:
    addresses = Networks(read_networks("10.77.0.0/16,fd00:77::/112"))
    chosen = UpOptions(elements=2, command=COMMAND)
    urls = ("https://10.77.129.1:8443", "https://[fd00:77::8101]:8443")
    plan = make_plan(
        server_pool(registrars={"replicas": 2}), chosen, addresses, tmp_path, tmp_path, urls[0], "", urls[1]
    )
    told = [registrar(p) for p in plan.registrars]
    assert [[str(a) for a in r.network.own] for r in told] == [
        ["10.77.1.1", "fd00:77::101"],
        ["10.77.1.2", "fd00:77::102"],
    ]
    assert told[0].peers.addresses == (("10.77.1.1", 9902), ("10.77.1.2", 9902))
    assert {r.security.url for r in told} == {urls[0]}
    elements = [sidecar(p, tmp_path) for p in plan.sidecars]
    assert [e.security.url for e in elements] == list(urls)
    assert [str(e.network.address) for e in elements] == ["10.77.65.1", "fd00:77::4102"]
    assert elements[0].registrars.addresses == elements[1].registrars.addresses
    assert ("fd00:77::102", 3864) in elements[0].registrars.addresses
    assert len(elements[0].registrars.addresses) == 4


@pytest.mark.parametrize("multicast", [True, False])
def test_multicast_is_for_registrars_and_sidecars_alike_and_off_unless_asked_for(
    tmp_path: Path, *, multicast: bool
) -> None:
    plan = planned(folder=tmp_path, multicast=multicast) if multicast else planned(folder=tmp_path)
    assert registrar(plan.registrars[0]).discovery.multicast is multicast
    assert sidecar(plan.sidecars[0], tmp_path).discovery.multicast is multicast


def test_a_plan_of_another_size_keeps_who_is_there() -> None:
    two, three = planned(), planned(elements=3)
    more = resize(two, three)
    assert more.sidecars == (*two.sidecars, three.sidecars[2])
    assert more.applications == (*two.applications, three.applications[2])
    fewer = resize(two, planned(elements=1))
    assert (fewer.sidecars, fewer.applications) == (two.sidecars[:1], two.applications[:1])
    assert more.registrars == fewer.registrars == two.registrars
