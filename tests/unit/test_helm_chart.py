"""The Helm chart, rendered: its objects against the images, the settings, the routes and what the processes do when they stop."""

import copy
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml

from consumers.app import IMAGES_PER_WORKER, LAST_WORD_S
from consumers.settings import SHARED as CONSUMER_SHARED
from consumers.settings import ConsumerSettings
from consumers.settings import from_environment as consumer_settings
from contracts.settings import variable_name
from contracts.topology import COMMANDS, topology
from edge.app import ROUTES
from edge.background import STOP_WAIT_S
from edge.settings import SHARED as EDGE_SHARED
from edge.settings import EdgeSettings
from edge.settings import from_environment as edge_settings
from tests.compose_file import COMPOSE, PICTURE_BYTES, VIDEOS_BYTES
from tests.conftest import REPOSITORY
from tests.container_files import Image, read_images
from tests.helm_templates import render

CHART = COMPOSE / "helm"
SCHEMA = msgspec.json.decode((CHART / "values.schema.json").read_bytes())
ENDING_S = 10
KINDS = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "Ingress": "networking.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "PodDisruptionBudget": "policy/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "Service": "v1",
    "TriggerAuthentication": "keda.sh/v1alpha1",
}
EVERYTHING = {"ingress.enabled": True, "autoscaling.enabled": True}

Objects = dict[tuple[str, str], dict[str, Any]]


