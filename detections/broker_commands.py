"""`detections broker`: the broker's side of the service, set up by hand or as a file of definitions."""

import os
import re
from typing import Annotated

import typer

from contracts.broker_nodes import without_users
from detections import broker_setup
from detections.broker_definitions import OLDEST, VIRTUAL_HOST_DEFAULT, definitions, document
from detections.broker_users import USERS, passwords_of
from detections.management import access

_VERSION = re.compile(r"\d+\.\d+")
VARIABLES = ", ".join(user.password_variable for user in USERS)


def register(commands: typer.Typer) -> None:
    """Add the commands."""
    broker = typer.Typer(help="The broker's side of the service.", no_args_is_help=True)
    broker.command("setup")(setup)
    broker.command("definitions", help=f"{print_definitions.__doc__} From the environment: {VARIABLES}.")(
        print_definitions
    )
    commands.add_typer(broker, name="broker")


def setup(
    amqp_url: Annotated[
        str, typer.Option(help="The broker, with a user who may create.", envvar="AMQP_URL")
    ] = broker_setup.AMQP_URL_DEFAULT,
    management_url: Annotated[
        str | None,
        typer.Option(
            help="Its management, `http://user:password@host:15672`: sets the policies too.",
            envvar="MANAGEMENT_URL",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Create exchanges and queues, and set the policies that an operator may tune."""
    if management_url is not None:
        access(management_url)  # refused before anything is done
    broker_setup.declare(amqp_url)
    print(f"declared on {without_users(amqp_url)}")
    if management_url is not None:
        virtual_host = broker_setup.virtual_host(amqp_url)
        version = broker_setup.set_policies(management_url, virtual_host=virtual_host)
        print(f"policies set (RabbitMQ {version})")


def print_definitions(
    virtual_host: Annotated[str, typer.Option(help="Where everything is.")] = VIRTUAL_HOST_DEFAULT,
    version: Annotated[str, typer.Option("--rabbitmq", help="The oldest version that is to take them.")] = OLDEST,
) -> None:
    """Print what RabbitMQ imports: our queues, policies and users, with the hashes of their passwords.

    A user without a password is there and cannot log in.
    """
    if not _VERSION.match(version):
        raise typer.BadParameter(f"--rabbitmq: {version} is no version such as {OLDEST}")
    described = definitions(virtual_host, passwords=passwords_of(os.environ), version=version)
    print(document(described), end="")
