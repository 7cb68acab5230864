"""That the Stop button stops: an interrupted training ends its cell with an error, and with it Run All."""

import queue
import time

from jupyter_client.manager import start_new_kernel

TRAINING = """
import sys, torch
from course_utils.training import fit

net = torch.nn.Linear(3, 1)
x = torch.randn(100, 3)

def loss(index):
    global taken
    taken += 1
    if taken == 5:
        print("five steps are done", flush=True)
    return net(x[index]).square().mean()

taken = 0
"""
STOPPED = "history = fit(loss, net, len(x), seconds=120, generator=torch.Generator(), label='VAE')"
AFTER = """
seen = sys.last_value.history
print(len(seen.losses) == taken or len(seen.losses) == taken - 1, 'history' in globals())
"""


def reply_to(client, asked: str) -> dict:
    """Return the reply to a request; there may be others before it."""
    while True:
        reply = client.get_shell_msg(timeout=10)
        if reply["parent_header"].get("msg_id") == asked:
            return reply["content"]


def run(client, code: str, at_print=None) -> tuple[dict, str, list[str]]:
    """Run a cell; return its reply, what it printed and the lines of its error. ``at_print`` is called at a print."""
    asked, printed, trace = client.execute(code), "", []
    end = time.monotonic() + 100
    while time.monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != asked:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            printed += content["text"]
            if at_print:
                at_print()
        elif message["msg_type"] == "error":
            trace = content["traceback"]
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            return reply_to(client, asked), printed, trace
    raise TimeoutError(code)


def test_stop_ends_the_cell_keeps_the_history_and_says_how_to_go_on():
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        assert run(client, TRAINING)[0]["status"] == "ok"
        reply, printed, trace = run(client, STOPPED, at_print=manager.interrupt_kernel)
        assert printed.startswith("five steps") and reply["status"] == "error" and reply["ename"] == "Interrupted"
        text = "\n".join(trace)
        assert "VAE: interrupted after" in text and "run this cell from the start again" in text
        assert "Traceback" not in text and "training.py" not in text, "a stop is no bug: no traceback"
        reply, printed, _ = run(client, AFTER)
        assert reply["status"] == "ok" and printed.split() == ["True", "False"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