def values(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Those of the chart, some of them changed, which the schema allows."""
    said = yaml.safe_load((CHART / "values.yaml").read_text())
    for path, value in (changes or {}).items():
        *folders, name = path.split(".")
        place = said
        for folder in folders:
            place = place[folder]
        place[name] = value
    jsonschema_rs.validate(SCHEMA, said)
    return said


def rendered(changes: Mapping[str, Any] | None = None) -> Objects:
    """Every object, by its kind and its name without the release's."""
    return _rendered(msgspec.json.encode(changes or {}))


@cache
def _rendered(changes: bytes) -> Objects:
    files = render(CHART, values(msgspec.json.decode(changes)))
    objects = [
        each for name, text in files.items() if name.endswith(".yaml") for each in yaml.safe_load_all(text) if each
    ]
    by_name = {(each["kind"], each["metadata"]["name"].removeprefix("test-")): each for each in objects}
    assert len(by_name) == len(objects)
    return by_name


def pod(objects: Objects, component: str) -> dict[str, Any]:
    return objects["Deployment", component]["spec"]["template"]["spec"]


def container(objects: Objects, component: str) -> dict[str, Any]:
    (only,) = pod(objects, component)["containers"]
    return only


def image(component: str) -> Image:
    return read_images(COMPOSE / f"{component}.Dockerfile")[{"edge": "edge", "consumer": "cpu"}[component]]


def environ(objects: Objects, component: str) -> dict[str, str]:
    """What a process finds in its environment; a text in each, as Kubernetes asks."""
    data = objects["ConfigMap", component]["data"]
    assert all(isinstance(value, str) for value in data.values())
    return image(component).environ | data


VARIANTS = [
    {},
    EVERYTHING,
    {
        "consumer.gpu": {"enabled": True, "runtimeClassName": "nvidia", "memory": "16Gi"},
        "image.registry": "registry.example/team",
    },
    {"storage.existingClaim": "mine", "networkPolicy.enabled": False, "secrets.edge.jwtKey": ""},
    {
        "networkPolicy.edgeFrom": [{"podSelector": {}}],
        "networkPolicy.edgeEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        "edge.nodeSelector": {"disk": "fast"},
        "edge.tolerations": [{"key": "x", "operator": "Exists"}],
        "image.pullSecrets": [{"name": "pull"}],
    },
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_object_is_of_a_known_kind_is_labelled_and_is_chosen_by_what_is_chosen_for(
    changes: dict[str, Any],
) -> None:
    objects = rendered(changes)

    for (kind, _), each in objects.items():
        assert each["apiVersion"] == KINDS[kind]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", each["metadata"]["name"])
        assert {"app.kubernetes.io/name", "app.kubernetes.io/instance"} <= set(each["metadata"]["labels"])
    for component in ("edge", "consumer"):
        labels = objects["Deployment", component]["spec"]["template"]["metadata"]["labels"]
        for selector in selectors(objects, component):
            assert selector.items() <= labels.items()
            assert selector["app.kubernetes.io/component"] == component


def selectors(objects: Objects, component: str) -> Iterator[dict[str, str]]:
    """Of everything that is about the pods of one component."""
    yield objects["Deployment", component]["spec"]["selector"]["matchLabels"]
    yield objects["PodDisruptionBudget", component]["spec"]["selector"]["matchLabels"]
    if ("NetworkPolicy", component) in objects:
        yield objects["NetworkPolicy", component]["spec"]["podSelector"]["matchLabels"]
    if component == "edge":
        yield objects["Service", "edge"]["spec"]["selector"]


def test_what_is_optional_is_there_when_it_is_asked_for() -> None:
    optional = {("Ingress", "edge"), ("ScaledObject", "consumer"), ("TriggerAuthentication", "queues")}

    assert set(rendered(EVERYTHING)) - set(rendered()) == optional
    assert "replicas" not in rendered(EVERYTHING)["Deployment", "consumer"]["spec"]
    without = rendered({"storage.existingClaim": "mine", "networkPolicy.enabled": False})
    assert {kind for kind, _ in without} == {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service"}
    assert pod(without, "edge")["volumes"][0]["persistentVolumeClaim"] == {"claimName": "mine"}


@pytest.mark.parametrize("component", ["edge", "consumer"])
def test_a_pod_is_nobody_may_nothing_and_writes_nothing_but_its_volumes(component: str) -> None:
    objects = rendered()
    spec, only = pod(objects, component), container(objects, component)

    assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == image(component).user
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {mount["mountPath"]: mount["name"] for mount in only["volumeMounts"]}
    assert set(mounted.values()) == {volume["name"] for volume in spec["volumes"]}
    assert {"/storage", "/tmp"} <= set(mounted)
    assert tuple(port["containerPort"] for port in only["ports"]) == image(component).ports
    assert {"cpu", "memory"} <= set(only["resources"]["limits"]) & set(only["resources"]["requests"])


@pytest.mark.parametrize("component", ["edge", "consumer"])
def test_every_variable_is_a_setting_and_has_an_allowed_value(component: str) -> None:
    objects = rendered()
    said = environ(objects, component)
    settings, prefix, shared = {
        "edge": (EdgeSettings, "EDGE_", EDGE_SHARED),
        "consumer": (ConsumerSettings, "CONSUMER_", CONSUMER_SHARED),
    }[component]

    known = {variable_name(field, prefix=prefix, shared=shared) for field in settings.__struct_fields__}
    names = set(objects["ConfigMap", component]["data"]) | {
        each["name"] for each in container(objects, component).get("env", ())
    }
    assert {name.removesuffix("_FILE") for name in names} <= known
    in_clear = {name: value for name, value in said.items() if not name.endswith("_FILE")}
    {"edge": edge_settings, "consumer": consumer_settings}[component](in_clear)


@pytest.mark.parametrize("component", ["edge", "consumer"])
def test_every_secret_is_by_reference_and_lies_where_its_setting_says(component: str) -> None:
    objects = rendered()
    only, (secrets,) = (
        container(objects, component),
        [each for each in pod(objects, component)["volumes"] if each["name"] == "secrets"],
    )
    folder = next(mount["mountPath"] for mount in only["volumeMounts"] if mount["name"] == "secrets")
    files = {
        f"{folder}/{item['path']}" for source in secrets["projected"]["sources"] for item in source["secret"]["items"]
    }

    assert files == {value for name, value in environ(objects, component).items() if name.endswith("_FILE")}
    assert secrets["projected"]["defaultMode"] == 0o440
    assert ("Secret", component) not in objects
    without = rendered({"secrets.edge.jwtKey": ""})
    assert "EDGE_JWT_KEY_FILE" not in environ(without, "edge")


def test_whose_secret_is_whose() -> None:
    objects = rendered()

    def keys(component: str) -> set[tuple[str, str]]:
        (secrets,) = [each for each in pod(objects, component)["volumes"] if each["name"] == "secrets"]
        return {
            (source["secret"]["name"], item["key"])
            for source in secrets["projected"]["sources"]
            for item in source["secret"]["items"]
        }

    assert keys("consumer") == {("detections-broker", "consumer-amqp-url")}
    assert keys("edge") & keys("consumer") == set()


def test_probes_ask_routes_that_are_there_and_wait_longer_than_these_may_take() -> None:
    objects = rendered()
    only = container(objects, "edge")
    routes = {path for route in ROUTES for path in getattr(route, "paths", ())}
    ports = {port["name"]: port["containerPort"] for port in only["ports"]}
    probes = [only[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")]

    assert ports["http"] == int(environ(objects, "edge")["EDGE_PORT"])
    assert all(probe["httpGet"]["path"] in routes and probe["httpGet"]["port"] == "http" for probe in probes)
    assert set(SCHEMA["properties"]["edge"]["properties"]["readinessPath"]["enum"]) <= routes
    settings = edge_settings({})
    assert only["readinessProbe"]["timeoutSeconds"] > 2 * settings.probe_timeout_s  # the broker, then the storage
    assert "health/ready" not in only["livenessProbe"]["httpGet"]["path"], (
        "a broker that is away is no reason to restart an edge"
    )


def test_probes_of_a_consumer_ask_the_port_of_its_operator() -> None:
    only = container(rendered(), "consumer")

    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert only[probe]["httpGet"]["port"] == "metrics"
        assert f'"{only[probe]["httpGet"]["path"]}"' in (REPOSITORY / "consumers" / "metrics_page.py").read_text()


def test_traffic_reaches_the_port_that_is_listened_on() -> None:
    objects = rendered(EVERYTHING)
    (port,) = objects["Service", "edge"]["spec"]["ports"]
    (rule,) = objects["Ingress", "edge"]["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]

    assert port["targetPort"] in {each["name"] for each in container(objects, "edge")["ports"]}
    assert backend == {"name": objects["Service", "edge"]["metadata"]["name"], "port": {"name": port["name"]}}
    assert (
        objects["Ingress", "edge"]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-request-buffering"]
        == "off"
    )


@pytest.mark.parametrize("stop_s", [1, 20, 600])
def test_there_is_time_to_stop_in_good_order(stop_s: int) -> None:
    objects = rendered({"edge.stopTimeoutS": stop_s, "consumer.stopTimeoutS": stop_s, "edge.drainS": 7})
    edge = {name: value for name, value in environ(objects, "edge").items() if not name.endswith("_FILE")}
    consumer = {name: value for name, value in environ(objects, "consumer").items() if not name.endswith("_FILE")}

    assert edge_settings(edge).stop_timeout_s == consumer_settings(consumer).stop_s == stop_s
    drain = container(objects, "edge")["lifecycle"]["preStop"]["exec"]["command"]
    assert drain == ["sleep", "7"]
    assert pod(objects, "edge")["terminationGracePeriodSeconds"] >= 7 + stop_s + STOP_WAIT_S + ENDING_S
    assert pod(objects, "consumer")["terminationGracePeriodSeconds"] >= stop_s + LAST_WORD_S + ENDING_S


def test_a_rollout_never_has_fewer_edges_and_takes_a_gpu_only_when_it_is_free() -> None:
    on_gpus = rendered({"consumer.gpu.enabled": True})

    assert rendered()["Deployment", "edge"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert on_gpus["Deployment", "consumer"]["spec"]["strategy"]["rollingUpdate"] == {
        "maxUnavailable": 1,
        "maxSurge": 0,
    }
    limits = container(on_gpus, "consumer")["resources"]["limits"]
    assert limits == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": 1}  # engines are built in it, too
    assert container(on_gpus, "consumer")["image"].endswith("-gpu")


def test_a_changed_setting_restarts_the_pods_that_read_it() -> None:
    before, after = rendered(), rendered({"edge.settings": {"EDGE_LOG_LEVEL": "debug"}})

    def annotations(objects: Objects, component: str) -> Any:
        return objects["Deployment", component]["spec"]["template"]["metadata"]["annotations"]

    assert annotations(before, "edge") != annotations(after, "edge")
    assert annotations(before, "consumer") == annotations(after, "consumer")


def test_as_many_workers_as_cpus() -> None:
    (workers,) = container(rendered(), "consumer")["env"]

    assert workers["name"] == "CONSUMER_WORKERS"
    assert workers["valueFrom"]["resourceFieldRef"] == {
        "containerName": "consumer",
        "resource": "limits.cpu",
        "divisor": "1",
    }


def test_there_is_room_for_the_largest_pictures_that_come_at_once() -> None:
    limits = container(rendered(), "consumer")["resources"]["limits"]
    pictures = int(limits["cpu"]) * IMAGES_PER_WORKER

    assert int(limits["memory"].removesuffix("Gi")) * 2**30 >= pictures * PICTURE_BYTES + VIDEOS_BYTES


def test_what_is_written_of_scraping_calls_the_pods_as_the_alerts_do() -> None:
    written = re.search(r"```yaml\n(.+?)```", (REPOSITORY / "docs" / "deployment.md").read_text(), re.DOTALL)
    assert written
    (job,) = yaml.safe_load(textwrap.dedent("  " + written[1].lstrip()))
    ports, components, name = job["relabel_configs"]
    alerts = (COMPOSE / "prometheus" / "alerts.yml").read_text()

    assert name == {"source_labels": components["source_labels"], "target_label": "job"}
    assert set(components["regex"].split("|")) == set(re.findall(r'absent\(up{job="(\w+)"}\)', alerts))
    for component in ("edge", "consumer"):
        labels = rendered()["Deployment", component]["spec"]["template"]["metadata"]["labels"]
        (metrics,) = (port for port in container(rendered(), component)["ports"] if port["containerPort"] == 9464)
        assert re.fullmatch(components["regex"], labels["app.kubernetes.io/component"])
        assert re.fullmatch(ports["regex"], metrics["name"])


def test_queues_are_those_of_the_topology_and_consumers_never_go_to_none() -> None:
    objects = rendered(EVERYTHING)
    spec = objects["ScaledObject", "consumer"]["spec"]
    queues = {queue.name for queue in topology().queues if queue.name.startswith(f"{COMMANDS}.")}

    assert {trigger["metadata"]["queueName"] for trigger in spec["triggers"]} == queues
    for trigger in spec["triggers"]:
        assert trigger["metadata"]["protocol"] == "http"
        assert trigger["metadata"]["excludeUnacknowledged"] == "false"
        assert trigger["authenticationRef"]["name"] == objects["TriggerAuthentication", "queues"]["metadata"]["name"]
    assert spec["scaleTargetRef"]["name"] == objects["Deployment", "consumer"]["metadata"]["name"]
    assert not jsonschema_rs.is_valid(SCHEMA, values() | {"autoscaling": values()["autoscaling"] | {"minReplicas": 0}})
    assert values()["autoscaling"]["perConsumer"]["video"] <= ConsumerSettings().videos_max
    assert values()["autoscaling"]["perConsumer"]["shots"] <= ConsumerSettings().shots_max


def test_who_opens_untrusted_media_reaches_the_broker_and_nothing_else() -> None:
    objects = rendered()
    policy = objects["NetworkPolicy", "consumer"]["spec"]
    ports = [port["port"] for rule in policy["egress"] for port in rule["ports"]]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert sorted(ports) == [53, 53, 5672]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["metrics"]
    assert all(rule["from"] for rule in policy["ingress"])
    named = {port["name"] for component in ("edge", "consumer") for port in container(objects, component)["ports"]}
    rules = itertools.chain.from_iterable(
        objects["NetworkPolicy", each]["spec"]["ingress"] for each in ("edge", "consumer")
    )
    assert {port["port"] for rule in rules for port in rule["ports"]} <= named


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("edge.settings", {"EDGE_UPLOADS_MAX": "1"}),
        ("edge.settings", {"EDGE_PORT": "9000"}),
        ("edge.settings", {"EDGE_UPLOAD_BYTES_MAX": 68719476736}),
        ("consumer.settings", {"EDGE_LOG_LEVEL": "info"}),
        ("consumer.resources.limits", {"cpu": "1500m", "memory": "1Gi"}),
        ("consumer.resources.limits", {"memory": "1Gi"}),
        ("image.tag", "latest"),
        ("autoscaling.minReplicas", 0),
        ("autoscaling.perConsumer", {"sound": 1}),
        ("edge.readinessPath", "/"),
        ("storage.accessModes", ["ReadOnlyMany"]),
        ("unknown", 1),
    ],
)
def test_the_schema_refuses_what_would_not_work(path: str, value: object) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        values({path: value})


def test_the_notes_say_how_to_get_in() -> None:
    assert "port-forward service/test-edge 8000:80" in render(CHART, values())["NOTES.txt"]
    with_ingress = copy.deepcopy(values(EVERYTHING | {"ingress.tlsSecret": "certificate"}))
    assert "https://detections.example/" in render(CHART, with_ingress)["NOTES.txt"]
