"""Alerts, dashboards and the names in them, as files; that they move is seen end to end (`tests/e2e/test_metrics.py`)."""

import json
import re

import pytest
import yaml

from contracts import topology
from contracts.commands import TaskKind
from tests.conftest import REPOSITORY
from tests.metrics import names_in

ALERTS = REPOSITORY / "compose" / "prometheus" / "alerts.yml"
RULES = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
SEVERITIES = {"critical", "warning"}
PROBED = ("/health", "/health/live", "/health/ready", "/metrics")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up", {"up"}),
        ('sum by (job) (rate(a_total{b="c, d_total", e=~"f.*"}[5m])) > 0', {"a_total"}),
        ("histogram_quantile(0.9, sum by (le) (rate(a_bucket[$__rate_interval])))", {"a_bucket"}),
        ("max(a) == 1 or b unless on (x, y) group_left (z) c offset 5m", {"a", "b", "c"}),
        ('a{b="}"} / ignoring (c) d', {"a", "d"}),
    ],
)
def test_the_metrics_of_an_expression_are_all_names_that_are_nothing_else(expression: str, names: set[str]) -> None:
    assert names_in(expression) == names


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_says_what_is_wrong_and_where_it_is_written_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    page, _, anchor = rule["annotations"]["runbook"].partition("#")

    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"]["summary"]
    assert anchor in anchors(page)


def test_the_chapters_of_the_runbook_name_the_alerts_that_lead_there() -> None:
    for rule in RULES:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert f"`{rule['alert']}`" in chapter(page, anchor)


def test_a_process_is_missed_also_when_its_name_is_no_longer_resolved() -> None:
    config = yaml.safe_load((ALERTS.parent / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]} - {"rabbitmq-queues"}  # the same process

    assert set(re.findall(r'absent\(up{job="([^"]+)"}\)', expression_of("ProcessDown"))) == jobs


def test_probes_neither_make_nor_hide_an_alert_of_failing_requests() -> None:
    expression = expression_of("ServerErrors")
    left_out = re.findall(r'route!~"([^"]+)"', expression)

    assert len(left_out) == expression.count("detections_http_requests_total")
    for pattern in left_out:
        assert all(re.fullmatch(pattern, route) for route in PROBED)
        assert not re.fullmatch(pattern, "/detect")


def test_a_queue_is_compared_with_the_waits_of_its_own_kind() -> None:
    [pattern] = re.findall(r'"queue", "([^"]+)"', expression_of("CommandsStandStill"))
    queues = (topology.IMAGE_COMMANDS, topology.VIDEO_COMMANDS, topology.SHOTS_COMMANDS)

    assert {re.sub(f"^(?:{pattern})$", r"\1", queue) for queue in queues} == {kind.value for kind in TaskKind}


def test_the_dashboard_has_no_two_panels_in_one_place() -> None:
    panels = json.loads((REPOSITORY / "compose/grafana/dashboards/detections.json").read_text())["panels"]
    places = [(x, y) for panel in panels for x, y in cells(panel["gridPos"])]

    assert len(places) == len(set(places))
    assert len({panel["id"] for panel in panels}) == len(panels)


def expression_of(alert: str) -> str:
    return next(rule["expr"] for rule in RULES if rule["alert"] == alert)


def cells(place: dict[str, int]) -> list[tuple[int, int]]:
    return [(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])]


def anchors(page: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", (REPOSITORY / page).read_text(), re.MULTILINE)
    return {anchor_of(heading) for heading in headings}


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def chapter(page: str, anchor: str) -> str:
    """What stands below a heading."""
    parts = re.split(r"^#+ (.+)$", (REPOSITORY / page).read_text(), flags=re.MULTILINE)
    texts = {anchor_of(heading): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}
    return texts[anchor]
