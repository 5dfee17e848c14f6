# SPDX-License-Identifier: Apache-2.0
"""node-cache's iptables rules: which there should be, which there are, and what makes the two the same.

iptables has two back ends that don't see each other's rules. An ACCEPT in our own nft table does not stop a
DROP in another chain, so wherever INPUT or OUTPUT could drop, node-cache's own four ACCEPT rules for each
address stand at their head, with its comments: node-cache finds them as its own after a roll-back.

The rules against tracking are in our nft table. In the mode ``iptables`` they stand in the raw table
of the host's back end, as node-cache's but with a condition: the address is on the node.

A family's chains are read with ``-S`` and changed by one ``iptables-restore --noflush``: one transaction.
"""

import ipaddress
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fastdns.control.node.model import ErrorType, Mode, NodeError, NodePlan, Phase

BACKENDS = ("nft", "legacy")

# node-cache's comments (corefile.md, 6.5); kubelet's and kube-proxy's chains never have them.
ALLOW = "NodeLocal DNS Cache: allow DNS traffic"
SKIP = "NodeLocal DNS Cache: skip conntrack"
#: ours says that it needs no removal when the address goes
SKIP_LOCAL = "fastdns: skip conntrack while the address is on the node"
_COMMENTS = frozenset({ALLOW, SKIP, SKIP_LOCAL})

FILTER = (("filter", "INPUT"), ("filter", "OUTPUT"))
CHAINS = (*FILTER, ("raw", "PREROUTING"), ("raw", "OUTPUT"))
_WAIT_S = 5  # for the xtables lock, as node-cache
_RUN_S = 15.0
_LOCKED = "holding the xtables lock"  # node-cache tells errors apart by these words

# By which the kubelet shows which back end the host uses (iptables-wrappers' convention).
HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")


@dataclass(frozen=True, slots=True)
class Rule:
    """One of node-cache's rules."""

    table: str
    chain: str
    protocol: str  #: udp or tcp
    direction: str  #: d: to the address and port; s: from it
    address: str
    port: int
    target: str
    comment: str
    local: bool = False  #: only while the address is on the node

    def arguments(self) -> list[str]:
        """As node-cache has them, in its order."""
        words = [
            "-p",
            self.protocol,
            f"-{self.direction}",
            self.address,
            f"--{self.direction}port",
            str(self.port),
        ]
        if self.local:
            kind = "dst" if self.direction == "d" else "src"
            words += ["-m", "addrtype", f"--{kind}-type", "LOCAL"]
        return [*words, "-j", self.target, "-m", "comment", "--comment", self.comment]

    def __str__(self) -> str:
        return f"{{{self.table} {self.chain} [{' '.join(self.arguments())}]}}"


@dataclass(frozen=True, slots=True)
class Found:
    """A rule as ``-S`` lists it, and what it means where it is one of node-cache's or ours."""

    words: tuple[str, ...]  #: behind -A CHAIN
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Chain:
    """A built-in chain as it is."""

    table: str
    name: str
    policy: str
    rules: tuple[Found, ...]

    @property
    def could_drop(self) -> bool:
        """Whether anybody but us has said something in it."""
        return self.policy != "ACCEPT" or any(one.rule is None for one in self.rules)

    def ours(self) -> list[Rule]:
        return [one.rule for one in self.rules if one.rule is not None]


