"""Whether some order explains the calls on one register: a search, just in time.

The events of a history, beginnings and ends, are followed in the order of time. A
configuration is the register's value and which of the open calls have taken effect. A
call is put in its place no earlier than the end of one that must have happened by then
(Wing & Gong 1993; just in time: Lowe 2017, section 4). The search goes deep first, the
likeliest place before the others, and never asks twice about one configuration at one
event. It needs no clock: what it may spend is a number of configurations.

Why nothing is lost by what is never tried. In any order that explains the history:

- *At once.* A call that changes nothing and fits the value of the moment may be moved
  forward to this moment: it is open, and no other call notices.
- *Unseen.* A write without a requirement, whose value meets no requirement of any call,
  may be moved right before any other write without a requirement that happens while it
  is open: the value it leaves is overwritten unseen, and the calls that followed it at
  its old place require nothing that its value meets, so they do as well without it.
- *Dead value.* If a value has one writer, and the register leaves it, it never comes
  back; so all calls that must happen and require exactly this value come before. The
  register may not leave it while one of those has not begun, or is open and is not the
  one that changes it. Nor may it take such a value while a call that must end before
  the value may be left, and would change it, is open and not done.
- *Twins.* Of calls that may happen, are alike and stay open together, the one that
  began first goes first: they can be exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from checker.calls import FADES, MAY, MUST, NEVER, REPEATS, Call, fits
from checker.verdict import HOLDS, UNKNOWN, VIOLATED

WIDE = 8  # open calls, above which a configuration counts for more than one


class Found(NamedTuple):
    """What a search found.

    answer: whether the history is explained; "unknown" if the budget did not do.
    expanded: the number of configurations that were taken further; one with many open
        calls counts once for every `WIDE`.
    reached: the time of the last event that some order led to; for "violated" no
        order leads past it.
    """

    answer: str
    expanded: int
    reached: float


class Search:
    """The tables of one search; a call is its position in them, twice.

    Position k in `events` is the beginning of call k, k + count its end; the last
    event is the end of the history.
    """

    def __init__(
        self, calls: Sequence[Call], value_count: int, starts: Sequence[int]
    ) -> None:
        self.count = len(calls)
        self.starts = starts
        need, effect, began, ended, duty, _ = zip(*calls, strict=True)
        self.need: tuple[int, ...] = need
        self.effect: tuple[int, ...] = effect
        self.duty: tuple[int, ...] = duty
        self.began: tuple[int, ...] = began
        self.ended: tuple[float, ...] = ended
        self.value_mask = (1 << value_count.bit_length()) - 1
        self.effects_from = 2 * value_count  # groups below: calls without an effect
        self.nots = sorted({n >> 1 for n in need if n >= 0 and n & 1})
        self._order_events()
        self._tell_groups(value_count)
        self._give_bits(value_count)
        self.twin = self._find_twins() if set(duty) != {MUST} else {}
        self.masks = [0] * (4 * value_count + 2)
        self.who: dict[int, int] = {}

    def _order_events(self) -> None:
        count = self.count
        times: list[float] = [began * 4 for began in self.began]
        times += [
            ended * 4 + (1 if duty != FADES else 2)
            for ended, duty in zip(self.ended, self.duty, strict=True)
        ]
        events = sorted(range(2 * count), key=times.__getitem__)
        while events and times[events[-1]] == NEVER:
            events.pop()
        self.events = [*events, 2 * count]

    def _tell_groups(self, value_count: int) -> None:
        """Which mask an open call is kept in: by what it needs and does."""
        exact = bytearray(value_count)
        writers = [0] * value_count
        for value in self.starts:
            writers[value] += 1
        for need, effect, duty in zip(self.need, self.effect, self.duty, strict=True):
            if need >= 0 and not need & 1:
                exact[need >> 1] = 1
            if effect >= 0:
                writers[effect] += 1 if duty != REPEATS else 2
        self.single = [number <= 1 for number in writers]
        nots = set(self.nots)
        unseen, others = 4 * value_count, 4 * value_count + 1
        after = self.effects_from
        groups = []
        for need, effect, duty in zip(self.need, self.effect, self.duty, strict=True):
            if effect < 0:
                groups.append(need)
            elif need < 0:
                plain = exact[effect] or not nots <= {effect}
                groups.append(others if plain else unseen)
            else:
                groups.append(others if need & 1 or duty != MUST else after + need)
        self.unseen = unseen
        self.groups = [*groups, *groups, 0]

    def _give_bits(self, value_count: int) -> None:
        """A bit for each call, used again after its end; when a value is needed last."""
        count, need, duty = self.count, self.need, self.duty
        bits = [0] * count
        free: list[int] = []
        top = self.value_mask + 1
        due = [-1] * value_count
        end_at = [len(self.events)] * count
        for at, event in enumerate(self.events[:-1]):
            if event >= count:
                free.append(bits[event - count])
                end_at[event - count] = at
                continue
            if free:
                bits[event] = free.pop()
            else:
                bits[event] = top
                top <<= 1
            asked = need[event]
            if asked >= 0 and not asked & 1 and duty[event] == MUST:
                due[asked >> 1] = at
        self.bits = [*bits, *bits, 0]
        self.due = due
        self.end_at = end_at

    def _find_twins(self) -> dict[int, int]:
        """For a call that may happen and stays open: the bit of its elder twin."""
        last: dict[tuple[int, int, float], int] = {}
        twins = {}
        for event in self.events:
            if event < self.count and self.duty[event] != MUST:
                duty = self.duty[event]
                if duty == REPEATS or (duty == MAY and self.ended[event] < NEVER):
                    continue
                alike = (self.need[event], self.effect[event], self.ended[event])
                if alike in last:
                    twins[event] = self.bits[last[alike]]
                last[alike] = event
        return twins

    def run(self, budget: int) -> Found:
        """Look for an order; `budget` is the most configurations to take further."""
        count, events, bits, groups = self.count, self.events, self.bits, self.groups
        masks, who, value_mask = self.masks, self.who, self.value_mask
        effects_from, size = self.effects_from, len(events)
        seen: set[int] = set()
        *others, config = self.starts
        stack = [(0, value) for value in others]
        at = opened = reached = expanded = 0
        while True:
            event = events[at]
            bit = bits[event]
            if event < count:
                group = groups[event]
                masks[group] ^= bit
                if group >= effects_from:
                    opened ^= bit
                    who[bit] = event
                elif fits(group, config & value_mask):
                    config |= bit
                at += 1
                continue
            if config & bit:
                config ^= bit
                group = groups[event]
                masks[group] ^= bit
                if group >= effects_from:
                    opened ^= bit
                at += 1
                continue
            if at + 1 == size:
                return Found(HOLDS, expanded, NEVER)
            if self.duty[event - count] == FADES:
                config |= bit
                continue
            if at > reached:
                reached = at
            state = config * size + at
            following: list[int] = []
            if state not in seen:
                if expanded >= budget:
                    return Found(UNKNOWN, expanded, self._time(reached))
                expanded += 1 + (opened & ~config).bit_count() // WIDE
                seen.add(state)
                following = self._follow(config, at, opened)
            if following:
                config = following.pop()
                for other in following:
                    stack.append((at, other))
            elif stack:
                back, config = stack.pop()
                opened = self._go_back(at, back, opened)
                at = back
            else:
                return Found(VIOLATED, expanded, self._time(reached))

    def _follow(self, config: int, at: int, opened: int) -> list[int]:
        """The configurations one effect later, the likeliest last.

        At `at` ends a call that has not taken effect.
        """
        target = self.events[at] - self.count
        value = config & self.value_mask
        single, due = self.single, self.due
        goal = self.effect[target]
        if goal < 0 and not self.need[target] & 1:
            goal = self.need[target] >> 1
        stays = single[value] and due[value] > at
        stuck = (
            self.masks[self.effects_from + 2 * value] & ~config if single[value] else 0
        )
        ranked = []
        todo = opened & ~config
        while todo:
            bit = todo & -todo
            todo ^= bit
            call = self.who[bit]
            after = self.effect[call]
            if after != value and (stays or stuck & ~bit):
                continue
            if not fits(self.need[call], value) or (
                call in self.twin and not config & self.twin[call]
            ):
                continue
            rank = due[after]
            if single[after] and rank > at:
                if call != target and after != goal and goal >= 0:
                    continue
                if self._overtaken(call, config | bit, opened):
                    continue
            if self.duty[call] != MUST or (rank < 0 and call != target):
                rank = len(self.events)
            elif (call == target and rank <= at) or (after == goal and call != target):
                rank = -1
            ranked.append((rank, self._take(config, call)))
        ranked.sort(reverse=True)
        following = [config for _, config in ranked]
        if self.duty[target] != MUST:  # nor does it fade: it may as well not happen
            following.append(config | self.bits[target])
        return following

    def _overtaken(self, call: int, config: int, opened: int) -> bool:
        """Whether a call that ends too early to follow `call` is still to be done."""
        due = self.due[self.effect[call]]  # it has no other writer
        todo = opened & ~config
        if self.need[call] < 0:
            todo &= ~self.masks[self.unseen]
        while todo:
            bit = todo & -todo
            todo ^= bit
            other = self.who[bit]
            if self.end_at[other] < due and self.duty[other] == MUST:
                return True
        return False

    def _take(self, config: int, call: int) -> int:
        """The configuration after `call` took effect, and all that goes with it."""
        after = self.effect[call]
        masks = self.masks
        config = config & ~self.value_mask | after | masks[2 * after]
        if self.duty[call] != REPEATS:
            config |= self.bits[call]
        for value in self.nots:
            if value != after:
                config |= masks[2 * value + 1]
        if self.need[call] < 0:
            config |= masks[self.unseen]
        return config

    def _go_back(self, at: int, back: int, opened: int) -> int:
        """Undo the events from `back` up to `at`; the open calls with an effect."""
        for event in reversed(self.events[back:at]):
            bit = self.bits[event]
            group = self.groups[event]
            self.masks[group] ^= bit
            if group >= self.effects_from:
                opened ^= bit
                self.who[bit] = event if event < self.count else event - self.count
        return opened

    def _time(self, at: int) -> float:
        event = self.events[at]
        return self.ended[event - self.count]


def search(
    calls: Sequence[Call], value_count: int, budget: int, starts: Sequence[int] = (0,)
) -> Found:
    """Whether some order explains the calls, from one of the values in `starts`.

    Every value is below `value_count`; `budget` is the most configurations to expand.
    """
    if not calls:
        return Found(HOLDS, 0, NEVER)
    return Search(calls, value_count, starts).run(budget)
