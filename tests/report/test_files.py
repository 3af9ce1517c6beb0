"""report.html, report.json and the text for a terminal."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from fallow.core.model import VmKind
from fallow.report.html import page, write_report
from fallow.report.plots import lanes
from fallow.report.run import RunData
from fallow.report.summary import summarise
from fallow.report.text import text_report
from fallow.report.timeline import VmLife
from fallow.report.words import cut_off_words, millis, share

_VOID = {"meta", "path", "use", "br", "image"}


class _Page(HTMLParser):
    """What a browser would look up, which ids there are, and whether tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


def test_the_page_needs_nothing_else(run: RunData, tmp_path: Path) -> None:
    html_path, json_path = write_report(run, summarise(run), tmp_path / "deep" / "out")
    text = html_path.read_text(encoding="utf-8")
    parsed = _Page(text)
    assert "http:" not in text
    assert "https:" not in text
    assert "<script" not in text
    assert parsed.tags.count("svg") == 4
    assert parsed.open == []
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(parsed.ids)
    assert "{{" not in text
    assert json.loads(json_path.read_text())["invocations"] == 94


def test_plots_name_units_and_what_happened(run: RunData, tmp_path: Path) -> None:
    html_path, _ = write_report(run, summarise(run), tmp_path)
    text = html_path.read_text(encoding="utf-8")
    for words in (
        "seconds since the replay began", "cores of the VM (emulated)", "evicted, injected", "warm start (87)",
        "cold start (2)", "error record (1)", "no record (4)", "a VM is evicted", "calls a second",
        "long calls on regular VMs", "1 emulated core = 0.1 real cores", "functions are left out by seed",
    ):  # fmt: skip
        assert words in text


def test_a_run_without_calls_or_vms_still_makes_a_page(run: RunData, tmp_path: Path) -> None:
    empty = replace(run, calls=(), vm_events=())
    html_path, _ = write_report(empty, summarise(empty), tmp_path)
    assert "0 invocations on harvest VMs" in html_path.read_text(encoding="utf-8")


def test_foreign_text_is_escaped_and_not_taken_for_a_part_of_the_page(run: RunData) -> None:
    summary = summarise(replace(run, header=replace(run.header, rules=("<b>{{CARDS}}</b>",))))
    text = page(summary, dict.fromkeys(("cores", "latency", "starts", "placements"), "<svg></svg>"))
    assert "<li>&lt;b&gt;{{CARDS}}&lt;/b&gt;</li>" in text


def test_the_text_fits_a_terminal(run: RunData) -> None:
    long = replace(
        run.header,
        rules=tuple(f"rule number {i} " + "goes on " * 30 for i in range(20)),
        cpu_enforced=False,
        cpu_note="no cgroup may be written " * 9,
    )
    text = text_report(summarise(replace(run, header=long)))
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    for words in ("89 of 94 (94.68 %)", "1 lost", "450 ms", "77.0 % saved", "CPU is not enforced"):
        assert words in text


def test_a_late_sender_is_named(run: RunData) -> None:
    late = tuple(replace(call, sent_s=call.intended_s + 0.5) for call in run.calls)
    assert "too busy to send on time (p95 500 ms late)" in text_report(summarise(replace(run, calls=late)))
    assert "to send on time" not in text_report(summarise(run))


def test_calls_that_evictions_cut_off_are_explained(run: RunData, tmp_path: Path) -> None:
    words = (
        "9 running calls, 7 taken for short: 4 succeeded elsewhere, "
        "3 failed for good (2 not idempotent, 1 out of attempts), "
        "1 ended elsewhere in an error of the function, 1 not over yet"
    )
    summary = summarise(run)
    assert cut_off_words(summary["cut_off"]) == words
    html_path, json_path = write_report(run, summary, tmp_path)
    text = html_path.read_text(encoding="utf-8")
    assert words in text
    assert "9 calls cut off, 3 of them failed for good" in text
    assert json.loads(json_path.read_text())["cut_off"]["failed"] == 3
    printed = " ".join(text_report(summary).split())
    assert f"cut off {words}" in printed


def test_a_single_call_and_none_are_told_too() -> None:
    nothing = dict.fromkeys(
        ("calls", "unforeseen", "succeeded", "failed", "not_idempotent", "out_of_attempts", "own_error", "other"), 0
    )
    assert cut_off_words(nothing) == "no running call"
    one = nothing | {"calls": 1, "succeeded": 1}
    assert cut_off_words(one) == "1 running call, 0 taken for short: 1 succeeded elsewhere, 0 failed for good"


def test_a_run_without_retries_says_so(run: RunData, tmp_path: Path) -> None:
    words = "retries were off: a call that an eviction cuts off fails for good"
    off = replace(run, header=replace(run.header, retries=False))
    assert words in text_report(summarise(off))
    assert words in write_report(off, summarise(off), tmp_path)[0].read_text(encoding="utf-8")
    assert "retries were off" not in text_report(summarise(run))


def test_a_run_with_a_history_says_so(run: RunData) -> None:
    words = "the strategy knew beforehand which apps of the trace are long"
    assert words in text_report(summarise(replace(run, header=replace(run.header, history=True))))
    assert words not in text_report(summarise(run))


def test_lanes_join_the_lives_of_one_trace() -> None:
    def life(vm: str, kind: VmKind) -> VmLife:
        return VmLife(vm=vm, kind=kind, steps=((0.0, 1.0),), end_s=1.0, evicted=False, evicted_by="", notices=())

    lives = [
        life("h10", VmKind.HARVEST),
        life("h2", VmKind.HARVEST),
        life("h2.2", VmKind.HARVEST),
        life("r1", VmKind.REGULAR),
    ]
    assert {name: [one.vm for one in own] for name, own in lanes(lives).items()} == {
        "r1": ["r1"],
        "h2": ["h2", "h2.2"],
        "h10": ["h10"],
    }
    assert list(lanes(lives)) == ["r1", "h2", "h10"]


def test_figures_in_words() -> None:
    assert [millis(v) for v in (None, 0.123, 4.56, 78.9, 1234.0)] == ["–", "0.12 ms", "4.6 ms", "79 ms", "1.23 s"]
    assert [share(v, 2) for v in (None, 0.5, 1.0, 0.99999)] == ["–", "50.00 %", "100.00 %", "> 99.99 %"]