@dataclass(frozen=True, slots=True)
class Backend:
    """One of the two, for one family."""

    name: str  #: nft or legacy
    version: int  #: 4 or 6
    program: str

    def read(self, table: str, chain: str) -> Chain:
        """Raises NodeError."""
        if table not in self.tables():
            return Chain(table, chain, "ACCEPT", ())
        policy, rules = "ACCEPT", []
        for line in self._run(["-t", table, "-S", chain]).splitlines():
            words = shlex.split(line)
            if words[:2] == ["-P", chain]:
                policy = words[2]
            elif words[:2] == ["-A", chain]:
                rules.append(Found(tuple(words[2:]), parse(table, chain, words[2:])))
        return Chain(table, chain, policy, tuple(rules))

    def change(self, lines: dict[str, list[str]]) -> None:
        """Carry out -I and -D lines, by table, each table in one transaction. Raises NodeError."""
        text = "".join(
            f"*{table}\n" + "\n".join(lines[table]) + "\nCOMMIT\n" for table in lines if lines[table]
        )
        if text:
            self._run(["--noflush"], text, restore=True)

    def has_chain(self, table: str, chain: str) -> bool:
        if table not in self.tables():
            return False
        try:
            self._run(["-t", table, "-S", chain])
        except NodeError:
            return False
        return True

    def tables(self, proc: Path = Path("/proc/net")) -> frozenset[str]:
        """The tables that may hold rules. Asking the legacy program itself would make them all."""
        if self.name != "legacy":
            return frozenset(table for table, _ in CHAINS) | {"mangle", "nat"}
        names = proc / ("ip6_tables_names" if self.version == 6 else "ip_tables_names")
        try:
            return frozenset(names.read_text(encoding="ascii").split())
        except OSError:
            return frozenset()

    def _run(self, arguments: list[str], text: str = "", restore: bool = False) -> str:
        program = f"{self.program}-restore" if restore else self.program
        command = [program, "-w", str(_WAIT_S), *arguments]
        try:
            done = subprocess.run(
                command, input=text, capture_output=True, text=True, timeout=_RUN_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NodeError(ErrorType.IPTABLES, f"{program}: {error}") from None
        if done.returncode != 0:
            reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            kind = ErrorType.IPTABLES_LOCK if _LOCKED in reason else ErrorType.IPTABLES
            raise NodeError(kind, f"{program}: {reason}")
        return done.stdout


def find_backends(
    versions: Iterable[int], which: Callable[[str], str | None] = shutil.which
) -> list[Backend]:
    """The back ends that this image has programs for."""
    found = []
    for version in versions:
        stem = _stem(version)
        known = {name: f"{stem}-{name}" for name in BACKENDS if which(f"{stem}-{name}")}
        if not known and which(stem):
            known[_plain_backend(stem)] = stem
        found += [Backend(name, version, program) for name, program in known.items()]
    return found


def host_backend(backends: list[Backend], version: int) -> Backend | None:
    """The one that the host's kubelet uses, else one that has rules, else the first there is."""
    mine = [one for one in backends if one.version == version]
    for hint in HINTS:
        for one in mine:
            if one.has_chain("mangle", hint):
                return one
    for one in mine:
        if any(one.read("filter", chain).could_drop for chain in ("INPUT", "OUTPUT")):
            return one
    return mine[0] if mine else None


def accept_rules(plan: NodePlan, version: int) -> list[Rule]:
    """node-cache's rules 3, 4, 7 and 8 for each address, in the order in which it inserts them."""
    rules = []
    for address in plan.of_family(version):
        for chain, direction in (("INPUT", "d"), ("OUTPUT", "s")):
            rules += [
                Rule("filter", chain, protocol, direction, address, plan.port, "ACCEPT", ALLOW)
                for protocol in ("tcp", "udp")
            ]
    return rules


def notrack_rules(plan: NodePlan, version: int, draining: bool = False) -> list[Rule]:
    """node-cache's other eight, each with the condition that the address is on the node.

    draining: only those of answers; a conntrack entry that an answer makes would take the client's next
    question, from the same port, for its reply.
    """
    rules = []
    for address in plan.of_family(version):
        asked = (("PREROUTING", "d", plan.port), ("OUTPUT", "s", plan.port), ("OUTPUT", "d", plan.port))
        rules += [
            Rule("raw", chain, protocol, direction, address, port, "NOTRACK", SKIP_LOCAL, local=True)
            for chain, direction, port in asked
            for protocol in ("tcp", "udp")
        ]
        rules += [
            Rule(
                "raw",
                "OUTPUT",
                "tcp",
                direction,
                address,
                plan.health_port,
                "NOTRACK",
                SKIP_LOCAL,
                local=True,
            )
            for direction in "ds"
        ]
    if draining:
        return [rule for rule in rules if rule.direction == "s" and rule.port == plan.port]
    return rules


def wanted(
    plan: NodePlan, mode: Mode, phase: Phase, version: int, is_host: bool, chains: list[Chain]
) -> list[Rule]:
    """The rules that a back end should have, going by what else is in its chains."""
    rules: list[Rule] = []
    if mode is Mode.NONE or phase is Phase.LINGER:
        return rules
    if any(one.could_drop for one in chains if one.table == "filter"):
        rules += accept_rules(plan, version)
    if mode is Mode.IPTABLES and is_host:
        rules += notrack_rules(plan, version, phase is Phase.DRAIN)
    return rules


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a synchronisation changed."""

    added: tuple[str, ...] = ()  #: as node-cache's log has them
    removed: int = 0  #: left-overs and duplicates


def synchronise(
    plan: NodePlan, mode: Mode, phase: Phase, foreign: Iterable[str] = (), left_overs: bool = True
) -> Outcome:
    """Make each back end's rules for our addresses what they should be. Raises NodeError.

    foreign: addresses on which somebody else serves, too; their rules are not taken away.
    phase: LINGER: nothing of ours is to stay.
    left_overs: look for them, too, in chains where we have no rules.
    """
    names = CHAINS if left_overs or mode is Mode.IPTABLES else FILTER
    versions = [version for version in (4, 6) if plan.of_family(version)]
    backends = find_backends(versions)
    added: list[str] = []
    removed = 0
    for version in versions:
        forced = mode is Mode.IPTABLES and phase is not Phase.LINGER
        host = host_backend(backends, version) if forced else None
        if forced and host is None:
            raise NodeError(ErrorType.IPTABLES, f"{_stem(version)}: no such program")
        for one in (one for one in backends if one.version == version):
            if not one.tables() and one is not host:
                continue
            chains = [one.read(table, chain) for table, chain in names]
            rules = wanted(plan, mode, phase, version, one is host, chains)
            lines, new, gone = changes(plan, chains, rules, frozenset(foreign))
            one.change(lines)
            added += [str(rule) for rule in new]
            removed += gone
    return Outcome(tuple(added), removed)


def changes(
    plan: NodePlan, chains: list[Chain], rules: list[Rule], foreign: frozenset[str]
) -> tuple[dict[str, list[str]], list[Rule], int]:
    """The lines for iptables-restore by table, the rules that they add, and the number that they remove.

    What is added comes first: at no moment is there less than before.
    """
    missing, deletions = list(rules), []
    for chain in chains:
        for one in chain.rules:
            if one.rule is None or one.rule.address not in plan.addresses:
                continue
            if one.rule in missing:
                missing.remove(one.rule)  # a second one like it is a duplicate
            elif one.rule.address not in foreign:
                deletions.append((chain.table, f"-D {chain.name} {join(one.words)}"))
    lines: dict[str, list[str]] = {}
    for rule in missing:
        lines.setdefault(rule.table, []).append(f"-I {rule.chain} 1 {join(rule.arguments())}")
    for table, line in deletions:
        lines.setdefault(table, []).append(line)
    return lines, missing, len(deletions)


def parse(table: str, chain: str, words: list[str]) -> Rule | None:
    """What a listed rule is; None for anything but node-cache's and ours, which their comments tell."""
    options = dict(_options(words))
    comment = options.get("--comment")
    if comment not in _COMMENTS:
        return None
    direction = "d" if "-d" in options else "s"
    try:
        network = ipaddress.ip_network(options[f"-{direction}"])
        port = int(options[f"--{direction}port"])
        target = {"CT": "NOTRACK"}.get(options["-j"], options["-j"])  # what nft calls NOTRACK
        address = str(network.network_address)
        protocol = options["-p"]
    except (KeyError, ValueError):
        return None
    if network.prefixlen != network.max_prefixlen:
        return None
    local = "--dst-type" in options or "--src-type" in options
    return Rule(table, chain, protocol, direction, address, port, target, comment, local)


def join(words: Iterable[str]) -> str:
    """Words as iptables-restore reads them: it knows double quotes only."""
    return " ".join(f'"{word}"' if " " in word else word for word in words)


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    for name, value in zip(words, [*words[1:], ""], strict=True):
        if name.startswith("-") and name != "-m":
            yield name, value


def _stem(version: int) -> str:
    return "ip6tables" if version == 6 else "iptables"


def _plain_backend(program: str) -> str:
    try:
        text = subprocess.run(
            [program, "-V"], capture_output=True, text=True, timeout=_RUN_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "legacy"
    return "nft" if "nf_tables" in text else "legacy"
