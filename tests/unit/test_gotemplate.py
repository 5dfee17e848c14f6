# SPDX-License-Identifier: Apache-2.0
"""Go's templates: what Corefiles use gives what Go gives, the rest is refused."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.gotemplate import DEPTH_MAX, TemplateError, parse_template

DATA = {
    "Zone": "example.",
    "Name": "ip-10-0-0-7.example.",
    "Class": "IN",
    "Type": "A",
    "Match": ["ip-10-0-0-7.example.", "10", "7"],
    "Group": {"0": "ip-10-0-0-7.example.", "1": "10", "a": "10", "hex": "ff", "empty": ""},
    "Question": {"Name": "ip-10-0-0-7.example.", "Qtype": 1, "Qclass": 1},
    "Number": 7,
}

#: Template and what Go's text/template makes of it (test_go_agrees asks it).
CASES = [
    ("plain", "plain"),
    ("{{ .Name }} 60 IN A 10.0.0.7", "ip-10-0-0-7.example. 60 IN A 10.0.0.7"),
    ("{{.Name}}", "ip-10-0-0-7.example."),
    ("{{ .Group.a }}.{{ .Group.none }}.{{ index .Match 2 }}", "10.<no value>.7"),
    ('{{ index .Group `a` }}{{ index .Group "1" }}', "1010"),
    ("{{ parseInt .Group.hex 16 64 }}", "255"),
    ('{{ if eq .Type "A" }}four{{ else }}six{{ end }}', "four"),
    ('{{ if eq .Type "AAAA" "A" }}yes{{ end }}', "yes"),
    ('{{ if ne .Type "A" }}x{{ else if eq .Class "IN" }}y{{ else }}z{{ end }}', "y"),
    ("{{ if .Group.empty }}x{{ end }}{{ if not .Group.empty }}y{{ end }}", "y"),
    ("{{ if and .Name (gt (len .Match) 2) }}y{{ end }}", "y"),
    ('{{ printf "%s-%03d-%x|%v%%" .Type .Number 255 true }}', "A-007-ff|true%"),
    ('{{ .Number | printf "%d:%d" 1 }}', "1:7"),
    ("a  {{- .Type -}}  b", "aAb"),
    ("a {{- /* nothing */ -}} b", "ab"),
    ("{{ .Question.Name }} {{ .Question.Qtype }}", "ip-10-0-0-7.example. 1"),
    ('{{ print "a" 1 }}{{ "x\\ty" }}', "a1x\ty"),
    ("{{ .Match }}", "[ip-10-0-0-7.example. 10 7]"),
    ("{{ -3 }} {{ 0x10 }}", "-3 16"),
    ("{{ or .Group.empty .Type }}", "A"),
    ("}} {", "}} {"),
]


@pytest.mark.parametrize(("text", "result"), CASES)
def test_what_corefiles_use(text: str, result: str) -> None:
    assert parse_template(text).render(DATA) == result


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not there")
def test_go_agrees(tmp_path: Path) -> None:
    """The table above is what Go's own text/template says."""
    program = tmp_path / "main.go"
    cases = "\n".join(f"\t\t{go_string(text)}," for text, _ in CASES)
    program.write_text(f"""package main
import ("os"; "fmt"; "strings"; "strconv"; "text/template")
type Q struct {{ Name string; Qtype, Qclass uint16 }}
type D struct {{
	Zone, Name, Class, Type string; Match []string; Group map[string]string; Question Q; Number int
}}
func main() {{
	name := "ip-10-0-0-7.example."
	d := D{{"example.", name, "IN", "A", []string{{name, "10", "7"}},
		map[string]string{{"0": name, "1": "10", "a": "10", "hex": "ff", "empty": ""}}, Q{{name, 1, 1}}, 7}}
	f := template.FuncMap{{"parseInt": strconv.ParseInt}}
	for _, text := range []string{{
{cases}
	}} {{
		var b strings.Builder
		if err := template.Must(template.New("").Funcs(f).Parse(text)).Execute(&b, d); err != nil {{
			fmt.Println(err); os.Exit(1)
		}}
		fmt.Printf("%q\\n", b.String())
	}}
}}
""")
    shown = subprocess.run(
        ["go", "run", str(program)], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=120
    ).stdout.splitlines()
    assert shown == [go_string(result) for _, result in CASES]


def go_string(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").replace("\n", "\\n")
    return f'"{quoted}"'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ .Name", "not closed"),
        ("{{ }}", "expected a value"),
        ("{{ range .Match }}x{{ end }}", "range is not supported"),
        ("{{ with .Name }}x{{ end }}", "with is not supported"),
        ("{{ $x := 1 }}", "not supported"),
        ("{{ if .Name }}x", "without its {{ end }}"),
        ("{{ end }}", "without an"),
        ("{{ if }}x{{ end }}", "without a condition"),
        ("{{ .Name .Type }}", "is no function"),
        ("{{ (.Name }}", "not closed"),
        ("{{ nosuch .Name }}", "nosuch is not supported"),
        ('{{ "a\\z" }}', "unknown escape"),
        ("{{ .Name | }}", "expected a value"),
        ("{{ if .Name }}" * (DEPTH_MAX + 2), "in one another"),
        ("{{ " + "(" * (DEPTH_MAX + 2) + ".Name" + ")" * (DEPTH_MAX + 2) + " }}", "in one another"),
    ],
)
def test_other_constructs_are_errors(text: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says.replace("{", r"\{").replace("}", r"\}")):
        parse_template(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ index .Match 9 }}", "index: 9 of 3"),
        ('{{ parseInt "zz" 10 64 }}', "parseInt"),
        ('{{ parseInt "300" 10 8 }}', "does not fit 8 bits"),
        ("{{ eq .Type 1 }}", "can't be compared"),
        ("{{ .Nosuch }}", ".Nosuch is not known"),
        ("{{ .Name.First }}", ".Name has no field First"),
        ('{{ printf "%d" .Name }}', "printf"),
        ('{{ printf "%s %s" .Name }}', "wants more"),
        ('{{ printf "%s" .Name .Type }}', "leaves 1"),
        ("{{ len 3 }}", "len"),
    ],
)
def test_values_that_do_not_fit_are_errors(text: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        parse_template(text).render(DATA)


def test_what_is_read_is_known() -> None:
    template = parse_template("{{ if .Remote }}{{ index .Match 1 }}{{ end }}")
    assert template.reads("Remote")
    assert template.reads("Match")
    assert not template.reads("Name")


@given(st.text(alphabet=st.sampled_from('{} ().|-$"`\\%ifelsendrag0x.NameMatchprintf\n\t'), max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(TemplateError):
        parse_template(text).render(DATA)
