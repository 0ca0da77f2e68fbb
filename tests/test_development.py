"""The key 0000 of the development start: good for programs of its user on this machine, and for nobody else."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import requests
from conftest import ROOT, banner_of, free_port, gateway, until

from cursor2api.dialects.served import DEFAULT
from cursor2api.errors import KINDS

# What is usually written below proxy_pass, and that by itself.
PROXIED = {
    "alone": "", "x-real-ip": "proxy_set_header X-Real-IP $remote_addr;",
    "x-forwarded-for": "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    "x-forwarded-host": "proxy_set_header X-Forwarded-Host $host;",
    "forwarded": "proxy_set_header Forwarded for=$remote_addr;", "via": "proxy_set_header Via nginx;",
    "host": "proxy_set_header Host $host;", "host-and-port": "proxy_set_header Host $http_host;",
    "localhost": "proxy_set_header Host localhost;", "no-origin": 'proxy_set_header Origin "";',
    "kept-alive": 'proxy_http_version 1.1; proxy_set_header Connection "";'}
ASKED = {"Host": "public.example", "Authorization": "Bearer 0000"}
AS_ANOTHER = """
import encodings.idna, os, sys, urllib.error, urllib.request  # now, as others may not read these files
os.setuid(int(sys.argv[2]))
try:
    print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"api-key": "0000"})).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program as another user")


@pytest.fixture(scope="module")
def started():
    with gateway(development=True) as one:
        yield one


@pytest.fixture(scope="module")
def unset():
    """The service as it is deployed, but for API_KEY."""
    with gateway(environ={"API_KEY": ""}) as one:
        yield one


@contextmanager
def nginx(folder, places):
    """Debian's nginx with these blocks `location`, as its address."""
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
    port = free_port()
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in (
        "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; {'user nobody nogroup;' * (os.geteuid() == 0)} events {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port};\n{places} }} }}")
    process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-e", "stderr"], stderr=subprocess.DEVNULL)

    def up():
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0
    try:
        assert until(up)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def refused(response):
    return response.status_code == 403 and response.json()["error"]["code"] == "default_key"


@pytest.mark.parametrize("which", [pytest.param("started", marks=root_only), "unset"])
def test_a_proxy_of_another_user_gets_nothing_whatever_it_says(which, request, tmp_path):
    gate = request.getfixturevalue(which)
    places = (f"location /{name}/ {{ proxy_pass {gate.url}/; {added} }}" for name, added in PROXIED.items())
    with nginx(tmp_path, "\n".join(places)) as url:
        for name in PROXIED:
            for headers in ASKED, {**ASKED, "Host": urlsplit(gate.url).netloc}:
                assert requests.get(f"{url}/{name}/health", headers=headers, timeout=10).ok
                for method, path in (("GET", "models"), ("GET", "metrics"), ("POST", "chat/completions")):
                    path = path if path == "metrics" else f"v1/{path}"
                    assert refused(requests.request(method, f"{url}/{name}/{path}", headers=headers, timeout=10))
    assert not gate.simulator.state["agents"]


@pytest.mark.parametrize("key", [None, "0000", "wrong", "a-long-secret-key"])
def test_without_api_key_no_key_is_good(unset, key):
    for path in ("/v1/models", "/models", "/metrics", "/v1/models/x"):
        response = unset.get(path, key=key)
        assert refused(response) and response.json() in [DEFAULT.error(kind.example(), "").body for kind in KINDS]
    assert all(unset.get(path, key=key).ok for path in ("/health", "/ready", "/", "/reference.json"))
    assert until(lambda: "API_KEY is not set" in unset.log())


def test_0000_is_an_ordinary_key_when_the_operator_sets_it():
    with gateway(environ={"API_KEY": "0000"}) as gate:
        response = gate.request("GET", "/v1/models", headers={
            "X-Forwarded-For": "203.0.113.9", "Host": "public.example", "Origin": "https://public.example"})
        assert response.ok and "which everybody knows" in gate.log()
        assert gate.get("/reference.json").json()["keys"] == "set"


@root_only
@pytest.mark.parametrize("user, status", [("root", "200"), ("nobody", "403")])
def test_the_kernel_says_whose_a_program_is(started, user, status):
    done = subprocess.run([sys.executable, "-c", AS_ANOTHER, started.url + "/v1/models", str(
        pwd.getpwnam(user).pw_uid)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == status, done.stderr


def test_a_connection_that_its_program_has_closed_is_nobodys(started):
    """Linux says of it that it is root's."""
    [worker] = started.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", urlsplit(started.url).port)) as caller:
            caller.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\napi-key: 0000\r\n"
                           b"x-request-id: gone\r\n\r\n")
    finally:
        os.kill(worker, signal.SIGCONT)
    assert until(lambda: started.lines(id="gone"))[0]["status"] == "403"


def test_a_program_of_the_user_is_served_over_ipv6_too(started):
    url = urlsplit(started.url)
    with socket.socket(socket.AF_INET6) as caller:
        caller.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        caller.connect(("::ffff:127.0.0.1", url.port))
        caller.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\napi-key: 0000\r\n\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("headers, status", [
    ({}, 200), ({"Origin": "SELF"}, 200), ({"Host": "localhost"}, 200), ({"Host": "localhost:9000"}, 200),
    ({"Host": "localhost:9000", "Origin": "http://localhost:9000"}, 200),
    ({"X-Forwarded-For": "203.0.113.9"}, 200),  # a header proves nothing either way
    ({"Origin": "http://localhost:3000"}, 403), ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403), ({"Origin": ""}, 403), ({"Origin": "http://127.0.0.1"}, 403),
    ({"Origin": "vscode-webview://abc"}, 403), ({"Host": "evil.example"}, 403),
    ({"Host": "localhost.evil.example"}, 403), ({"Host": "127.0.0.1.evil.example"}, 403),
    ({"Host": "evil.example", "Origin": "http://evil.example"}, 403)], ids=str)
def test_no_page_of_another_site_is_served(started, headers, status):
    if headers.get("Origin") == "SELF":
        headers = {"Origin": started.url}
    assert started.request("GET", "/v1/models", headers=headers).status_code == status


def test_the_development_start_listens_on_the_loopback_address_alone():
    """Whatever gunicorn is told elsewhere: the command line counts."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={"PATH": os.environ["PATH"], "PORT": str(port), "GUNICORN_CMD_ARGS": f"--bind 0.0.0.0:{port}"})
    try:
        assert any(f"127.0.0.1:{port}" in line and "0.0.0.0" not in line for line in process.stderr
                   if "Listening" in line)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("key", [None, "a-long-secret-key"])
def test_on_an_address_that_others_reach_no_key_is_good_until_one_is_set(key):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={"PATH": os.environ["PATH"], "PORT": str(port), "HOST": "127.0.0.2", "API_KEY": key or ""})
    try:
        banner = banner_of(process)
        assert ("none is good, because HOST is 127.0.0.2: set API_KEY" in banner) == (key is None)
        assert "0000" not in banner and (key is None or key not in banner)
        answer = requests.get(f"http://127.0.0.2:{port}/v1/models", headers={"api-key": key or "0000"}, timeout=60)
        assert answer.ok if key else refused(answer)
    finally:
        process.terminate()
        process.communicate(timeout=60)
