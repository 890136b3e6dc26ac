"""A recording's nodes folded by path into a tree of groups: modules, scopes, loops and their iterations.

The tree is such that a layered drawing exists: no cycle runs between the members of a group. A module that is called
twice, with something in between, is therefore two groups.
"""

import difflib
import heapq
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from diffprog.graph._recording.nodes import Node
from diffprog.graph._selection.selectors import pattern

BUDGET = 40  # boxes that a reader still takes in at once
GIVEN = ("input", "constant")  # what no operation made
CROWD = 3 * BUDGET  # members of one group that are too many

_INDEXED = re.compile(r"(.+?)(?:\[\d+\]|\.\d+)$")  # "scan[3]", "blocks.3"


@dataclass(eq=False)
class Group:
    """Nodes under one part of a path.

    Attributes:
      index: its position in `Outline.groups`, outer before inner; 0 is the whole recording.
      name: the last part of the path; a later call of the same module is "Dense_0 (2)".
      path: all of it.
      parent: None for the whole.
      children: groups and nodes, in the order in which they began to run.
      size: how many nodes are inside, at any depth.
    """

    index: int
    name: str
    path: str
    parent: "Group | None"
    children: list = field(default_factory=list)
    size: int = 0

    def __post_init__(self):
        self.depth = 0 if self.parent is None else self.parent.depth + 1

    def above(self) -> list["Group"]:
        """Itself and the groups around it, the whole last."""
        group, found = self, []
        while group is not None:
            found.append(group)
            group = group.parent
        return found

    def nodes(self) -> Iterable[Node]:
        stack = [self]
        while stack:
            item = stack.pop()
            if isinstance(item, Group):
                stack.extend(reversed(item.children))
            else:
                yield item

    def __repr__(self):
        return f"<group {self.path or 'all'}: {self.size} nodes>"


@dataclass(eq=False)
class Outline:
    """The tree. `home` says in which group a node is, by the node's index."""

    groups: list[Group]
    home: dict[int, Group]

    @property
    def root(self) -> Group:
        return self.groups[0]

    def opened(self, open=None, budget: int = BUDGET) -> set[Group]:
        """The groups whose members are drawn.

        Args:
          open: None for as many, from the outside in, as leave about `budget` boxes; a depth (0 opens nothing but the
            whole); a glob for paths as in `select` ("MLP/*"; "*" for
            all), or several. The groups around an opened one are open too.

        Raises ValueError for a glob that matches no group.
        """
        if open is None:
            return self._affordable(budget)
        if isinstance(open, int):
            return {group for group in self.groups if group.depth <= open}
        opened = {self.root}
        for glob in [open] if isinstance(open, str) else open:
            fits = pattern(glob)
            found = [g for g in self.groups if fits(g.path)]
            if not found:
                raise ValueError(self._no_group(glob))
            opened.update(g for group in found for g in group.above())
        return opened

    def _affordable(self, budget: int) -> set[Group]:
        """Level by level: one sibling open beside another that is not would seem to mean something."""
        opened, boxes, level = {self.root}, len(self.root.children), [self.root]
        while level := [child for group in level for child in group.children if isinstance(child, Group)]:
            grown = boxes + sum(len(group.children) - 1 for group in level)
            if grown > budget and (boxes > budget / 5 or grown > 3 * budget):
                break
            opened.update(level)
            boxes = grown
        return opened

    def _no_group(self, glob: str) -> str:
        paths = sorted({group.path for group in self.groups[1:]})
        close = difflib.get_close_matches(glob, paths, 3, 0.3) or paths[:5]
        there = f"the nearest are {', '.join(map(repr, close))}" if close else "this recording has none"
        return f"open={glob!r} matches no group of nodes; {there}"


