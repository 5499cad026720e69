"""Which piece is fetched next: readers before the background, and no object takes all slots or keeps others waiting."""

from __future__ import annotations

from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, compute_digest

from fusepkg.fetch.flight import Flight
from fusepkg.fetch.piece import Kind, Piece
from fusepkg.fetch.slots import LARGE_SLOTS, OBJECT_SLOTS, SLOW_OBJECT_SLOTS, SLOW_S, SMALL_SLOTS, Slots
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import PhysicalKey


def flight(key: str, number: int = 0, *, length: int = 10, background: bool = False) -> Flight:
    name = compute_digest(Algorithm.SHA2_256, b"%s %d" % (key.encode(), number))
    entry = Entry(key, PhysicalKey("s3", "memory", key), 10**9, name)
    return Flight(Piece(Kind.PART, entry, name, number, length), background, keep=True)


def large(key: str, number: int = 0, *, background: bool = False) -> Flight:
    return flight(key, number, length=MIN_CHUNK_BYTES, background=background)


async def test_as_many_begin_as_there_are_slots_and_the_rest_in_order():
    slots = Slots()
    flights = [flight(f"{number}") for number in range(SMALL_SLOTS + 3)]
    for one in flights:
        slots.add(one)
    assert slots.take(0) == flights[:SMALL_SLOTS]
    assert slots.take(0) == []
    slots.free(flights[5])
    slots.free(flights[5])
    assert slots.take(0) == [flights[SMALL_SLOTS]]


async def test_readers_go_before_the_background_which_leaves_them_slots():
    slots = Slots()
    ahead = [flight(f"ahead{number}", background=True) for number in range(2 * SMALL_SLOTS)]
    for one in ahead:
        slots.add(one)
    assert len(slots.take(0)) < SMALL_SLOTS
    wanted = flight("wanted")
    slots.add(wanted)
    assert slots.take(0) == [wanted], "the background has left it a slot"


async def test_what_a_reader_comes_to_wait_for_goes_before_what_nobody_waits_for():
    slots = Slots()
    ahead = [flight(f"ahead{number}", background=True) for number in range(3)]
    for one in ahead:
        slots.add(one)
    slots.promote(ahead[2])
    assert slots.take(0)[0] is ahead[2]
    assert not ahead[2].background


async def test_one_object_takes_only_its_share():
    slots = Slots()
    flights = [large("one", number) for number in range(2 * LARGE_SLOTS)]
    other = large("other")
    for one in [*flights, other]:
        slots.add(one)
    assert slots.take(0) == [*flights[:OBJECT_SLOTS], other]
    slots.free(flights[0])
    assert slots.take(0) == [flights[OBJECT_SLOTS]]


async def test_slow_objects_give_their_slots_to_others():
    slots = Slots()
    for number in range(LARGE_SLOTS):
        slots.add(large(f"slow{number}"))
    stalled = slots.take(0)
    waiting = large("quick")
    slots.add(waiting)
    assert slots.take(SLOW_S / 2) == []
    assert slots.next_slow_s() == SLOW_S
    assert slots.take(SLOW_S) == [waiting]
    for one in stalled:
        slots.free(one)
    assert slots.take(SLOW_S) == []


async def test_many_stalled_objects_hold_up_no_other():
    slots = Slots()
    for at in range(4):
        for number in range(LARGE_SLOTS):
            slots.add(large(f"stalled{at * LARGE_SLOTS + number}"))
        assert len(slots.take(at * SLOW_S)) == LARGE_SLOTS
    quick = large("quick")
    slots.add(quick)
    assert slots.next_slow_s() == 4 * SLOW_S
    assert slots.take(4 * SLOW_S) == [quick], "48 requests are silent"


async def test_what_nobody_waits_for_does_not_begin_beside_many_slow_requests():
    slots = Slots()
    for number in range(3 * LARGE_SLOTS):
        slots.add(large(f"stalled{number}"))
    for at in range(3):
        assert len(slots.take(at * SLOW_S)) == LARGE_SLOTS
    slots.add(large("ahead", background=True))
    assert slots.take(3 * SLOW_S) == []
    assert slots.next_slow_s() is None
    slots.add(large("wanted"))
    assert len(slots.take(3 * SLOW_S)) == 1


async def test_an_object_that_is_slow_is_asked_less():
    slots = Slots()
    for number in range(OBJECT_SLOTS):
        slots.add(large("slow", number))
    first = slots.take(0)
    slots.add(large("slow", 99))
    slots.add(large("quick"))
    assert [one.piece.entry.logical_key for one in slots.take(SLOW_S)] == ["quick"]
    for one in first[SLOW_OBJECT_SLOTS - 1 :]:
        slots.free(one)
    assert len(slots.take(SLOW_S)) == 1


async def test_small_pieces_do_not_wait_for_large_ones():
    slots = Slots()
    for number in range(2 * LARGE_SLOTS):
        slots.add(large(f"{number}"))
    slots.take(0)
    small = flight("small")
    slots.add(small)
    assert slots.take(0) == [small]
