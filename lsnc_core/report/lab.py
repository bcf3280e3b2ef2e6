"""JupyterLab on `notebooks/start_here.ipynb`, for this computer alone.

Its only kernel is this interpreter, and it leaves the settings of your own Jupyter as they are.
"""

import json
import os
import secrets
import signal
import tempfile
from pathlib import Path

from lsnc_core import files
from lsnc_core.errors import UsageError, needs_companion

FIRST = files.PROJECT / "notebooks" / "start_here.ipynb"
ADDRESS = "127.0.0.1"
# what JupyterLab would ask or announce at its first start
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}


def start() -> None:
    """Serve until Ctrl-C or a request to end; its kernels end with it.

    Prints the address with its token, and opens it in the browser that Python's `webbrowser` finds.

    Raises:
        UsageError: without a checkout or the extra `companion`, or if the outputs cannot be
            written.
    """
    if not files.is_checkout():
        raise UsageError(
            "the notebooks do not come with an installed package: clone the project and start "
            "its ./run_all.sh --lab."
        )
    needs_companion("JupyterLab with the notebooks", "jupyterlab", "ipykernel", "ipywidgets")
    with tempfile.TemporaryDirectory(prefix="lsnc-jupyter-") as runtime:
        _use_own_folders(files.outputs_root() / "cache" / "jupyter", Path(runtime))
        server, address = _listen()
        for number in (signal.SIGINT, signal.SIGTERM):
            # Jupyter would ask back on a terminal, and leave kernels behind without one
            signal.signal(number, lambda *_: server.stop(from_signal=True))
        line = f"JupyterLab: {address}\nCtrl-C ends it with all its kernels."
        # it listens once its loop runs, and then carries out what waits, in order
        server.io_loop.add_callback(print, line, flush=True)
        server.start()


def _use_own_folders(folder: Path, runtime: Path) -> None:
    """Let Jupyter and IPython keep settings, trust and history in a folder, and what lives as long
    as the server in another. Raises: UsageError.
    """
    os.environ |= {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    defaults = folder / "config" / "labconfig" / "default_setting_overrides.json"
    files.write_whole(defaults, lambda path: path.write_text(json.dumps(SETTINGS)))


def _listen():
    """A server that listens, and the address of the first notebook with its token."""
    # reads its folders from the environment when it is imported
    from jupyterlab.labapp import LabApp

    token = secrets.token_hex(24)
    # as arguments, these win over every file of settings on the machine
    settings = {
        "ServerApp.ip": ADDRESS,
        "ServerApp.allow_remote_access": False,
        "ServerApp.allow_root": True,  # as in containers; nobody without the token gets in
        "ServerApp.kernel_spec_manager_class": "lsnc_core.report.kernels.OwnSpecification",
        "ServerApp.root_dir": files.PROJECT,
        "Application.log_level": "WARN",
        "LanguageServerManager.autodetect": False,  # it asks npm, which writes into the home
        "IdentityProvider.token": token,
        "LabApp.news_url": "",
    }
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    server = LabApp.initialize_server([*arguments, str(FIRST)])
    place = FIRST.relative_to(files.PROJECT).as_posix()
    return server, f"http://{ADDRESS}:{server.port}/lab/tree/{place}?token={token}"
