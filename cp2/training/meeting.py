"""How the processes of a training find each other, and what is said of one that does not come."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Timer

from torch import distributed

from cp2.errors import PassingError, said
from cp2.training.clock import StoppedForResumeError
from cp2.training.processes import MEETING, RENDEZVOUS

NAMED_SECONDS = 60.0  # after which it is said who is missing
GIVEN_UP_SECONDS = 900.0  # torch may be read from a slow file system
POLL_SECONDS = 0.2
TRY_SECONDS = 10.0  # to reach process 0
STORE_TIMEOUT = timedelta(minutes=30)


def meet(rank: int, size: int, stop: Callable[[], str | None]) -> distributed.Store:
    """The store in which processes exchange addresses, once all `size` of them are there.

    Those of one node meet at a file, those of several at process 0.

    Raises:
        PassingError: one does not come; names it. The port is in use.
        StoppedForResumeError: `stop` gives a reason.
    """
    begin, told = time.monotonic(), False

    def wait_on(missing: list[int]) -> None:
        """Say who is missing, once, and give up at last."""
        nonlocal told
        if reason := stop():
            raise StoppedForResumeError(f"stopped before all processes met: {reason}")
        waited = time.monotonic() - begin
        who = f"process{'es' * (len(missing) > 1)} {', '.join(map(str, missing))}"
        text = (
            f"{who} of {size} did not come to process {rank} on {socket.gethostname()} in "
            f"{waited:.0f} s{_where()}"
        )
        if waited > GIVEN_UP_SECONDS:
            raise PassingError(f"{text}; the output of its node says why")
        if waited > NAMED_SECONDS and not told:
            told = True
            print(f"{text}; waiting", file=sys.stderr, flush=True)

    while (store := _reach(rank)) is None:
        wait_on([0])
    store.set(f"cp2-{rank}", socket.gethostname())
    while missing := [other for other in range(size) if not store.check([f"cp2-{other}"])]:
        wait_on(missing)
        time.sleep(POLL_SECONDS)
    return store


def _where() -> str:
    return f" (they meet at {os.environ[MEETING]})" if MEETING in os.environ else ""


def _reach(rank: int) -> distributed.Store | None:
    """The store; None where process 0 does not answer yet."""
    if MEETING not in os.environ:
        return distributed.FileStore(os.environ[RENDEZVOUS])
    host, _, port = os.environ[MEETING].rpartition(":")
    # torchrun's agent has opened one there already.
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = distributed.TCPStore(
            host,
            int(port),
            is_master=hosts,
            timeout=timedelta(seconds=TRY_SECONDS),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        if not hosts:
            return None
        raise PassingError(
            f"{socket.gethostname()}: process 0 cannot wait for the others at port {port} "
            f"({said(error)}); set MASTER_PORT to a free one"
        ) from error
    store.set_timeout(STORE_TIMEOUT)
    return store


@contextmanager
def said_if_slow(rank: int, size: int) -> Iterator[None]:
    """Around the first exchange, which a wrong network interface lets hang without a word."""

    def say() -> None:
        print(
            f"process {rank} of {size} on {socket.gethostname()}: the processes have met but "
            f"exchange nothing for {NAMED_SECONDS:.0f} s; one that does not say so is the one that "
            "hangs. Is NCCL_SOCKET_IFNAME (gloo: GLOO_SOCKET_IFNAME) an interface that joins the "
            "nodes? NCCL_DEBUG=INFO says more",
            file=sys.stderr,
            flush=True,
        )

    timer = Timer(NAMED_SECONDS, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
