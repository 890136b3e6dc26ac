"""Fold a recording's nodes by path into a tree of groups: modules, scopes, loops and their iterations.

No cycle runs between the members of a group, so a layered drawing exists. A module that is called twice, with something
in between, is therefore two groups.
"""

import difflib
import heapq
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from diffprog._util.walk import walk
from diffprog.graph._recording.nodes import Node
from diffprog.graph._selection.selectors import pattern

BUDGET = 40  # boxes that a reader takes in at once
NOT_COMPUTED = ("input", "constant")  # what no operation made
MAX_MEMBERS = 3 * BUDGET  # members of one group that are too many

Open = int | str | list[str] | None  # which groups are open; see `GroupTree.opened`

_INDEXED = re.compile(r"(.+?)(?:\[\d+\]|\.\d+)$")  # "scan[3]", "blocks.3"


@dataclass(eq=False)
class Group:
    """Nodes under one part of a path.

    Attributes:
      index: its position in `GroupTree.groups`, outer before inner; 0 is the whole recording.
      name: the last part of its path; a later call of the same module is "Dense_0 (2)".
      path: its modules and scopes, the outermost first.
      parent: the group around it; None for the whole recording.
      children: its members, groups and nodes, in the order in which they began to run.
      size: number of nodes inside, at any depth.
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
        """List the group and those around it, the whole recording last."""
        return list(walk([self], lambda group: [group.parent] if group.parent is not None else []))

    def nodes(self) -> Iterable[Node]:
        """List the nodes inside, at any depth."""
        items: Iterable[Group | Node] = walk([self], _members)
        return (item for item in items if isinstance(item, Node))

    def __repr__(self):
        return f"<group {self.path or 'all'}: {self.size} nodes>"


def _members(item: "Group | Node") -> list:
    return item.children if isinstance(item, Group) else []


@dataclass(eq=False)
class GroupTree:
    """A tree of groups.

    Attributes:
      groups: all of them, outer before inner; the first is the whole recording.
      group_of: the innermost group around each node, by the node's index.
    """

    groups: list[Group]
    group_of: dict[int, Group]

    @property
    def root(self) -> Group:
        """The whole recording."""
        return self.groups[0]

    def opened(self, open: Open = None, budget: int = BUDGET) -> set[Group]:
        """Choose the groups whose members are drawn; those around an opened group are open too.

        Args:
          open: which to open. None opens as many, from the outside in, as leave about `budget` boxes; an integer those
            up to a depth (0 is the whole alone); text those whose paths a glob matches ("MLP/*"; "*" for all), and a
            list of texts those of several globs.
          budget: about how many boxes to draw if `open` is None.

        Raises:
          ValueError: a glob matches no group.
        """
        if open is None:
            return self._affordable(budget)
        if isinstance(open, int):
            return {group for group in self.groups if group.depth <= open}
        opened = {self.root}
        for glob in [open] if isinstance(open, str) else open:
            fits = pattern(glob)
            matching = [g for g in self.groups if fits(g.path)]
            if not matching:
                raise ValueError(self._no_group(glob))
            opened.update(g for group in matching for g in group.above())
        return opened

    def _affordable(self, budget: int) -> set[Group]:
        """Open groups level by level: one sibling open beside a closed one would seem to mean something."""
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


def group_tree(nodes: list[Node]) -> GroupTree:
    """Fold nodes, all of a recording or those `shown`, into a tree."""
    root = Group(0, "", "", None)
    builder = _Builder([root], dict.fromkeys((node.index for node in nodes), root))
    paths, waiting = _paths(nodes), defaultdict(list)
    for node in nodes:
        users = [edge.target.index for edge in node.outgoing if edge.target.index in paths]
        if node.primitive in NOT_COMPUTED and users:
            waiting[min(users)].append(node)
    late = {node for sources in waiting.values() for node in sources}
    for node in nodes:
        if node not in late:
            builder.add(node, paths[node.index])
        for source in waiting[node.index]:
            builder.add_beside(source, paths[source.index], node)
    _replace_single_members(builder)
    for group in [g for g in builder.groups if len(g.children) > MAX_MEMBERS]:
        _divide(builder, group)
    return _finished(builder)


def shown(recording, everything: bool = False) -> list[Node]:
    """List the nodes that a reader wants to see.

    Left out are numbers that no one passed in, and operations whose results go nowhere.

    Args:
      recording: the `Recording`.
      everything: whether to leave nothing out.
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
    """Split a path; "scan[3]" or "blocks.3" stands inside a part "scan" or "blocks" of its own."""
    split: list[str] = []
    for part in filter(None, path.split("/")):
        indexed = _INDEXED.match(part)
        split.extend([indexed.group(1), part] if indexed else [part])
    return tuple(split)


