"""`fallow why`: joining the controllers' parts, the sentences, and whom it asks with which key."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fallow_cli.main import cli
from fallow_cli.state import RunningCluster, StateDir
from fallow_cli.story import WIDTH, story_lines
from fallow_cli.story_merge import merge

ID = "0123456789abcdef" * 2
ACCEPTED_MS = 1_764_097_200_000  # 2025-11-25 19:00:00 UTC
CAUSES = (
    *("before_s", "waiting_room_s", "store_s", "way_s", "vm_queue_cpu_s", "vm_queue_memory_s", "vm_queue_starts_s"),
    *("vm_queue_shrink_s", "container_start_s", "vm_other_s", "init_s", "run_s", "cut_off_s", "on_vm_so_far_s"),
)
SHRUNK = {
    "cpu_s": 0.25,
    "memory_s": 0.0,
    "starts_s": 0.0,
    "shrink_s": 1.5,
    "start_s": 0.0625,
    "cores_first": 4.0,
    "cores_most": 4.0,
    "cores_least": 1.0,
    "cores_last": 1.0,
    "shrunk_run_s": 2.0,
    "throttled_s": 1.25,
    "throttled_note": "",
}
RECORD = {
    "status": "success",
    "attempt": 2,
    "vm": "h2",
    "kind": "harvest",
    "price": 0.25,
    "speed": 1.0,
    "accepted_unix_ms": ACCEPTED_MS,
    "start_unix_ms": ACCEPTED_MS + 9000,
    "end_unix_ms": ACCEPTED_MS + 14000,
    "wait_ms": 9000,
    "init_ms": 500,
    "run_ms": 4000.0,
    "cpu_ms": 2000.0,
    "prewarmed": False,
    "timed_out": False,
    "evicted": False,
    "logs_missing": False,
    "vm_waits": SHRUNK,
}


def step(after_s: float, what: str, vm: str | None = None, note: str = "", attempt: int = 1, **more: Any) -> Any:
    base = {"after_s": after_s, "what": what, "attempt": attempt, "vm": vm, "note": note}
    return {**base, "considered": [], "passed_over": [], **more}


def placed(after_s: float, vm: str, attempt: int, **more: Any) -> Any:
    facts = {
        "kind": "harvest",
        "price": 0.25,
        "speed": 1.0,
        "vm_cores": 4.0,
        "fits": True,
        "long": False,
        "long_why": "by the calls it has seen the strategy prefer-regular does not take the app 'f' for long",
        "kinds_preferred": ["harvest", "spot", "regular"],
        "kinds_forbidden": [],
        "kinds_full": [],
        "kinds_unusable": [],
        "considered": [{"vm": vm, "kind": "harvest", "score": 0.5, "fits": True, "note": ""}],
    }
    return step(after_s, "placed", vm, "fits: smallest score of 1 looked at", attempt, **{**facts, **more})


def part(controller: str, arrived_ms: int, steps: list[Any], waits: dict[str, float], **more: Any) -> dict[str, Any]:
    all_waits = {**dict.fromkeys(CAUSES, 0.0), **waits}
    for one in steps:
        one["at_unix_ms"] = ACCEPTED_MS + arrived_ms + one["after_s"] * 1000
    return {
        "activationId": ID,
        "action": "guest/f",
        "controller": controller,
        "controllers_live": 2,
        "remembered": True,
        "blocking": False,
        "durable": True,
        "attempts": max((s["attempt"] for s in steps), default=0),
        "ended": True,
        "accepted_unix_ms": ACCEPTED_MS,
        "arrived_unix_ms": ACCEPTED_MS + arrived_ms,
        "steps": steps,
        "left_out": 0,
        "waits": all_waits,
        "total_s": sum(all_waits.values()),
        "clocks_disagreed_s": 0.0,
        "costs": [],
        "record": None,
        "record_note": "",
        **more,
    }


def cost(attempt: int, vm: str, cpu_s: float | None, *, wasted: bool = False, note: str = "") -> dict[str, Any]:
    return {
        "attempt": attempt,
        "vm": vm,
        "kind": "harvest",
        "price": 0.25,
        "speed": 1.0,
        "cpu_core_s": cpu_s,
        "cost_regular_core_s": None if cpu_s is None else cpu_s * 0.25,
        "on_regular_core_s": cpu_s,
        "wasted": wasted,
        "note": note,
    }


def first_part() -> dict[str, Any]:
    """A blocking call at c1, which was evicted from h1, and whose fence another controller raised."""
    steps = [
        step(0.0, "waited", None, "no VM that may take it is usable"),
        placed(1.0, "h1", 1, passed_over=[{"vm": "h9", "kind": "harvest", "why": "is lost"}]),
        step(2.0, "made durable", "h1"),
        step(3.0, "notice", "h1", "h1 is to be evicted in 2.0 s"),
        step(5.0, "cut off", "h1", "h1 was evicted while it ran"),
        step(5.0, "fence asked", None, "", 2),
        step(6.5, "forgotten", None, "another controller raised the fence", 2),
    ]
    waits = {"waiting_room_s": 1.0, "cut_off_s": 4.0, "store_s": 1.5}
    costs = [cost(1, "h1", 1.5, wasted=True, note="at least: as told 0.4 s before it was cut off")]
    return part("c1", 0, steps, waits, blocking=True, costs=costs)


def second_part(**more: Any) -> dict[str, Any]:
    """The same call at c2, which read it from the durable queue."""
    outcome = {
        "status": "success",
        "wait_s": 2.0,
        "init_s": 0.5,
        "run_s": 4.0,
        "cpu_s": 2.0,
        "prewarmed": False,
        "vm_waits": SHRUNK,
    }
    steps = [
        step(0.0, "fence asked", None, "", 2),
        step(0.25, "fence raised", None, "", 2),
        placed(0.25, "h2", 2, passed_over=[{"vm": "h1", "kind": "harvest", "why": "is being evicted"}]),
        step(3.0, "cores", "h2", "", 2, cores_before=4.0, cores_after=1.0),
        step(8.0, "finished", "h2", "success", 2, outcome=outcome),
    ]
    waits = {
        "before_s": 6.0,
        "store_s": 0.25,
        "way_s": 1.25,
        "vm_queue_cpu_s": 0.25,
        "vm_queue_shrink_s": 1.5,
        "container_start_s": 0.0625,
        "vm_other_s": 0.1875,
        "init_s": 0.5,
        "run_s": 4.0,
    }
    return part("c2", 6000, steps, waits, costs=[cost(2, "h2", 2.0)], record=RECORD, **more)


def test_the_parts_of_two_controllers_are_one_story() -> None:
    doc = merge([second_part(), first_part()], asked=2)
    assert (doc["state"], doc["status"], doc["blocking"], doc["attempts"]) == ("answered", "success", True, 2)
    assert [(s["after_s"], s["controller"], s["what"]) for s in doc["steps"]] == [
        (0.0, "c1", "arrived"),
        (0.0, "c1", "waited"),
        (1.0, "c1", "placed"),
        (2.0, "c1", "made durable"),
        (3.0, "c1", "notice"),
        (5.0, "c1", "cut off"),
        (5.0, "c1", "fence asked"),
        (6.0, "c2", "arrived"),
        (6.0, "c2", "fence asked"),
        (6.25, "c2", "fence raised"),
        (6.25, "c2", "placed"),
        (6.5, "c1", "forgotten"),
        (9.0, "c2", "cores"),
        (14.0, "c2", "finished"),
    ]
    assert (doc["total_s"], sum(doc["waits"].values()), doc["total_is"]) == (14.0, 14.0, "latency")
    assert [c["attempt"] for c in doc["costs"]] == [1, 2]
    assert (doc["cost_regular_core_s"], doc["on_regular_core_s"], doc["cost_complete"]) == (0.875, 2.0, False)
    assert doc["unknown"] == []


def test_a_story_reads_as_sentences() -> None:
    golden = (Path(__file__).parent / "why_golden.txt").read_text()
    lines = list(story_lines(merge([first_part(), second_part()], asked=2)))
    assert "\n".join(lines) + "\n" == golden
    assert max(map(len, lines)) <= WIDTH


def told_text(doc: dict[str, Any]) -> str:
    """The story with its line breaks taken out."""
    return " ".join(" ".join(story_lines(doc)).split())


def forgotten() -> dict[str, Any]:
    nothing = {"waits": None, "total_s": None, "remembered": False, "blocking": None, "durable": None}
    return {**part("c1", 0, [], {}), **nothing, "arrived_unix_ms": None, "attempts": 2, "record": RECORD}


def test_a_forgotten_story_is_told_from_the_record() -> None:
    doc = merge([forgotten()])
    assert (doc["state"], doc["status"], doc["steps"], doc["total_s"]) == ("ended", "success", [], 14.0)
    assert doc["waits"]["vm_queue_shrink_s"] == 1.5
    assert doc["waits"]["not_told_apart_s"] == 9.0 - 1.8125
    assert [(c["attempt"], c["cost_regular_core_s"]) for c in doc["costs"]] == [(2, 0.5)]
    text = "\n".join(story_lines(doc))
    assert "The final record says: success; attempt 2 on h2 (harvest); started after 9.000 s" in text
    assert "No controller that was asked remembers the steps" in " ".join(text.split())


def test_a_composition_tells_of_its_parts() -> None:
    told = forgotten()
    parts = ["1" * 32, "2" * 32]
    told["record"] = {
        **RECORD,
        "vm": None,
        "kind": None,
        "wait_ms": 1000,
        "parts": parts,
        "parts_ms": 9000,
        "vm_waits": None,
    }
    doc = merge([told], asked=2)
    assert doc["waits"] == {"before_s": 1.0, "parts_s": 9.0, "between_s": 4.0}
    assert (doc["total_s"], doc["unknown"]) == (14.0, [])
    text = "\n".join(story_lines(doc))
    assert "success; a composition, which its controller ran" in text
    assert all(f"part {part}, which has a story of its own" in text for part in parts)


def test_what_one_controller_alone_does_not_know_is_said() -> None:
    away = "The controller at http://c1 did not tell its part: cannot reach it."
    doc = merge([second_part()], [away], asked=2)
    assert doc["unknown"] == [
        away,
        "Who started attempt 1 was not asked, is gone, or has forgotten it.",
    ]
    assert merge([first_part()])["state"] == "with a controller that was not asked"
    assert "1 of 2 controllers was asked: the others may remember more." in merge([first_part()])["unknown"]


def test_a_call_that_is_not_over_says_so() -> None:
    running = part("c1", 0, [placed(0.0, "h1", 1)], {"on_vm_so_far_s": 2.0}, ended=False, costs=[cost(1, "h1", None)])
    doc = merge([running])
    assert (doc["state"], doc["total_is"], doc["cost_regular_core_s"]) == ("not over", "so far", None)
    text = "\n".join(story_lines(doc))
    assert "Where the time went so far" in text
    assert "on its VM so far" in text


def test_an_attempt_that_waits_for_its_start_is_none_yet() -> None:
    steps = [placed(0.0, "h1", 1), step(2.0, "cut off", "h1", "h1 was evicted while it ran")]
    waiting = {**part("c1", 0, steps, {"cut_off_s": 2.0}, ended=False), "attempts": 2}
    doc = merge([waiting], asked=2)
    assert (doc["state"], doc["attempts"], doc["unknown"]) == ("not over", 1, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"throttled_s": None, "throttled_note": "the VM has no CPU cgroup"},
            "not measured (the VM has no CPU cgroup)",
        ),
        ({"throttled_s": 9.0}, "slowed by at most 2.000 s"),
    ],
)
def test_how_much_a_shrink_slowed_the_run(change: dict[str, Any], words: str) -> None:
    told = second_part()
    told["steps"][-1]["outcome"]["vm_waits"] = {**SHRUNK, **change}
    assert words in told_text(merge([told]))


def test_a_shrink_before_a_cut_is_said_to_be_unmeasured() -> None:
    told = first_part()
    told["steps"].insert(4, step(4.0, "cores", "h1", cores_before=4.0, cores_after=1.0))
    told["steps"][4]["at_unix_ms"] = ACCEPTED_MS + 4000.0
    assert "How much the shrink had slowed it is not measured: its VM told no more." in told_text(merge([told]))
    assert "How much the shrink had slowed it" not in told_text(merge([first_part(), second_part()], asked=2))


def test_strange_cases_have_their_sentences() -> None:
    strange = [
        placed(0.0, "h1", 1, kinds_unusable=["spot"], kinds_forbidden=["regular"], long=True, long_why="declared"),
        step(1.0, "returned", "h1", "draining", vm_waits={**SHRUNK, "cores_first": None, "shrunk_run_s": 0.0}),
        step(2.0, "late result discarded", "h0", "of attempt 1"),
        step(3.0, "concluded", None, "Cut off."),
    ]
    for one in strange:
        one["at_unix_ms"] = 0
    text = told_text(merge([part("c1", 0, strange, {"vm_queue_cpu_s": 1.0})]))
    assert "Kinds in order harvest, spot, regular: no usable spot VM; regular VMs are forbidden to it." in text
    assert "long (expected to outlast an eviction notice)" in text
    assert "h1 gave it back before it started: draining. That counts as no attempt." in text
    assert "A late result came from h0 and was discarded: of attempt 1." in text
    assert "given up" in text
    refused = told_text(merge([part("c1", 0, [step(1.0, "refused", None, "no VM is usable")], {})]))
    assert "It was refused and leaves no record: no VM is usable." in refused


class Controller:
    """Answers `why` as canned, on a port of its own; keeps who asked for what."""

    def __init__(self, status: int, document: object) -> None:
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = base64.b64decode(self.headers["Authorization"].split()[1]).decode()
                asked.append((key, self.path))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def controllers() -> Iterator[Any]:
    started: list[Controller] = []

    def start(status: int, document: object) -> Controller:
        started.append(Controller(status, document))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(autouse=True)
def _no_cluster_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FALLOW_URL", "FALLOW_AUTH", "FALLOW_OPERATOR_AUTH", "WSK_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FALLOW_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))


def cluster(tmp_path: Path, *urls: str) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    state.write_cluster(
        RunningCluster(urls=list(urls), key="u:k", operator_key="o:o", pid=1, run_dir="", fleet_socket="")
    )


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_operator_asks_every_controller(tmp_path: Path, controllers: Any) -> None:
    one, two = controllers(200, first_part()), controllers(200, second_part())
    cluster(tmp_path, one.url, two.url)
    code, output = run("why", ID.upper(), "--json")
    assert code == 0
    assert json.loads(output) == merge([first_part(), second_part()], asked=2)
    assert one.asked == two.asked == [("o:o", f"/admin/v1/why/{ID}")]
    assert run("why", ID) == (0, (Path(__file__).parent / "why_golden.txt").read_text())


def test_a_tenants_key_alone_is_enough(controllers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    only = controllers(200, second_part())
    monkeypatch.setenv("FALLOW_URL", only.url)
    monkeypatch.setenv("FALLOW_AUTH", "t:t")
    code, output = run("why", ID)
    assert (code, "answered: success" in output) == (0, True)
    assert only.asked == [("t:t", f"/api/v1/namespaces/_/activations/{ID}/why")]


def test_a_controller_that_is_away_is_named(tmp_path: Path, controllers: Any) -> None:
    one = controllers(200, second_part())
    gone = controllers(200, {})
    gone.close()
    cluster(tmp_path, gone.url, one.url)
    code, output = run("why", ID)
    assert (code, f"The controller at {gone.url} did not tell its part" in " ".join(output.split())) == (0, True)


def test_an_id_that_nobody_knows_and_one_that_is_none(tmp_path: Path, controllers: Any) -> None:
    one = controllers(404, {"error": "The requested resource does not exist.", "code": "x"})
    cluster(tmp_path, one.url)
    code, output = run("why", ID)
    assert code == 1
    assert f"nothing is known of activation {ID}" in output
    code, output = run("why", "xyz")
    assert code == 1
    assert "'xyz' is no activation id" in output
    assert len(one.asked) == 1, "a malformed id is not even sent"


def test_a_server_in_trouble_is_quoted(tmp_path: Path, controllers: Any) -> None:
    cluster(tmp_path, controllers(503, {"error": "The store is away.", "code": "x"}).url)
    code, output = run("why", ID)
    assert code == 1
    assert "The store is away. (HTTP 503, code x)" in output
