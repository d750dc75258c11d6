"""Any order of making, reading, leaving and evicting, against a model of what must be there."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.archive.part import Part
from gateway.archive.shelf import Begun, Shelf
from gateway.archive.stock import Found
from tests.unit.archive.spools import content, key_of, on_disk

BUDGET = 100
numbers = st.integers(0, 7)


class SpoolMachine(RuleBasedStateMachine):
    """Two shelves on one directory stand for two processes."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=Path("/dev/shm")))
        self.shelves = [Shelf(str(self.directory), BUDGET) for _ in range(2)]
        self.entries: dict[int, int] = {}  # sizes, by number; first what was used longest ago
        self.parts: dict[int, tuple[Part, int, int]] = {}  # what is reserved, and written
        self.readers: list[tuple[int, Found]] = []

    @rule(number=numbers, most=st.integers(0, BUDGET + 1), shelf=st.integers(0, 1))
    def begin(self, number: int, most: int, shelf: int) -> None:
        try:
            part = self.shelves[shelf].begin(key_of(number), most)
        except Begun:
            assert number in self.entries or number in self.parts
            return
        assert number not in self.entries
        assert number not in self.parts
        fits = self._make_room(most)
        assert (part is not None) == fits
        if part is not None:
            self.parts[number] = part, most, 0

    def _make_room(self, wanted: int) -> bool:
        reserved = sum(most for _, most, _ in self.parts.values())
        if reserved + wanted > BUDGET:
            return False
        held = {number for number, _ in self.readers}
        for number in [number for number in self.entries if number not in held]:
            if reserved + sum(self.entries.values()) + wanted <= BUDGET:
                break
            del self.entries[number]
        return reserved + sum(self.entries.values()) + wanted <= BUDGET

    @precondition(lambda self: self.parts)
    @rule(data=st.data())
    def append(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.parts)))
        part, most, written = self.parts[number]
        until = data.draw(st.integers(written, most))
        part.write(content(number, BUDGET)[written:until])
        self.parts[number] = part, most, until

    @precondition(lambda self: self.parts)
    @rule(data=st.data(), finishes=st.booleans())
    def end(self, data: st.DataObject, finishes: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.parts)))
        part, _, written = self.parts.pop(number)
        if finishes:
            part.finish(written)
            self.entries[number] = written
        else:
            for reader in [reader for reader in self.readers if reader[0] == number]:
                self.readers.remove(reader)
                reader[1].close()
        part.close()

    @rule(number=numbers, shelf=st.integers(0, 1))
    def find(self, number: int, shelf: int) -> None:
        found = self.shelves[shelf].find(key_of(number))
        assert (found is not None) == (number in self.entries or number in self.parts)
        if found is not None:
            self.readers.append((number, found))
        if number in self.entries:
            self.entries[number] = self.entries.pop(number)

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from(self.readers))
        self.readers.remove(reader)
        reader[1].close()

    @invariant()
    def readers_read_what_was_written(self) -> None:
        for number, found in self.readers:
            size = self.entries[number] if number in self.entries else self.parts[number][2]
            assert os.pread(found.data.fd, BUDGET + 1, 0) == content(number, BUDGET)[:size]

    @invariant()
    def the_budget_is_kept(self) -> None:
        reserved = sum(most for _, most, _ in self.parts.values())
        assert sum(self.entries.values()) + reserved <= BUDGET
        assert on_disk(self.directory) <= BUDGET
        written = sum(written for _, _, written in self.parts.values())
        assert self.shelves[0].used() == sum(self.entries.values()) + written

    def teardown(self) -> None:
        for _, found in self.readers:
            found.close()
        for part, _, _ in self.parts.values():
            part.close()
        shutil.rmtree(self.directory)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=40, stateful_step_count=30)
