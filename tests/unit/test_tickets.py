"""Tickets: good once, for 30 s, on any edge of the storage, and nobody can make one."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from cryptography.fernet import Fernet

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from edge.auth import Caller
from edge.tickets import LIVES_S, TICKET_CHARS_MAX, USED_KEPT_S, Tickets
from edge.vault import Credentials, Sealer, Vault

ADA = Caller(user_id="ada", bearer="canary-bearer", refresh_token="canary-refresh", sees_only="ada")


class Edges:
    """Two edges on one storage, and a clock."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.now_s = 1_000_000.0
        self.first, self.second = self.edge(), self.edge()

    def edge(self, keys: str = "") -> Tickets:
        return Tickets(Sealer(keys, self.layout), self.layout, clock_s=lambda: self.now_s)


@pytest.fixture
def edges(tmp_path: Path) -> Edges:
    return Edges(tmp_path)


async def refused(tickets: Tickets, text: str) -> bool:
    with pytest.raises(Failure) as caught:
        await tickets.take(text)
    return caught.value.code is FailureCode.UNAUTHENTICATED and text not in caught.value.detail.split()


async def test_a_ticket_stands_for_its_caller_on_another_edge_and_carries_no_token(edges: Edges) -> None:
    issued = await edges.first.issue(ADA)

    assert issued.expires_in == LIVES_S
    assert await edges.second.take(issued.ticket) == Caller(user_id="ada", sees_only="ada")


async def test_a_ticket_lets_nobody_stay_longer_than_the_token_it_was_traded_for(edges: Edges) -> None:
    until_s = edges.now_s + 40
    issued = await edges.first.issue(Caller(user_id="ada", sees_only="ada", let_in_until_s=until_s))

    assert (await edges.second.take(issued.ticket)).let_in_until_s == until_s


async def test_a_ticket_is_good_once_over_all_edges(edges: Edges) -> None:
    ticket = (await edges.first.issue(ADA)).ticket
    taken = await asyncio.gather(
        *(edge.take(ticket) for edge in [edges.first, edges.second] * 20), return_exceptions=True
    )

    assert len([caller for caller in taken if isinstance(caller, Caller)]) == 1
    assert await refused(edges.edge(), ticket)


async def test_a_ticket_written_in_another_way_is_the_same_ticket(edges: Edges) -> None:
    ticket = (await edges.first.issue(ADA)).ticket
    await edges.first.take(ticket)

    for other in (ticket + "=", ticket + "==", ticket + "\n", f" {ticket}", ticket.replace("-", "+"), ticket + "AAAA"):
        assert await refused(edges.first, other)


async def test_a_ticket_is_too_old_after_30_s(edges: Edges) -> None:
    fresh, old = await edges.first.issue(ADA), await edges.first.issue(ADA)
    edges.now_s += LIVES_S - 1
    await edges.first.take(fresh.ticket)
    edges.now_s += 1

    assert await refused(edges.first, old.ticket)


async def test_what_is_no_ticket_is_refused(edges: Edges) -> None:
    ticket = (await edges.first.issue(ADA)).ticket
    credentials = Vault(Sealer("", edges.layout)).seal(Credentials(bearer="x"), place="a").decode()
    foreign = (await edges.edge(Fernet.generate_key().decode()).issue(ADA)).ticket

    for text in ("", "x", "../../seal.key", "\x00", "ü" * 9, ticket[:-9], ticket[::-1], credentials, foreign):
        assert await refused(edges.first, text)


async def test_the_longest_name_fits_into_a_ticket(edges: Edges) -> None:
    name = "\U0001f600" * 256
    issued = await edges.first.issue(Caller(user_id=name, sees_only=name))

    assert len(issued.ticket) < TICKET_CHARS_MAX
    assert (await edges.first.take(issued.ticket)).user_id == name


async def test_an_unused_ticket_leaves_nothing_and_a_used_one_is_forgotten_after_an_hour(edges: Edges) -> None:
    await edges.first.issue(ADA)
    assert list(edges.first.stale()) == []
    await edges.first.take((await edges.first.issue(ADA)).ticket)
    (used,) = edges.layout.tickets.iterdir()
    os.utime(used, (edges.now_s, edges.now_s))

    assert list(edges.first.stale()) == []
    edges.now_s += USED_KEPT_S + 1
    assert list(edges.first.stale()) == [used]


def test_the_answer_has_the_names_of_the_contract() -> None:
    from edge.tickets import TicketIssued

    assert msgspec.to_builtins(TicketIssued(ticket="t")) == {"ticket": "t", "expiresIn": 30}
