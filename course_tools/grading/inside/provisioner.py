"""Kernels forked from a process that has everything imported, chosen by the kernel's name as `KERNEL` for papermill.

The worker forks a *forker* before it has threads; this provisioner asks the forker, over a socket, for kernels.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import random
import signal
import socket
from pathlib import Path
from typing import Any

from ipykernel.iostream import OutStream
from jupyter_client.provisioning import KernelProvisionerBase

KERNEL = "course-forked"
PR_SET_DUMPABLE = 4
MOST_PRINTED = 100_000  # characters that a kernel passes on; what comes after is dropped
_forker: list[socket.socket] = []  # this process's connection to its forker


class ShortStream(OutStream):
    """A kernel's output stream that drops what is printed beyond `MOST_PRINTED` characters."""

    passed = 0

    def write(self, string: str) -> int | None:
        room, self.passed = MOST_PRINTED - self.passed, self.passed + len(string)
        return super().write(string[:room]) if room > 0 else len(string)


def let_in(others: bool) -> None:
    """Let other processes of the sandbox, which have the same user, into this one's memory and open files, or not."""
    if ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, int(others), 0, 0, 0):
        raise OSError("a process can't hide from what it runs")


def be_kernel(connection_file: str, seed: int) -> None:
    """Turn this process, just forked, into a Jupyter kernel; does not return."""
    import numpy as np
    import torch
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    options = {
        "log_level": "40",
        "capture_fd_output": "False",
        "outstream_class": f"{__name__}.ShortStream",
    }
    argv = ["-f", connection_file, "--HistoryManager.enabled=False"]
    IPKernelApp.launch_instance(argv=argv + [f"--IPKernelApp.{name}={value}" for name, value in options.items()])
    os._exit(0)


def serve(connection: socket.socket, seed: int) -> None:
    """Fork kernels as the provisioner at the other end asks for them, until it goes away; does not return."""
    let_in(False)  # in a kernel, functions of the course are sealed; in the memory of this process they are not
    while request := connection.recv(1 << 16):
        message = json.loads(request)
        if message["do"] == "fork":
            pid = os.fork()
            if pid == 0:
                connection.close()
                try:
                    let_in(True)  # the watch outside looks in
                    be_kernel(message["file"], seed)
                finally:
                    os._exit(1)
            answer: dict[str, Any] = {"pid": pid}
        else:
            try:
                done, status = os.waitpid(message["pid"], os.WNOHANG)
                answer = {"code": os.waitstatus_to_exitcode(status) if done else None}
            except ChildProcessError:
                answer = {"code": 0}
        connection.send(json.dumps(answer).encode())
    os._exit(0)


def start_forker(seed: int, private: int) -> None:
    """Fork the forker from this process, which must have no threads yet; kernels don't get the descriptor `private`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        os.close(private)
        serve(theirs, seed)
    theirs.close()
    _forker[:] = [ours]


def ask(**message) -> dict:
    """Return the forker's answer to a message."""
    _forker[0].send(json.dumps(message).encode())
    return json.loads(_forker[0].recv(1 << 16))


def write_kernelspec(folder: Path) -> None:
    """Write the kernel's description where a JUPYTER_PATH of `folder` finds it."""
    spec = folder / "kernels" / KERNEL
    spec.mkdir(parents=True)
    metadata = {"kernel_provisioner": {"provisioner_name": KERNEL}}
    content = {"argv": ["forked"], "display_name": "Forked", "language": "python", "metadata": metadata}
    (spec / "kernel.json").write_text(json.dumps(content), "utf-8")


class ForkedProvisioner(KernelProvisionerBase):
    """A kernel forked by this process's forker."""

    pid: int | None = None
    code: int | None = None

    @property
    def has_process(self) -> bool:
        return self.pid is not None

    async def poll(self) -> int | None:
        if self.pid is None:
            return 0
        if self.code is None:
            self.code = ask(do="poll", pid=self.pid)["code"]
        return self.code

    async def wait(self) -> int | None:
        while await self.poll() is None:
            await asyncio.sleep(0.01)
        self.pid = None
        return self.code

    async def send_signal(self, signum: int) -> None:
        if self.pid is not None and self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signum)

    async def kill(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        pass

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        manager = self.parent
        manager.write_connection_file()
        self.connection_info = manager.get_connection_info()
        kwargs.pop("extra_arguments", None)
        return await super().pre_launch(cmd=["forked"], **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict:
        self.code = None
        self.pid = ask(do="fork", file=self.parent.connection_file)["pid"]
        return self.connection_info
