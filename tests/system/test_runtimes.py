"""Functions of every runtime, deployed and called as a user does."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from support.cluster import Up, cluster_up

FALLOW = str(Path(sys.executable).parent / "fallow")


async def fallow(up: Up, *args: str) -> tuple[int, Any]:
    """Exit code and what `--json` printed, or the text of the error."""
    process = await asyncio.create_subprocess_exec(
        FALLOW,
        *args,
        "--json",
        env={**os.environ, "FALLOW_STATE_DIR": str(up.state_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out) if out else err.decode()


async def test_actions_of_every_kind_and_of_one_that_is_not_offered(short_dir: Path) -> None:
    source = short_dir / "greet.js"
    source.write_text(
        "function main(args) {\n  console.log('called with', args.name)\n"
        "  if (args.name === 'nobody') throw new Error('who?')\n"
        "  if (args.name === 'everybody') return ['Ada', 'Grace']\n"
        "  if (args.name === 'robot') return Promise.reject({ code: 7 })\n"
        "  return { greeting: `Hello, ${args.name}!` }\n}\n"
    )
    bundle = short_dir / "bundle.zip"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("package.json", '{"main": "app.js"}')
        archive.writestr("app.js", "exports.main = async ({ n }) => [require('twice')(n)]")
        archive.writestr("node_modules/twice/index.js", "module.exports = (n) => 2 * n")
    thumb = short_dir / "thumb.py"
    thumb.write_text(
        "import numpy\nfrom PIL import Image\n\ndef main(args):\n"
        "    image = Image.fromarray(numpy.zeros((64, 64), 'uint8'))\n"
        "    image.thumbnail((args['to'], args['to']))\n    return {'size': list(image.size)}\n"
    )
    async with cluster_up(short_dir, "--vms", "1") as up:
        code, entity = await fallow(up, "action", "create", "greet", str(source))
        assert (code, entity["exec"]["kind"].partition(":")[0]) == (0, "nodejs")
        kind = entity["exec"]["kind"]
        async with up.session.get(up.url) as r:
            runtimes = (await r.json())["runtimes"]
        assert [(each["kind"], each["default"]) for each in runtimes["nodejs"]] == [(kind, True)]
        answers = {}
        for name in ("Ada", "robot", "nobody", "Ada"):
            status, body = await up.invoke("greet", {"name": name})
            answers[name] = (status, body["response"]["status"], body["response"]["result"])
            record = await up.record(body["activationId"])
            assert record["logs"][0][31:] == f"stdout: called with {name}"
        assert answers == {
            "Ada": (200, "success", {"greeting": "Hello, Ada!"}),
            "robot": (502, "application error", {"error": {"code": 7}}),
            "nobody": (502, "action developer error", {"error": "An error has occurred: Error: who?"}),
        }
        assert await up.invoke("greet", {"name": "everybody"}) == (200, ["Ada", "Grace"]), "an array comes bare"
        code, entity = await fallow(up, "action", "create", "bundle", str(bundle), "--kind", "nodejs:default")
        assert (code, entity["exec"]["kind"], entity["exec"]["binary"]) == (0, kind, True)
        assert await fallow(up, "action", "invoke", "bundle", "-r", "-p", "n", "21") == (0, [42])
        await up.deploy("where", "def main(args):\n    return {'groups': open('/proc/self/cgroup').read()}")
        source.write_text("exports.main = () => ({ groups: require('fs').readFileSync('/proc/self/cgroup', 'utf8') })")
        assert (await fallow(up, "action", "update", "greet", str(source)))[0] == 0
        groups = [(await fallow(up, "action", "invoke", name, "-r"))[1] for name in ("where", "greet")]
        assert groups[0] == groups[1], "the VM's, whatever the runtime"
        code, _ = await fallow(up, "action", "create", "thumb", str(thumb), "--kind", "python:3-libs")
        assert code == 0
        assert await fallow(up, "action", "invoke", "thumb", "-r", "-p", "to", "16") == (0, {"size": [16, 16]})
        code, text = await fallow(up, "action", "create", "other", str(source), "--kind", "nodejs:1")
        assert code == 1
        assert "'nodejs:1' is not supported" in text
        assert f"'{kind}', 'python:3'" in text
