"""The settings of an edge: each with a bound, a unit and a name."""

import msgspec
import pytest

from contracts.settings import ConfigurationError
from edge.settings import EdgeSettings, from_environment, unread


def test_nothing_set_gives_the_defaults() -> None:
    assert from_environment({}) == EdgeSettings()


def test_shared_names_have_no_prefix_and_own_names_have_one() -> None:
    settings = from_environment({"AMQP_URL": "amqp://b/", "STORAGE_DIR": "/s", "EDGE_PORT": "0", "PORT": "1"})
    assert (settings.amqp_url, str(settings.storage), settings.port) == ("amqp://b/", "/s", 0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EDGE_PORT", "70000"),
        ("EDGE_PORT", "http"),
        ("EDGE_STREAM_HEARTBEAT_S", "0"),
        ("EDGE_LOG_READERS_MAX", "0"),
        ("EDGE_LOG_LEVEL", "loud"),
        ("AMQP_URL", ""),
        ("ANNOTATIONS_URL", "annotations:8080"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        from_environment({variable: value})


def test_a_misspelt_setting_is_noticed_and_one_from_a_file_or_of_somebody_else_is_none() -> None:
    environ = {
        "EDGE_STOP_TIMEOUT": "5",
        "EDGE_JWT_KEY_FILE": "/f",
        "EDGE_PORT": "1",
        "CONSUMER_WORKER": "1",
        "PORT": "2",
    }

    assert unread(environ) == ["EDGE_STOP_TIMEOUT"]


@pytest.mark.parametrize("value", ["htp://user:pass/w@rd@annotations/x", "user:pass/w@rd@annotations/x"])
def test_a_misspelt_address_is_shown_without_its_password(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"annotations/x") as raised:
        from_environment({"ANNOTATIONS_URL": value})

    assert "pass" not in str(raised.value)
    assert ("htp://" in str(raised.value)) == value.startswith("htp://")


@pytest.mark.parametrize("value", ["inf", "1e12"])
@pytest.mark.parametrize(
    "variable", ["EDGE_MEDIA_KEPT_S", "EDGE_TASKS_KEPT_S", "EDGE_TASKS_SILENT_S", "EDGE_POST_RETRY_FOR_S"]
)
def test_a_time_that_leads_to_no_date_is_refused_at_the_start(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        from_environment({variable: value})


@pytest.mark.parametrize("field", msgspec.structs.fields(EdgeSettings), ids=lambda field: field.name)
def test_every_setting_says_what_it_is(field: msgspec.structs.FieldInfo) -> None:
    meta = field.type.__metadata__[0]
    assert meta.description
    assert msgspec.convert(str(field.default), field.type, strict=False) == field.default
