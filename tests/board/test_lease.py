# SPDX-License-Identifier: Apache-2.0
"""One holder at a time: fences, expiry, and stock clients whose lease is their peer."""

from __future__ import annotations

import pytest
from bitward_runtime.lease import IDLE_S, MAX_SECONDS, Leases
from bitward_runtime.refusals import LeaseError, RequestError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases:
    return Leases(clock)


def test_one_holds_and_others_are_told_who(leases: Leases, clock: Clock):
    fence = leases.acquire("digits", 10, "a").fence
    clock.now += 4
    assert leases.now() == ("digits", 6.0)
    with pytest.raises(LeaseError, match=r"^the board must be free or yours, got one held by digits for 6\.0 s more; "):
        leases.acquire("other", 10, "b")
    with pytest.raises(LeaseError, match=r"^the board must be free or yours, got one held by digits for 6\.0 s more; "):
        leases.check_peer("b")
    with pytest.raises(LeaseError, match=r"held by digits"), leases.by_peer("b"):
        pass
    leases.release(fence)
    assert leases.now() == ("", 0.0) and leases.acquire("other", 10, "b").fence > fence


def test_an_expired_fence_is_refused_also_while_nobody_else_came(leases: Leases, clock: Clock):
    fence = leases.acquire("digits", 10, "a").fence
    clock.now += 10
    for call in (leases.renew, leases.check_fence):
        with pytest.raises(LeaseError, match=rf"^a call must carry the fence of the present lease, got {fence} and a "):
            call(fence)
    with pytest.raises(LeaseError, match=r"^a call must carry the fence of the present lease"), leases.by_fence(fence):
        pass
    later = leases.acquire("other", 10, "b").fence
    assert later > fence
    with pytest.raises(LeaseError, match=rf", got {fence} and a board held by other; acquire it$"):
        leases.release(fence)


def test_fences_grow_from_one_start_to_the_next():
    first = Leases().acquire("a", 1, "a").fence
    assert Leases().acquire("a", 1, "a").fence > first


def test_a_call_renews_and_keeps_the_lease_while_it_runs(leases: Leases, clock: Clock):
    fence = leases.acquire("digits", 10, "a").fence
    clock.now += 9
    leases.renew(fence)
    clock.now += 9
    with leases.by_fence(fence):
        clock.now += 1000
        with pytest.raises(LeaseError, match=r"^the board must be free or yours"):
            leases.acquire("other", 10, "b")
    clock.now += 9
    leases.check_fence(fence)
    clock.now += 1
    leases.acquire("other", 10, "b")


def test_a_stock_client_takes_a_free_board_and_keeps_its_state_until_another_comes(leases: Leases, clock: Clock):
    with leases.by_peer("a") as first:
        pass
    clock.now += 10 * IDLE_S
    with leases.by_peer("a") as again:
        assert again.fence == first.fence  # nobody else was there meanwhile
    with pytest.raises(LeaseError, match=r"held by PYNQ client a for 3\.0 s more"), leases.by_peer("b"):
        pass
    clock.now += IDLE_S
    with leases.by_peer("b") as other:
        assert other.fence > first.fence
    with pytest.raises(LeaseError, match=r"held by PYNQ client b"):
        leases.check_peer("a")


def test_a_stock_clients_lease_becomes_explicit_on_its_own_connection_alone(leases: Leases, clock: Clock):
    with leases.by_peer("a") as first:
        pass
    with pytest.raises(LeaseError, match=r"^the board must be free or yours"):
        leases.acquire("other", 20, "b")
    lease = leases.acquire("agent", 20, "a")
    assert lease.fence == first.fence and leases.now() == ("agent", 20.0)
    with pytest.raises(LeaseError, match=r"held by agent"):
        leases.acquire("second target of the same process", 20, "a")
    leases.release(lease.fence)
    with leases.by_peer("b"):
        pass


@pytest.mark.parametrize(
    ("holder", "seconds", "sentence"),
    [
        ("", 1, r"^a holder must be named with 1 to 64 letters"),
        ("a\nb", 1, r"^a holder must be named with 1 to 64 letters"),
        ("a" * 65, 1, r"^a holder must be named with 1 to 64 letters"),
        ("a", 0, r"^a lease must be for 0 to 600 s, got 0; renew it instead$"),
        ("a", MAX_SECONDS + 1, r"^a lease must be for 0 to 600 s, got 601; "),
        ("a", float("nan"), r"^a lease must be for 0 to 600 s, got nan; "),
    ],
)
def test_what_no_lease_can_be(leases: Leases, holder: str, seconds: float, sentence: str):
    with pytest.raises(RequestError, match=sentence):
        leases.acquire(holder, seconds, "a")
