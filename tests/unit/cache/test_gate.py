from __future__ import annotations

import threading

from fusepkg_cache.gate import Gate


def test_users_are_inside_together() -> None:
    gate = Gate()
    with gate:
        entered = threading.Thread(target=lambda: gate.__enter__())
        entered.start()
        entered.join(timeout=5)
        assert not entered.is_alive()


def test_an_owner_waits_for_users_and_keeps_later_ones_out() -> None:
    gate = Gate()
    order: list[str] = []
    owner_waits = threading.Event()

    def own() -> None:
        owner_waits.set()
        with gate.alone():
            order.append("owner")

    def use() -> None:
        with gate:
            order.append("user")

    with gate:
        owner = threading.Thread(target=own)
        owner.start()
        owner_waits.wait()
        while not gate._owned:
            pass
        user = threading.Thread(target=use)
        user.start()
        order.append("first")
    owner.join()
    user.join()
    assert order == ["first", "owner", "user"]


def test_an_owner_can_lose_patience() -> None:
    gate = Gate()
    with gate:
        assert not gate.shut(0)
    assert gate.shut(0)
    assert not gate.shut(0)
    gate.open()
    with gate:
        pass


def test_the_gate_opens_again_after_an_owner_failed() -> None:
    gate = Gate()
    try:
        with gate.alone():
            raise RuntimeError
    except RuntimeError:
        pass
    with gate:
        pass
