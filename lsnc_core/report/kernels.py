"""The kernel behind a notebook: always of the interpreter that runs this, started anew or forked.

jupyter_client lets a provisioner start the kernel's process. The one here takes a process that was
forked ahead from one that had imported everything (`lsnc_core.report.forks`), and starts an
ordinary kernel where there is none.
"""

import json
import os
import signal
import sys
from pathlib import Path

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.provisioning import LocalProvisioner

from lsnc_core.show import FOR_REPORT

LAUNCHER = "ipykernel_launcher"
LONGEST_SOCKET = 100  # bytes of a socket's path; the system's limit is 104 on macOS, 108 on Linux


class WaitingKernel:
    """A forked process that waits for the command of a kernel; then used like subprocess.Popen.

    Attributes:
        pid: its id.
        returncode: as in `Popen`; None until its end has been seen.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, pipe: int):
        self.pid, self._pipe = pid, pipe
        self.returncode: int | None = None

    def start(self, arguments: list[str], environment: dict[str, str]) -> None:
        """Let it become the kernel of these arguments, in this process's working directory."""
        environment = environment | {"JPY_PARENT_PID": str(os.getpid())}
        command = {"arguments": arguments, "folder": os.getcwd(), "environment": environment}
        with open(self._pipe, "w", encoding="utf-8") as pipe:
            json.dump(command, pipe)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        """Wait for its end; the exit status."""
        return self._wait(0)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def become(pipe: int) -> None:
    """Turn this fork into the kernel whose command comes through the pipe; nothing comes if the
    notebook's process ends first.
    """
    os.setsid()  # as an ordinary kernel: Ctrl-C goes to the notebook's process alone
    with open(pipe, encoding="utf-8") as opened:
        text = opened.read()
    if not text:
        return
    from ipykernel import kernelapp

    command = json.loads(text)
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    # what was imported before the fork drew its seed then; `random` sees to itself
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()
    # a kernel also finds modules beside its notebook; IPython sees to it, but not under python -P
    names = [os.path.basename(path) for path in sys.path]
    sys.path.insert(names.index("site-packages") if "site-packages" in names else 0, "")
    # ipykernel reads this from the environment only when it is imported
    parent = f"--IPKernelApp.parent_handle={os.environ['JPY_PARENT_PID']}"
    sys.argv = [LAUNCHER, *command["arguments"], parent]
    kernelapp.launch_new_instance()


class Provisioner(LocalProvisioner):
    """Starts a kernel in the waiting process, an ordinary one without it or after it was used.

    Attributes:
        waiting: the process, or None.
        ended: the exit status of a kernel that has ended, negative for a signal.
    """

    waiting: WaitingKernel | None = None
    ended: int | None = None

    async def poll(self) -> int | None:
        status = await super().poll()
        if self.process is not None and status is not None:
            self.ended = status
        return status

    async def launch_kernel(self, cmd: list[str], **kwargs):
        kwargs["env"] = kwargs["env"] | {FOR_REPORT: "1"}
        if self.waiting is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.process, self.waiting = self.waiting, None
        self.pid = self.pgid = self.process.pid
        self.cwd = os.getcwd()
        self.process.start(cmd[cmd.index(LAUNCHER) + 1 :], kwargs["env"])
        return self.connection_info


class OwnSpecification(KernelSpecManager):
    """Knows one kernel: "python3", which is this interpreter, whatever Jupyter's search path and
    settings call so.
    """

    def __init__(self, **settings):
        # without folders to search, jupyter_client makes the specification from sys.executable
        own = {"kernel_dirs": [], "allowed_kernelspecs": set(), "ensure_native_kernel": True}
        super().__init__(**settings | own)


def manager_class(waiting: WaitingKernel | None, folder: Path) -> type[AsyncKernelManager]:
    """The class of managers for a notebook's kernel, which is of this interpreter.

    It is reached through sockets in a folder. A port could be taken by another process between its
    choice and the kernel's start, as happens when several notebooks start at once.

    Args:
        waiting: a process forked ahead for it, or None.
        folder: where the kernel has its sockets, and no other one.
    """

    class Manager(AsyncKernelManager):
        def __init__(self, **settings):
            super().__init__(**settings, kernel_spec_manager=OwnSpecification())
            self.provisioner = Provisioner(kernel_spec=self.kernel_spec, parent=self)
            self.provisioner.waiting = waiting
            sockets = folder / "kernel"  # and each one's number
            if len(os.fsencode(sockets)) < LONGEST_SOCKET:
                self.transport, self.ip = "ipc", str(sockets)

    return Manager
