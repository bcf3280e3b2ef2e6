"""`run_all.sh --lab`: JupyterLab for this computer alone, on this interpreter, with settings of its
own; started for real.
"""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid

import psutil
import pytest
from conftest import ROOT, report_environment
from helpers import left_of
from jupyter_client.kernelspec import KernelSpecManager
from test_browser import ARGUMENTS, CHROMIUM
from traitlets.config import Config

from lsnc_core import cli
from lsnc_core.report import kernels, lab
from lsnc_core.show import FIGURE_TYPE

START = json.loads(lab.FIRST.read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in START["cells"] if cell["cell_type"] == "code"]


# the kernel


def test_the_only_kernel_is_this_interpreter_whatever_the_settings_say(tmp_path):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    other = {"argv": ["other"], "display_name": "Other", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(other))
    config = Config()
    config.KernelSpecManager.kernel_dirs = [str(tmp_path / "kernels")]
    config.KernelSpecManager.ensure_native_kernel = False
    config.KernelSpecManager.allowed_kernelspecs = {"another"}
    assert KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")]).get_kernel_spec("python3")
    made = kernels.OwnSpecification(config=config)
    assert list(made.find_kernel_specs()) == ["python3"]
    assert made.get_kernel_spec("python3").argv[0] == sys.executable


# what does not go with it


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["--record", "x"], "--record"),
        (["--only", "guo_1_dynamics"], "--only"),
        (["--list"], "--list"),
        (["--figure", "guo-f2"], "--figure"),
        (["-p", "delta=0.1"], "-p"),
        (["--profile", "smoke", "--force"], "--profile, --force"),
        (["--device", "cpu"], "--device"),
    ],
)
def test_lab_goes_with_folders_and_switches_alone(arguments, named, capsys):
    assert cli.main(["--lab", *arguments]) == cli.MISUSED
    printed = capsys.readouterr()
    assert re.fullmatch(rf"run_all.sh: --lab [^\n]*, got {named}: [^\n]*\.\n", printed.err)
    assert printed.out == ""


def test_lab_without_a_data_folder_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LSNC_DATA", "")
    assert cli.main(["--lab", "--data", str(tmp_path / "nowhere")]) == cli.MISUSED
    assert "does not exist" in capsys.readouterr().err


# a real start


