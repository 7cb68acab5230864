"""The warm parent of all sandboxed work: it has imported what a kernel needs, and forks.

It runs as a process of its own, without the course's exercises in its memory, and no student's code runs in it. For
each job it forks a keeper; that one enters the namespaces of a sandbox which bubblewrap has made, and forks the
worker there. The keeper ends, and takes with it what it can reach, once the grader closes its end of a pipe.
"""

import contextlib
import ctypes
import errno
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import struct
import sys

NAMESPACES = {  # in the order in which they can be entered: setns(2)
    "user": 0x10000000,
    "mnt": 0x00020000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "pid": 0x20000000,
}
WARM = (
    "ipykernel.ipkernel",
    "IPython.core.completer",
    "matplotlib_inline.backend_inline",
    "course_tools.grading.inside.worker",
)
NOT_HERE = "course_utils.exercises"
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SYSTEM_CALLS = {  # machine → its number for a filter, and those of system calls that could tell others of a file
    "x86_64": (
        0xC000003E,
        {"flock": 73, "fcntl": 72, "inotify_init": 253, "inotify_init1": 294, "fanotify_init": 300},
    ),
    "aarch64": (0xC00000B7, {"flock": 32, "fcntl": 25, "inotify_init1": 26, "fanotify_init": 262}),
}
SETTING = (6, 7, 37, 38)  # commands of fcntl: F_SETLK, F_SETLKW and those of open file descriptions
ASKING = (5, 36, 1024, 1025, 1026)  # F_GETLK, of open file descriptions too, F_SETLEASE, F_GETLEASE, F_NOTIFY
KEYCTL, JOIN_SESSION_KEYRING = {"x86_64": 250, "aarch64": 219}, 1  # system call by machine, its first argument
CAPABILITY_VERSION_3 = 0x20080522
libc = ctypes.CDLL(None, use_errno=True)


def checked(code: int) -> None:
    """Raise ``OSError`` for a system call that failed."""
    if code:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def warm() -> None:
    """Import what kernels and workers need; start no thread pool and no CUDA."""
    for name in WARM:
        importlib.import_module(name)
    package = importlib.import_module("course_utils")
    for module in pkgutil.walk_packages(package.__path__, "course_utils."):
        if not module.name.startswith(NOT_HERE):
            importlib.import_module(module.name)
    importlib.import_module("torch").set_num_threads(1)
    importlib.import_module("course_utils.data").load("digits")  # keeps the images, and imports scikit-learn
    importlib.import_module("nbformat").v4.new_notebook()  # compiles the format's schema
    gc.collect()
    gc.freeze()  # so that the collector writes into no shared page


def enter(namespaces: list[int]) -> None:
    """Enter the namespaces of open descriptors; processes forked from now on are inside, and can make no others."""
    for descriptor, (name, kind) in zip(namespaces, NAMESPACES.items(), strict=True):
        checked(libc.setns(descriptor, kind))
        os.close(descriptor)
        if name == "user":  # in namespaces of their own, processes would hide from the watch
            with (
                contextlib.suppress(OSError),
                open("/proc/sys/user/max_user_namespaces", "w", encoding="utf-8") as limit,
            ):
                limit.write("0")


def filter_of(machine: str) -> bytes:
    """Return the program (BPF) that lets locks of files succeed without an effect, and refuses to look at others'.

    The files that a sandbox sees are those of all: a lock that one takes, another could ask for, as a message.
    """
    architecture, numbers = SYSTEM_CALLS[machine]
    load, equal, at_least, end = 0x20, 0x15, 0x35, 0x06
    no_effect, refused, allowed = 0x00050000, 0x00050000 | errno.EPERM, 0x7FFF0000
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (end, 0, 0, refused), (load, 0, 0, 0)]
    program += [(at_least, 0, 1, 0x40000000), (end, 0, 0, refused)]  # another interface of the same system
    for name, number in numbers.items():
        if name != "fcntl":
            program += [(equal, 0, 1, number), (end, 0, 0, no_effect if name == "flock" else refused)]
    program += [(equal, 1, 0, numbers["fcntl"]), (end, 0, 0, allowed), (load, 0, 0, 24)]
    for command in (*SETTING, *ASKING):
        program += [(equal, 0, 1, command), (end, 0, 0, no_effect if command in SETTING else refused)]
    program += [(end, 0, 0, allowed)]
    return b"".join(struct.pack("HBBI", code, yes, no, value) for code, yes, no, value in program)