def outline(nodes: list[Node]) -> Outline:
    """The tree of groups of `nodes`, which are all of a recording or those to draw of it (`shown`)."""
    root = Group(0, "", "", None)
    builder = _Builder([root], dict.fromkeys((node.index for node in nodes), root))
    paths, waiting = _paths(nodes), defaultdict(list)
    for node in nodes:
        users = [edge.target.index for edge in node.outgoing if edge.target.index in paths]
        if node.primitive in GIVEN and users:
            waiting[min(users)].append(node)
    late = {node for given in waiting.values() for node in given}
    for node in nodes:
        if node not in late:
            builder.add(node, paths[node.index])
        for given in waiting[node.index]:
            builder.add_beside(given, paths[given.index], node)
    _lift_lonely(builder)
    for group in [g for g in builder.groups if len(g.children) > CROWD]:
        _divide(builder, group)
    return _finished(builder)


def shown(recording, everything: bool = False) -> list[Node]:
    """The nodes that a reader wants to see: without numbers that nobody gave and operations whose results go nowhere.

    Args:
      everything: leave nothing out.
    """
    if everything:
        return list(recording.nodes)
    outputs = {place.node for place in recording.outputs if place is not None}
    used, trivial = set(outputs), set()
    for node in reversed(recording.nodes):
        if node in used:
            used.update(edge.source for edge in node.incoming)
    for node in recording.nodes:
        sizes = [math.prod(getattr(aval, "shape", ())) for aval in node.avals]
        made = bool(node.incoming) and all(edge.source in trivial for edge in node.incoming)
        if node.status == "constant" and node.primitive != "input" and (made or (not node.incoming and sizes == [1])):
            trivial.add(node)
    keep = lambda node: node.primitive == "input" or node in outputs or (node in used and node not in trivial)
    return [node for node in recording.nodes if keep(node)]


def parts(path: str) -> tuple[str, ...]:
    """The parts of a path, each "scan[3]" or "blocks.3" inside a part "scan" or "blocks" of its own."""
    found = []
    for part in filter(None, path.split("/")):
        indexed = _INDEXED.match(part)
        found.extend([indexed.group(1), part] if indexed else [part])
    return tuple(found)


def _paths(nodes: list[Node]) -> dict[int, tuple[str, ...]]:
    """Where each node is drawn, by its index: at its path, but an input or constant beside what uses it."""
    found = {node.index: parts(node.path) for node in nodes}
    for node in nodes:
        users = [found[edge.target.index] for edge in node.outgoing if edge.target.index in found]
        if node.primitive in GIVEN and users:
            found[node.index] = _common(users)
    return found


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    low, high = min(paths), max(paths)
    length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:length]


@dataclass
class _Builder:
    """The groups so far. `after` has, per member of a group, the members that use its results directly."""

    groups: list[Group]
    home: dict[int, Group]
    after: dict = field(default_factory=lambda: defaultdict(set))
    latest: dict = field(default_factory=dict)  # (parent, name) -> (the group that was opened last, how many there are)
    placed: set = field(default_factory=set)

    def add(self, node: Node, path: tuple[str, ...]):
        sources = [edge.source for edge in node.incoming if edge.source.index in self.placed]
        group = self._group(path, sources)
        for source in sources:
            member = self.member(group, source)
            if member is not None:
                self.after[member].add(node)
        group.children.append(node)
        self._place(node, group)

    def add_beside(self, node: Node, path: tuple[str, ...], user: Node):
        """An input or constant, before its first user, which has just been added; `path` is around that too."""
        group = self._group(path, [])
        member = self.member(group, user)
        self.after[node].add(member)
        group.children.insert(group.children.index(member), node)
        self._place(node, group)

    def _group(self, path: tuple[str, ...], sources: list[Node]) -> Group:
        group = self.groups[0]
        for part in path:
            group = self._enter(group, part, sources)
        return group

    def _place(self, node: Node, group: Group):
        self.home[node.index] = group
        self.placed.add(node.index)

    def _enter(self, parent: Group, part: str, sources) -> Group:
        group, count = self.latest.get((parent, part), (None, 0))
        before = {self.member(parent, source) for source in sources} - {None, group}
        if group is None or self._reaches(group, before):
            name = part if not count else f"{part} ({count + 1})"
            indexed = _INDEXED.match(part)
            # "scan[3]" is drawn inside "scan", but called "rnn/scan[3]" as its nodes are.
            around = parent.parent if indexed and parent.parent and parent.name.startswith(indexed.group(1)) else parent
            group = Group(len(self.groups), name, f"{around.path}/{name}" if around.path else name, parent)
            self.groups.append(group)
            parent.children.append(group)
            self.latest[parent, part] = group, count + 1
        for member in before:
            self.after[member].add(group)
        return group

    def member(self, group: Group, node: Node):
        """The member of `group` that the node is, or is in; None if it is outside."""
        member, home = node, self.home[node.index]
        while home is not None and home is not group:
            member, home = home, home.parent
        return member if home is group else None

    def uses(self, node: Node):
        return [edge for edge in node.outgoing if edge.target.index in self.home]

    def _reaches(self, start, goals: set) -> bool:
        if not goals:
            return False
        seen, stack = {start}, [start]
        while stack:
            for member in self.after[stack.pop()]:
                if member in goals:
                    return True
                if member not in seen:
                    seen.add(member)
                    stack.append(member)
        return False


