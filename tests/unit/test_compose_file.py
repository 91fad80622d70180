"""compose.yaml, against the images, the settings, the tree and what the processes do when they stop."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumers.app import IMAGES_PER_WORKER, LAST_WORD_S
from consumers.settings import SHARED as CONSUMER_SHARED
from consumers.settings import ConsumerSettings
from consumers.settings import from_environment as consumer_settings
from contracts.operator_port import address_of
from contracts.settings import variable_name
from detections.broker_setup import CONSUMER_TIMEOUT_MS
from edge.admission import check_admission
from edge.background import STOP_WAIT_S
from edge.settings import SHARED as EDGE_SHARED
from edge.settings import EdgeSettings
from edge.settings import from_environment as edge_settings
from tests.bare import SECRETS
from tests.compose_file import COMPOSE, PICTURE_BYTES, VIDEOS_BYTES, environ_of, read_compose, seconds
from tests.conftest import REPOSITORY
from tests.container_files import Image, read_images
from tests.signing import SHARED_KEY

OURS = ("edge", "consumer-cpu", "consumer-gpu")
ENDING_S = 10
"""For connections that are closed and threads that are joined, on a busy machine: in a stopped stack of tests at most 2 s."""
MADE_HERE = COMPOSE / "secrets"
METRICS = {
    "edge": "EDGE_METRICS_ADDRESS",
    "consumer-cpu": "CONSUMER_METRICS_ADDRESS",
    "consumer-gpu": "CONSUMER_METRICS_ADDRESS",
}
SEAL_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def services() -> dict[str, Any]:
    return read_compose()["services"]


def image_of(service: Mapping[str, Any]) -> Image:
    stages = read_images(REPOSITORY / service["build"]["dockerfile"])
    return stages[service["build"].get("target", "edge")]


def binds_and_volumes(service: Mapping[str, Any]) -> list[list[str]]:
    return [mount.split(":") for mount in service.get("volumes", ())]


def told(name: str, folder: Path) -> dict[str, str]:
    """What one of our services finds in its environment, its secrets in a folder here."""
    service = services()[name]
    environ = image_of(service).environ | environ_of(service)
    values = {"edge_jwt_key": SHARED_KEY, "edge_seal_keys": SEAL_KEY}
    for variable, path in environ.items():
        if variable.endswith("_FILE"):
            secret = path.removeprefix(f"{SECRETS}/")
            assert secret in service["secrets"]
            (folder / secret).write_text(values.get(secret, f"amqp://{secret}@rabbitmq:5672/") + "\n")
            environ[variable] = str(folder / secret)
    return environ


@pytest.mark.parametrize("name", [*OURS, "rabbitmq", "prometheus", "grafana"])
def test_a_service_is_nobody_may_nothing_writes_nothing_and_is_bounded(name: str) -> None:
    service = services()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
    assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert service["logging"]["options"]["max-size"]
    if "build" in service:
        assert service["user"] == image_of(service).user
    else:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(-management)?(@sha256:[0-9a-f]{64})?", service["image"])


def test_every_service_and_no_other_is_described_here() -> None:
    written = services()

    assert set(written) == {*OURS, "rabbitmq", "prometheus", "grafana"}
    assert {name: service["profiles"] for name, service in written.items() if "profiles" in service} == {
        "consumer-cpu": ["cpu"],
        "consumer-gpu": ["gpu"],
    }


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_is_a_setting_and_has_an_allowed_value(name: str, tmp_path: Path) -> None:
    environ = told(name, tmp_path)
    settings, prefix, shared = (
        (EdgeSettings, "EDGE_", EDGE_SHARED) if name == "edge" else (ConsumerSettings, "CONSUMER_", CONSUMER_SHARED)
    )

    known = {variable_name(field, prefix=prefix, shared=shared) for field in settings.__struct_fields__}
    written = {variable.removesuffix("_FILE") for variable in environ_of(services()[name])}
    assert written <= known
    if name == "edge":
        check_admission(edge_settings(environ))
    else:
        consumer_settings(environ)


def test_what_is_written_is_written_to_a_volume_that_both_sides_share(tmp_path: Path) -> None:
    edge, consumer = edge_settings(told("edge", tmp_path)), consumer_settings(told("consumer-cpu", tmp_path))
    written = read_compose()

    for name in OURS:
        targets = {target: source for source, target, *_ in binds_and_volumes(written["services"][name])}
        assert targets["/storage"] == "storage"
        assert set(image_of(written["services"][name]).volumes) == set(targets)
        assert written["services"][name]["tmpfs"][0].startswith("/tmp:")
    assert (edge.storage_dir, consumer.storage_dir) == ("/storage", "/storage")
    assert consumer.models_dir in dict(map(reversed, binds_and_volumes(written["services"]["consumer-cpu"])))
    assert {
        source for each in written["services"].values() for source, *_ in binds_and_volumes(each) if "/" not in source
    } == set(written["volumes"])


def test_the_model_that_is_served_unless_another_is_chosen_is_in_the_image(tmp_path: Path) -> None:
    model = consumer_settings(told("consumer-gpu", tmp_path)).model

    assert model
    copied = {copy.target: copy.sources[0] for copy in image_of(services()["consumer-gpu"]).copies}
    folder, _, file = model.rpartition("/")
    assert (REPOSITORY / copied[folder] / file).is_file()


def test_what_is_mounted_from_here_is_here_or_made_by_make_secrets() -> None:
    made = (COMPOSE / "make-secrets.sh").read_text()
    written = read_compose()
    mounted = [
        source for service in written["services"].values() for source, *_ in binds_and_volumes(service) if "/" in source
    ]
    secrets = {secret for service in written["services"].values() for secret in service.get("secrets", ())}

    for path in (COMPOSE / source for source in mounted):
        assert path.is_relative_to(MADE_HERE) or path.exists(), path
    assert secrets == set(written["secrets"])
    for name, secret in written["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
        assert re.search(rf"secret {name} |secret \"\$\{{user\}}_", made)


def test_no_secret_is_in_an_environment_or_in_the_repository() -> None:
    for service in services().values():
        for variable in environ_of(service):
            assert not re.search(r"(PASSWORD|KEY|KEYS|AMQP_URL)$", variable)
    assert "/compose/secrets/" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_ports_are_those_of_the_images_and_open_to_this_machine_alone() -> None:
    written = services()
    shown = {name: service["ports"] for name, service in written.items() if "ports" in service}

    assert {port.rpartition(":")[0].partition(":")[0] for ports in shown.values() for port in ports} == {"127.0.0.1"}
    assert [int(port.rpartition(":")[2]) for port in shown["edge"]] == list(image_of(written["edge"]).ports[:1])
    asked = [conf()["listeners.tcp.default"], conf()["management.tcp.port"]]  # by `detections dead-letters` and `top`
    assert shown["rabbitmq"] == [f"127.0.0.1:{port}:{port}" for port in asked]


def conf() -> dict[str, str]:
    """Of rabbitmq.conf."""
    lines = (COMPOSE / "rabbitmq" / "rabbitmq.conf").read_text().splitlines()
    return dict(line.split(" = ") for line in lines if line and not line.startswith("#"))


def test_the_broker_loads_our_definitions_and_waits_as_long_for_a_video_as_a_video_may_take() -> None:
    broker = services()["rabbitmq"]
    mounted = dict(map(reversed, (mount[:2] for mount in binds_and_volumes(broker))))

    assert mounted[conf()["definitions.local.path"]] == "./secrets/definitions.json"
    assert int(conf()["consumer_timeout"]) == CONSUMER_TIMEOUT_MS
    assert broker["hostname"] in (COMPOSE / "make-secrets.sh").read_text()
    plugins = (COMPOSE / "rabbitmq" / "enabled_plugins").read_text().strip()
    assert plugins == "[rabbitmq_management,rabbitmq_prometheus]."
    assert broker["image"].endswith("-management"), "the plain one has management_agent.disable_metrics_collector"


def test_prometheus_asks_every_service_on_the_port_where_it_has_metrics() -> None:
    written = services()
    jobs = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    asked = {(name, each["port"]) for job in jobs for each in job["dns_sd_configs"] for name in each["names"]}

    ports = {name: address_of(image_of(written[name]).environ[variable]).port for name, variable in METRICS.items()}
    assert asked == {*ports.items(), ("rabbitmq", int(conf()["prometheus.tcp.port"]))}
    shared = {name for name, service in written.items() if "inside" in service["networks"]}
    assert {"prometheus", *dict(asked)} <= shared


def test_grafana_finds_its_dashboards_and_prometheus() -> None:
    mounted = {target: COMPOSE / source for source, target, *_ in binds_and_volumes(services()["grafana"])}
    provisioning = mounted["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "detections.yml").read_text())["providers"]

    assert source["url"] == "http://prometheus:9090"
    assert list(mounted[provider["options"]["path"]].glob("*.json"))


def test_who_opens_untrusted_media_reaches_the_broker_and_nothing_else() -> None:
    written = read_compose()

    assert written["networks"]["inside"] == {"internal": True}
    for name in ("consumer-cpu", "consumer-gpu"):
        assert written["services"][name]["networks"] == ["inside"]
        assert "ports" not in written["services"][name]
    assert "inside" in written["services"]["rabbitmq"]["networks"]


def test_who_is_waited_for_says_when_it_is_well() -> None:
    written = services()

    for service in written.values():
        for other, said in service.get("depends_on", {}).items():
            assert said == {"condition": "service_healthy"}
            assert written[other]["healthcheck"]["test"]
    assert all(image_of(written[name]).health_check for name in OURS)


def test_there_is_time_to_stop_in_good_order(tmp_path: Path) -> None:
    written = services()
    edge, consumer = edge_settings(told("edge", tmp_path)), consumer_settings(told("consumer-cpu", tmp_path))

    assert seconds(written["edge"]["stop_grace_period"]) >= edge.stop_timeout_s + STOP_WAIT_S + ENDING_S / 2
    for name in ("consumer-cpu", "consumer-gpu"):
        assert seconds(written[name]["stop_grace_period"]) >= consumer.stop_s + LAST_WORD_S + ENDING_S
        assert (written[name]["init"], written[name]["stop_signal"]) == (True, "SIGTERM")


def test_as_many_workers_as_cpus() -> None:
    service = read_compose({"CONSUMER_CPUS": "6"})["services"]["consumer-cpu"]

    assert service["deploy"]["resources"]["limits"]["cpus"] == environ_of(service)["CONSUMER_WORKERS"] == "6"


def test_there_is_room_for_the_largest_pictures_that_come_at_once() -> None:
    limits = services()["consumer-cpu"]["deploy"]["resources"]["limits"]
    pictures = int(limits["cpus"]) * IMAGES_PER_WORKER

    assert int(limits["memory"].removesuffix("G")) * 2**30 >= pictures * PICTURE_BYTES + VIDEOS_BYTES


def test_variables_are_filled_in_as_docker_does(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("a: ${A:-one}\nb: '${B:-}'\nc: ${C}\n")

    assert read_compose({"C": "3", "A": ""}, path=path) == {"a": "one", "b": "", "c": 3}
    with pytest.raises(KeyError, match="C"):
        read_compose(path=path)
    with pytest.raises(TypeError, match="quotes"):
        environ_of(yaml.safe_load("environment: {A: }"))
    assert (seconds("1m30s"), seconds("50s")) == (90, 50)