def close_channels() -> None:
    """Take from this process and all below it, for good, the locks and the watching of files that others see, too."""
    program = filter_of(os.uname().machine)
    text = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(text))
    checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(head, len(head)), 0, 0))


def drop_privileges() -> None:
    """Give up all capabilities in the sandbox, and the way to new ones; stay visible to the watch outside."""
    checked(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    checked(libc.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())))
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    close_channels()


def data_bytes(pid: int | str = "self") -> int:
    """Return the bytes of a process's data segment, as RLIMIT_DATA counts them."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))


def set_limits(limits: dict) -> None:
    """Limit memory above what this process has now, the size of a file, and core dumps (none)."""
    memory = data_bytes() + limits["memory"]
    for kind, value in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, limits["disk"])):
        resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def be_worker(job: dict, pipe: int, sandboxed: bool) -> None:
    """Run a job in this process; does not return."""
    from course_tools.grading.inside import worker

    try:
        checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        os.chdir(job["folder"])
        environment = {
            "HOME": job["folder"],
            "JUPYTER_PATH": f"{job['folder']}/jupyter",
            "JUPYTER_RUNTIME_DIR": f"{job['folder']}/runtime",
            "IPYTHONDIR": f"{job['folder']}/ipython",
            "MPLCONFIGDIR": f"{job['folder']}/matplotlib",
            "TMPDIR": job["folder"],
            "LANG": "C.UTF-8",
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            "JPY_SESSION_NAME": "grading",
        }
        os.environ.clear()
        os.environ.update(environment)
        set_limits(job["limits"])
        if sandboxed:
            drop_privileges()
        worker.work(job, pipe)
    finally:
        os._exit(1)


def descendants() -> list[int]:
    """Return the processes below this one, which has declared itself the parent of their orphans."""
    import psutil

    return [process.pid for process in psutil.Process().children(recursive=True)]


def end_all() -> None:
    """Kill everything below this process until nothing is left; daemons too, as it is their parent now."""
    while pids := descendants():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def keep(descriptors: list[int]) -> None:
    """Be the keeper of a job: start its worker, wait until the grader closes its pipe, end all; does not return."""
    file, pipe, control, *namespaces = descriptors
    try:
        with open(file, encoding="utf-8") as text:  # not in the zygote: what it reads, later jobs could find in memory
            job = json.load(text)
        os.setsid()
        libc.syscall(KEYCTL.get(os.uname().machine, -1), JOIN_SESSION_KEYRING, None)  # an empty one, or no such call
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
        if namespaces:
            enter(namespaces)
        worker = os.fork()
        if worker == 0:
            os.close(control)
            be_worker(job, pipe, bool(namespaces))
        os.close(pipe)
        select.select([control], [], [])
        if namespaces:  # the grader kills the first process of the sandbox, and the kernel all others with it
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
        else:
            end_all()
    finally:
        os._exit(0)


def main(connection: socket.socket) -> None:
    """Fork a keeper for each job that comes, until the grader goes away."""
    warm()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are waited for by nobody
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the grader's to handle
    connection.sendall(b"warm")
    os.dup2(1, 2)  # nobody reads errors from now on: a submission's go nowhere, as its output
    while True:
        message, descriptors, *_ = socket.recv_fds(connection, 1, 16)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            connection.close()
            keep(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(pid.to_bytes(8, "big"))


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