def _paths(nodes: list[Node]) -> dict[int, tuple[str, ...]]:
    """Say where each node is drawn, by its index: at its path, but an input or constant beside what uses it."""
    paths = {node.index: parts(node.path) for node in nodes}
    for node in nodes:
        users = [paths[edge.target.index] for edge in node.outgoing if edge.target.index in paths]
        if node.primitive in NOT_COMPUTED and users:
            paths[node.index] = _common(users)
    return paths


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    low, high = min(paths), max(paths)
    length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:length]


@dataclass
class _Builder:
    """The groups so far.

    Attributes:
      groups, group_of: as in a `GroupTree`.
      after: per member of a group the members that use its results directly.
      latest: per (parent, name) the group that was opened last, and how many there are.
      placed: indices of the nodes that have a group.
    """

    groups: list[Group]
    group_of: dict[int, Group]
    after: dict = field(default_factory=lambda: defaultdict(set))
    latest: dict = field(default_factory=dict)
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
        """Add an input or constant before its first user, which has just been added; `path` is around that too."""
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
        self.group_of[node.index] = group
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
        """Find the member of `group` that the node is, or is in; None if it is outside."""
        member: Group | Node | None = node
        around: Group | None = self.group_of[node.index]
        while around is not None and around is not group:
            member, around = around, around.parent
        return member if around is group else None

    def uses(self, node: Node):
        return [edge for edge in node.outgoing if edge.target.index in self.group_of]

    def _reaches(self, start, goals: set) -> bool:
        return bool(goals) and any(member in goals for member in walk([start], self.after.__getitem__))


def _replace_single_members(builder: _Builder):
    """Replace groups of a single member by that member, from the inside out."""
    for group in reversed(builder.groups[1:]):
        if len(group.children) == 1 and group.parent is not None:
            (child,) = group.children
            siblings = group.parent.children
            siblings[siblings.index(group)] = child
            if isinstance(child, Group):
                child.parent = group.parent
                # "layers" of "layers[0]" alone adds nothing.
                name = re.sub(r" \(\d+\)$", "", group.name)
                child.name = child.name if child.name.startswith(name) else f"{group.name}/{child.name}"
            else:
                builder.group_of[child.index] = group.parent
            group.children = []


def _divide(builder: _Builder, group: Group):
    """Divide a group of too many members into stretches of the run, again if need be."""
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
                builder.group_of[member.index] = part
        if len(stretch) > MAX_MEMBERS:
            _divide(builder, part)


def _title(member) -> str:
    return member.name if isinstance(member, Group) else f"{member.index} {member.label}"


def _in_order(builder: _Builder, group: Group) -> list:
    """Order the members: each before those that use it, otherwise as they began to run (Kahn 1962)."""
    members = group.children
    position = {member: i for i, member in enumerate(members)}
    before: dict = {member: set() for member in members}
    for member in members:
        for user in {builder.member(group, edge.target) for node in _nodes(member) for edge in builder.uses(node)}:
            if user is not None and user is not member:
                before[user].add(member)
    sorter = TopologicalSorter(before)
    sorter.prepare()
    ready: list[int] = []
    ordered = []
    while sorter.is_active():
        for member in sorter.get_ready():
            heapq.heappush(ready, position[member])
        ordered.append(members[heapq.heappop(ready)])
        sorter.done(ordered[-1])
    return ordered


def _nodes(member) -> Iterable[Node]:
    return member.nodes() if isinstance(member, Group) else [member]


def _finished(builder: _Builder) -> GroupTree:
    root, *_ = builder.groups
    groups = [item for item in walk([root], _members) if isinstance(item, Group)]
    for index, group in enumerate(groups):
        group.index = index
        group.depth = 0 if group.parent is None else group.parent.depth + 1
    for group in reversed(groups):
        group.size = sum(child.size if isinstance(child, Group) else 1 for child in group.children)
    return GroupTree(groups, builder.group_of)