class Server:
    """JupyterLab as a user starts it.

    Attributes:
        home: the user's home.
        outputs: the outputs folder.
        process: of the command.
        lines: what it prints, as it comes.
        address, token: from the line that it prints.
    """

    def __init__(self, folder):
        self.home, self.outputs = folder / "home", folder / "outputs"
        self.home.mkdir()
        settings = folder / "machine"
        (settings / "kernels" / "python3").mkdir(parents=True)
        other = {"argv": ["/nowhere/python"], "display_name": "Other", "language": "python"}
        (settings / "kernels" / "python3" / "kernel.json").write_text(json.dumps(other))
        careless = {"ServerApp": {"ip": "0.0.0.0"}, "IdentityProvider": {"token": ""}}
        (settings / "jupyter_server_config.json").write_text(json.dumps(careless))
        own = {"HOME": self.home, "JUPYTER_CONFIG_PATH": settings, "JUPYTER_PATH": settings}
        own |= {"BROWSER": "true", "PYTHONPATH": ROOT}  # `true` opens nothing
        command = [sys.executable, "-P", "-m", "lsnc_core.cli", "--lab"]
        self.process = subprocess.Popen(
            [*command, "--outputs", self.outputs],
            cwd=folder,
            env=report_environment(**{name: str(value) for name, value in own.items()}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def wait(self):
        """Wait for the line with the address."""
        found, printed = None, []
        while not found:
            printed.append(self.lines.get(timeout=300))
            assert printed[-1] is not None, printed
            found = re.match(r"JupyterLab: (http://[\d.:]+)(/\S+)\?token=(\w+)", printed[-1])
        self.address, self.place, self.token = found.groups()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def get(self, path, token="", method="GET"):
        """Status, final address and text of a request."""
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(self.address + path, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.url, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.url, ""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("lab"))
    try:
        started.wait()
        yield started
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(started.process.pid).children(recursive=True):
                process.kill()
        started.process.kill()
        started.process.wait()
        started.reader.join()
        started.process.stdout.close()


def test_only_who_has_the_token_gets_in(server):
    assert server.place == "/lab/tree/notebooks/start_here.ipynb"
    assert len(server.token) >= 32
    status, address, _ = server.get(f"{server.place}?token={server.token}")
    assert status == 200 and "/lab/tree/" in address
    assert "/login" in server.get(server.place)[1]
    for path in ("/api/contents", "/api/kernelspecs"):
        assert server.get(path)[0] == 403 and server.get(path, "0" * 48)[0] == 403
        assert server.get(path, server.token)[0] == 200


def test_it_listens_on_this_computer_alone(server):
    listening = psutil.Process(server.process.pid).net_connections("tcp")
    port = int(server.address.rsplit(":", 1)[1])
    listening = [one.laddr for one in listening if one.status == psutil.CONN_LISTEN]
    assert {one.ip for one in listening} == {"127.0.0.1"}
    assert port in {one.port for one in listening}


def test_it_asks_and_announces_nothing_at_its_first_start(server):
    name = "@jupyterlab/apputils-extension:notification"
    settings = json.loads(server.get(f"/lab/api/settings/{name}", server.token)[2])
    defaults = {key: one["default"] for key, one in settings["schema"]["properties"].items()}
    assert defaults["fetchNews"] == "false" and defaults["checkForUpdates"] is False


class Kernel:
    """A kernel of the server, through its web socket as in a browser."""

    def __init__(self, server):
        import websocket

        made = json.loads(server.get("/api/kernels", server.token, "POST")[2])
        address = server.address.replace("http", "ws")
        self.socket = websocket.create_connection(
            f"{address}/api/kernels/{made['id']}/channels",
            header=[f"Authorization: token {server.token}"],
            timeout=240,
        )

    def run(self, source):
        """Run a cell: the status of the reply, and what it shows, by type."""
        name = uuid.uuid4().hex
        header = {"msg_id": name, "msg_type": "execute_request", "username": "", "session": name}
        content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.socket.send(json.dumps(message | {"channel": "shell", "buffers": []}))
        status, idle, shown = None, False, []
        while status is None or not idle:  # they come through two channels, in any order
            answer = json.loads(self.socket.recv())
            if answer["parent_header"].get("msg_id") != name:
                continue
            if answer["msg_type"] == "execute_reply":
                status = answer["content"]["status"]
            elif answer["msg_type"] in ("execute_result", "display_data"):
                shown.append(answer["content"]["data"])
            idle = idle or answer["content"].get("execution_state") == "idle"
        return status, shown


@pytest.fixture(scope="module")
def kernel(server):
    started = Kernel(server)
    yield started
    started.socket.close()


def test_the_kernel_is_the_interpreter_of_the_command(server, kernel):
    listed = json.loads(server.get("/api/kernelspecs", server.token)[2])
    assert (listed["default"], list(listed["kernelspecs"])) == ("python3", ["python3"])
    values = "[sys.executable, lsnc_core.__file__, os.environ['LSNC_OUTPUTS']]"
    status, [shown] = kernel.run(f"import os, sys, lsnc_core; {values}")
    executable, package, outputs = json.loads(shown["text/plain"].replace("'", '"'))
    assert status == "ok" and executable == sys.executable
    assert package == str(ROOT / "lsnc_core" / "__init__.py") and outputs == str(server.outputs)


def test_start_here_runs_and_keeps_each_picture_once(kernel):
    bundles = []
    for source in CELLS:
        status, shown = kernel.run(source)
        assert status == "ok", source
        bundles += shown
    assert len(bundles) == 4  # the map, two sketches, strengths
    assert sum("data:image/svg+xml" in one["text/html"] for one in bundles) == 2
    assert not any(FIGURE_TYPE in one for one in bundles)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")
def test_a_browser_shows_start_here_without_a_dialog_or_a_toast(server):
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        page.goto(f"{server.address}{server.place}?token={server.token}")
        expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=180_000)
        expect(page.locator(".jp-Notebook h1").first).to_contain_text("Start here")
        assert page.locator(".jp-Dialog").count() == 0
        assert page.locator(".Toastify__toast").count() == 0
        browser.close()


def test_ctrl_c_ends_it_with_its_kernels_and_leaves_the_home_as_it_was(server, kernel):
    _, [shown] = kernel.run("import os; os.getpid()")
    running = psutil.Process(int(shown["text/plain"]))
    assert running.parent().pid == server.process.pid
    os.kill(server.process.pid, signal.SIGINT)
    assert server.process.wait(60) == cli.OK
    assert not left_of([running])
    with pytest.raises(urllib.error.URLError):
        server.get("/api")
    # matplotlib's list of fonts lies in a cache of its own
    assert {path.name for path in server.home.iterdir()} <= {".cache", ".config"}
    printed = []
    while (line := server.lines.get(timeout=10)) is not None:
        printed.append(line)
    # of a message on its way to this client while the server closed, tornado tells by itself
    closed = r"Task exception was never retrieved.*?WebSocketClosedError\n"
    assert "Traceback" not in re.sub(closed, "", "".join(printed), flags=re.DOTALL)
    assert (server.outputs / "cache" / "jupyter").is_dir()
