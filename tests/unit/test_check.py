# SPDX-License-Identifier: Apache-2.0
"""``fastdns check``: what it says, in which form, with which exit code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastdns.cli import main
from fastdns.control.config import explain, sentences
from fastdns.control.config.load import parse_corefile
from fastdns.control.config.registry import PLUGINS

BOUNDS = "their TTL, at most 30s and at least 5s"

RKE2 = Path(__file__).parent.parent / "data" / "corefiles" / "rke2-iptables.Corefile"


def check(tmp_path: Path, text: str, *options: str) -> int:
    (tmp_path / "Corefile").write_text(text)
    return main(["check", str(tmp_path / "Corefile"), *options])


def rows(*lines: str) -> list[str]:
    """What is said of a block with these lines, less where it listens."""
    corefile = parse_corefile("\n".join(["a.b {", *lines, "}"]), "f", {})
    found = explain.block_rows(corefile.blocks[0])
    assert found[0].plugin == "listens"
    return [f"{row.plugin}: {row.text}" if row.plugin else row.text for row in found[1:]]


def notes(*lines: str) -> list[str]:
    corefile = parse_corefile("\n".join(["a.b {", *lines, "}"]), "f", {})
    return [f"{note.where}: {note.text}" for note in explain.not_acted_on(corefile)]


def test_rke2s_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = RKE2.read_text().replace("__PILLAR__CLUSTER__DNS__", "10.43.0.200")
    assert check(tmp_path, text.replace("__PILLAR__UPSTREAM__SERVERS__", "192.0.2.1")) == 0
    found = capsys.readouterr().out
    file = tmp_path / "Corefile"
    assert found.startswith(
        f"cluster.local.:53  {file}:1\n"
        "  listens      UDP and TCP, 169.254.20.10:53, 10.43.0.10:53\n"
        "  reload       looks at this file every 30s, give or take 7.5s, and takes it when it has changed\n"
        "  health       GET /health on 169.254.20.10, port 8080\n"
        "  prometheus   GET /metrics on all addresses, port 9253; this block's queries are counted\n"
        "  errors       errors are logged\n"
        "  cache        for names at or below cluster.local.:\n"
        "               answers with records are kept for their TTL, at most 30s and at least 5s;"
        " about 9984 of them\n"
        "               NXDOMAIN and NODATA are kept for 5s; about 9984 of them\n"
        "               failures are kept for 5s\n"
        "               names with 4 hits in their time are asked again when 10% of it is left\n"
        "  loop         an upstream that sends questions for cluster.local. back here is found and left out\n"
        "  forward      what is left: asked of 10.43.0.200:53 over TCP\n\n"
    )
    assert found.endswith(f"\n{file}: 4 server blocks, no errors\n")
    assert "\x1b" not in found


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["errors"], [
            "errors: errors are logged",
            "answers SERVFAIL to every question: nothing in the block answers",
        ]),
        ([], ["answers REFUSED to every question: nothing in the block answers"]),
        (["health", "reload"], None),
        (["bind lo {", "except ::1", "}", "whoami"], None),
        (["bufsize 512", "whoami"], ["bufsize: lowers a client's EDNS size to 512 octets"]),
        (["cache 30 {", "servfail 0", "disable denial x", "keepttl", "}", "whoami"], [
            "cache: for names at or below a.b.:",
            f"cache: answers with records are kept for {BOUNDS}; about 10000 of them",
            f"cache: NXDOMAIN and NODATA are kept for {BOUNDS}; about 10000 of them",
            "cache: failures are kept not at all",
            "cache: NXDOMAIN and NODATA of names at or below x. are not kept",
            "cache: a hit carries the TTL that it was stored with",
        ]),
        (["dns64", "whoami"], [
            "dns64: IPv6 clients get AAAA records made from A, where there is none, behind 64:ff9b::/96"
        ]),
        (["forward x.y 10.0.0.1 tls://9.9.9.9%q {", "except z.x.y", "}"], [
            "forward: names at or below x.y., but not z.x.y.: asked of 10.0.0.1:53 or tls://9.9.9.9%q",
        ]),
        (["forward . 10.0.0.1 {", "force_tcp", "source_address 10.0.0.2", "}"], [
            "forward: what is left: asked of 10.0.0.1:53 over TCP from 10.0.0.2",
        ]),
        (["forward . dns.example:5353 {", "resolver 10.0.0.1", "}"], [
            "forward: what is left: asked of dns.example:5353",
            "forward: the addresses of these hosts: asked of 10.0.0.1:53 at the start and at each reload",
        ]),
        (["forward 10.0.0.0/23 10.0.0.1"], [
            "forward: names at or below 0.0.10.in-addr.arpa. and 1.0.10.in-addr.arpa.: asked of 10.0.0.1:53",
        ]),
        (["hosts /h x y {", "10.0.0.1 h", "fallthrough x", "ttl 9", "}"], [
            "hosts: A, AAAA and PTR of names at or below x. and y., TTL 9 s",
            "hosts: from /h, looked at every 5s, and 1 line here",
            "hosts: names that it doesn't know: go on if names at or below x., else SERVFAIL",
        ]),
        (["rewrite continue name suffix .x .y answer auto", "whoami"], [
            ("rewrite: for names that end in .x.: asks with .y. in that place; owner names are put back;"
             " then the next rules"),
        ]),
        (["template ANY A {", "match ^x", "answer a", "answer b", "rcode NXDOMAIN", "}"], [
            "template: type A, class ANY of names at or below a.b. like '^x': NXDOMAIN with 2 answer records",
            "template: other names at or below a.b.: SERVFAIL",
        ]),
        (["log . {", "class denial error", "}", "whoami"], [
            "log: a line for queries answered with denial and error of all names",
        ]),
    ],
)  # fmt: skip
def test_sentences(lines: list[str], said: list[str] | None) -> None:
    found = rows(*lines)
    if said is not None:
        assert found[: len(said)] == said


def test_each_plugin_has_a_sentence() -> None:
    assert all(callable(getattr(sentences, name)) for name in PLUGINS)


def test_every_form_of_rewrite_has_a_sentence() -> None:
    forms = [
        "name regex (.*)x {1}y answer value a b", "type A AAAA", "class CH IN", "ttl substring x 30",
        "rcode prefix x 23 NOERROR", "cname x y", "edns0 local set 9 {qname} revert", "edns0 local unset 9",
        "edns0 nsid set", "edns0 subnet set 24 56", "edns0 subnet unset",
    ]  # fmt: skip
    found = rows(*(f"rewrite {form}" for form in forms))
    assert len([row for row in found if row.startswith("rewrite: ")]) == len(forms)


def test_options_not_acted_on_are_listed() -> None:
    found = notes(
        "cache {", "prefetch 5", "serve_stale 1h verify", "success 5", "}",
        "forward . 10.0.0.1 tls://9.9.9.9 https://127.0.0.1/dns-query {", "policy sequential",
        "tls_servername dns.example", "max_fails 2", "doh_method GET", "next NXDOMAIN", "force_tcp", "}",
    )  # fmt: skip
    assert found == [
        "f:7: plugin forward: doh_method GET: nobody is asked over HTTPS",
        "f:7: plugin forward: upstream https://127.0.0.1/dns-query: not asked",
    ]


def test_words_not_acted_on_are_listed() -> None:
    assert notes("loadbalance") == []
    assert notes("loadbalance weighted /w") == [
        "f:2: plugin loadbalance: weighted: answers go out as upstream had them"
    ]
    assert notes("prometheus {", "tls /w", "}") == [
        "f:2: plugin prometheus: tls /w: /metrics is served without encryption"
    ]


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "Corefile"
    assert check(tmp_path, ". {\nwhoami\n}\n") == 0
    assert check(tmp_path, ". {\nwhoami\nloadbalance weighted /w\n}\n") == 1
    assert "accepted, and not yet acted on:\n" in capsys.readouterr().out
    assert check(tmp_path, ". {\ntrace\npprof\nwhoami\n}\n") == 1
    assert "accepted, and left out:\n" in capsys.readouterr().out
    assert check(tmp_path, ". {\nimport none*\nwhoami\n}\n") == 1
    assert "warnings:\n" in capsys.readouterr().out
    assert check(tmp_path, ". {\nwhoam\ncache 0\n}\n") == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.splitlines() == [
        f"{file}:2: found directive 'whoam', expected one that is known (did you mean 'whoami'?)",
        f"{file}:3: plugin cache: found '0' as TTL, expected a number, 1 or more",
        f"{file}: 2 errors",
    ]
    assert main(["check", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize(
    "arguments", [[], ["--port", "0", "f"], ["--port", "x", "f"], ["a", "b"], ["--nonsense"]]
)
def test_wrong_arguments(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", *arguments])
    assert caught.value.code == 2


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "fastdns {\nworkers 3\nmemory 64M\n}\na:54 {\nbind ::1\nforward . 10.0.0.1 {\ndoh_method GET\n}\n}\n"
    )
    assert check(tmp_path, text, "--json") == 1
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    file = f"{tmp_path}/Corefile"
    assert len(found.pop("digest")) == 128
    assert found == {
        "path": file, "valid": True, "errors": [], "imported": [], "warnings": [], "left_out": [],
        "settings": {"workers": "3", "memory": "64M"},
        "not_acted_on": [
            {"where": f"{file}:7", "text": "plugin forward: doh_method GET: nobody is asked over HTTPS"}
        ],
        "blocks": [
            {
                "where": f"{file}:5", "keys": ["dns://a.:54"], "listens": ["[::1]:54"],
                "does": [
                    {"plugin": "listens", "text": "UDP and TCP, [::1]:54"},
                    {"plugin": "forward", "text": "what is left: asked of 10.0.0.1:53"},
                ],
            }
        ],
    }  # fmt: skip
    assert check(tmp_path, ". {\ncache 0\n}\n", "--json") == 2
    assert json.loads(capsys.readouterr().out) == {
        "path": file, "valid": False,
        "errors": [f"{file}:2: plugin cache: found '0' as TTL, expected a number, 1 or more"],
    }  # fmt: skip


def test_text_that_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Corefile").write_bytes(b'. {\nlog . "{name} \xff"\nwhoami\n}\n')
    assert main(["check", "--json", str(tmp_path / "Corefile")]) == 0
    json.loads(capsys.readouterr().out)


def test_as_a_program(tmp_path: Path) -> None:
    (tmp_path / "Corefile").write_text("{$ZONE} {\nwhoami\n}\n")
    done = subprocess.run(
        [sys.executable, "-m", "fastdns", "check", "Corefile", "--port", "1053"],
        cwd=tmp_path, env={"ZONE": "z.example", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("z.example.:1053  Corefile:1\n")
