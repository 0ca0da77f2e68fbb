"""The real bridge, as far as it goes without an account: the simulator's catalogue is Cursor's here, the
rest of Cursor is not there."""

import os
import pwd
import re
from pathlib import Path

import pytest
from conftest import MODEL, command, descendants, gateway, until
from test_service import events

from cursor2api.simulator import serve
from cursor2api.upstream.sdk.bridge import Bridge, bridge_user, installed
from cursor2api.upstream.http import Limits

REAL = {"UPSTREAM": "auto", "SDK_BRIDGE": "", "SDK_USER": ""}


def bridges(gate):
    return [id for id in descendants(gate.process.pid) if "cursor-sdk-bridge" in command(id)]


def test_it_starts_answers_and_goes_away():
    user = bridge_user("", (installed(),))
    with serve() as simulator:
        ended = []
        bridge = Bridge((installed(),), user, simulator.url, Limits(10, 60, 60, 0.1), 4, ended.append)
        folder = Path(bridge.workspace).parent
        assert folder.stat().st_mode & 0o077 in (0, 0o011) and not list(Path(bridge.workspace).iterdir())

        def call(method, message=None):
            response = bridge.http.call("POST", f"/sdk.v1.Sdk{method}", json=message or {})
            return response.status_code, response.text

        assert call("BridgeControlService/Ping") == (200, '{"message":"pong"}')
        assert '"protocolVersion":"sdk.v1"' in call("BridgeControlService/GetVersion")[1]
        status, text = call("CursorService/ListModels", {"options": {"apiKey": "key"}})
        assert status == 200 and MODEL in text
        status, text = call("CursorService/ListModels", {"options": {"apiKey": "bad-key"}})
        assert status == 401 and '"code":"unauthenticated"' in text
        bridge.end()
        assert bridge.gone.is_set() and ended == [bridge] and not folder.exists()


def test_the_service_takes_it_when_it_is_there_and_shuts_it_in():
    with gateway(upstream="sdk", environ=REAL | {"MODELS": MODEL, "CURSOR_API_KEY": "bad-key"}) as gate:
        response = gate.say()
        assert response.headers["x-cursor2api-upstream"] == "sdk"
        assert response.status_code == 502 and response.json()["error"]["code"] == "unauthorized"
        assert "Invalid User API Key" in response.json()["error"]["message"]
        ids = bridges(gate)
        assert len(ids) == 3  # the keeper, the package's shell script, Node
        expected = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        assert Path(f"/proc/{ids[-1]}").owner() == expected
        environ = Path(f"/proc/{ids[-1]}/environ").read_bytes().split(b"\0")
        names = {variable.split(b"=")[0] for variable in environ if variable}
        assert names - {b"PWD", b"OLDPWD", b"_"} == {b"HOME", b"TMPDIR", b"PATH", b"CURSOR_BACKEND_URL"}
        folder = Path(re.search(r"--workspace (\S+)/work", command(ids[-1]))[1])
        assert folder.exists()
    assert until(lambda: not any(map(command, ids)) and not folder.exists())


@pytest.mark.parametrize("leaves", [False, True], ids=["waits", "leaves"])
def test_a_run_that_finds_no_cursor_fails_with_its_words_or_is_cancelled(leaves):
    """The bridge tries four times, 16 s in all; nothing of Cursor's answers meanwhile."""
    with gateway(upstream="sdk", environ=REAL | {"HEARTBEAT_S": "0.5", "FIRST_BYTE_S": "1"}) as gate:
        response = gate.say(stream=True)
        if leaves:
            assert response.raw.read(100)
            response.close()
            assert until(lambda: gate.lines(route="chat_completions", closed_by="caller"))
        else:
            data = events(response)
            assert sum('"delta":{}' in each for each in data) > 5, "heartbeats of our own"
            assert "API key exchange endpoint not found" in data[-1] and "upstream_error" in data[-1]
        gate.process.terminate()
        gate.process.wait(60)
        assert "left at" not in gate.log(), "the run was cancelled, the agent closed and deleted"


def test_the_service_lists_cursors_models_without_a_bridge():
    with gateway(upstream="sdk", environ=REAL) as gate:
        models = gate.get("/v1/models").json()["data"]
        assert MODEL in [model["id"] for model in models] and not bridges(gate)
        assert gate.get("/v1/models/nothing").status_code == 404