def _lift_lonely(builder: _Builder):
    """A group of a single member says nothing that the member does not: it goes, from the inside out."""
    for group in reversed(builder.groups[1:]):
        if len(group.children) == 1:
            (child,) = group.children
            siblings = group.parent.children
            siblings[siblings.index(group)] = child
            if isinstance(child, Group):
                child.parent = group.parent
                # "layers" of "layers[0]" alone adds nothing.
                name = re.sub(r" \(\d+\)$", "", group.name)
                child.name = child.name if child.name.startswith(name) else f"{group.name}/{child.name}"
            else:
                builder.home[child.index] = group.parent
            group.children = []


def _divide(builder: _Builder, group: Group):
    """A crowd that no path divides is divided into stretches of the run, again if need be."""
    members = _in_order(builder, group)
    length = max(-(-len(members) // BUDGET), round(len(members) ** 0.5))
    group.children = []
    for start in range(0, len(members), length):
        stretch = members[start : start + length]
        part = Group(len(builder.groups), f"{_title(stretch[0])} … {_title(stretch[-1])}", "", group)
        part.path = f"{group.path}/part {start // length}".lstrip("/")
        builder.groups.append(part)
        group.children.append(part)
        part.children = stretch
        for member in stretch:
            if isinstance(member, Group):
                member.parent = part
            else:
                builder.home[member.index] = part
        if len(stretch) > CROWD:
            _divide(builder, part)


def _title(member) -> str:
    return member.name if isinstance(member, Group) else f"{member.index} {member.label}"


def _in_order(builder: _Builder, group: Group) -> list:
    """The members such that each comes before those that use it, otherwise as they began to run (Kahn 1962)."""
    members = group.children
    position = {member: i for i, member in enumerate(members)}
    users = [
        {builder.member(group, edge.target) for node in _nodes(member) for edge in builder.uses(node)} - {None, member}
        for member in members
    ]
    waiting = [0] * len(members)
    for used_by in users:
        for user in used_by:
            waiting[position[user]] += 1
    ready = [i for i, count in enumerate(waiting) if not count]
    ordered = []
    while ready:
        first = heapq.heappop(ready)
        ordered.append(members[first])
        for user in users[first]:
            waiting[position[user]] -= 1
            if not waiting[position[user]]:
                heapq.heappush(ready, position[user])
    return ordered


def _nodes(member) -> Iterable[Node]:
    return member.nodes() if isinstance(member, Group) else [member]


def _finished(builder: _Builder) -> Outline:
    root, *_ = builder.groups
    groups, stack = [], [root]
    while stack:
        group = stack.pop()
        group.index = len(groups)
        group.depth = 0 if group.parent is None else group.parent.depth + 1
        groups.append(group)
        stack.extend(child for child in reversed(group.children) if isinstance(child, Group))
    for group in reversed(groups):
        group.size = sum(child.size if isinstance(child, Group) else 1 for child in group.children)
    return Outline(groups, builder.home)
