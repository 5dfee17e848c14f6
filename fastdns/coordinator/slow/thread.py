# SPDX-License-Identifier: Apache-2.0
"""The coordinator's Python thread: takes jobs from the loop's queue, lets steps work, gives results back.

It never touches the cache, a socket or a client: it hands the loop a finished answer, or what to do next.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode

from fastdns import log
from fastdns.coordinator._queue import SlowQueue
from fastdns.coordinator.slow.dns64 import Dns64
from fastdns.coordinator.slow.rewrites import Rewrites
from fastdns.coordinator.slow.steps import (
    FOLLOW_MAX,
    Ask,
    Client,
    Done,
    Fail,
    Go,
    Outcome,
    Question,
    Step,
    StepError,
)
from fastdns.coordinator.slow.templates import Templates
from fastdns.errors import FastDNSError

if TYPE_CHECKING:
    from fastdns.coordinator._queue import Job

#: As in _queue.pxd; tests/unit/test_slow.py compares them by what goes through.
JOB_ASK, JOB_ANSWER = 32, 33
RESULT_GO, RESULT_SELF, RESULT_DONE, RESULT_FAIL = 40, 41, 42, 43
BACK, PASSING, TOLD, TRANSLATED = 1, 2, 4, 8
PLUGINS: Final = {"template": 5, "rewrite": 6, "dns64": 7}  #: FD_PLUGIN_*
KEY_DO, KEY_CD = 1, 2  #: FD_KEY_*
Q_RD: Final = 1  #: FD_Q_RD

_NICENESS: Final = 10  #: the loop beside us goes first
_IDLE_MS: Final = 1000
_FULL_S: Final = 0.001

#: What a step had asked before its answer came: question, state, how many were asked so far.
_Waiting = tuple[Question, Any, int]


def make_step(spec: Mapping[str, Any]) -> Step:
    """The step that a part of the configuration describes. Raises FastDNSError, KeyError, TypeError."""
    plugin = spec["plugin"]
    if plugin == "rewrite":
        return Rewrites(spec["rules"])
    if plugin == "template":
        return Templates([spec])
    if plugin == "dns64":
        return Dns64(spec["prefix"], spec["translate_all"], spec["allow_ipv4"])
    raise StepError(f"a step of plugin {plugin!r}")


class SlowThread(threading.Thread):
    """One for the life of the coordinator. steps: by numbers of block and step."""

    def __init__(self, queue: SlowQueue, specs: Mapping[tuple[int, int], Mapping[str, Any]]) -> None:
        super().__init__(name="slow", daemon=True)
        self._queue = queue
        self._steps = {place: make_step(spec) for place, spec in specs.items()}
        self._plugins = {place: PLUGINS[spec["plugin"]] for place, spec in specs.items()}
        #: By flight and step. A flight's number comes back in use, so this is bounded by their table.
        self._leaving = False
        self._waiting: dict[int, dict[tuple[int, int], _Waiting]] = {}

    def run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while not self._leaving:
            job = self._queue.take()
            if job is None:
                self._queue.wait(_IDLE_MS)
                continue
            while not self.work(job):
                time.sleep(_FULL_S)  # the loop empties the ring in its next round

    def stop(self) -> None:
        """End after the job in hand. The coordinator leaves without it: os._exit takes the thread along."""
        self._leaving = True
        self._queue.wake()
        self.join()

    def work(self, job: "Job") -> bool:
        """Do one job and put its result; False: there was no room for it, do it again."""
        try:
            return self._put(job, self._outcome(job))
        except FastDNSError as error:
            return self._put(job, Fail(dns.rcode.SERVFAIL, str(error)))
        except Exception as error:  # whatever a rule does to a message, the next question is answered
            log.error(f"coordinator: block {job[3]}, step {job[4]}: {error!r}")
            return self._put(job, Fail(dns.rcode.SERVFAIL, repr(error)))

    def _outcome(self, job: "Job") -> Outcome:
        kind, flight, _, block, number, qname, qtype, qclass, key, family, flags, client, message = job
        step = self._steps[block, number]
        waiting = self._waiting.get(flight, {})
        if kind == JOB_ASK:
            if (block, number) in waiting:
                waiting.clear()  # of the flight that had this number before
            name = dns.name.from_wire(qname, 0)[0]
            asked_by = Client(client[0], client[1], client[4], client[2], client[3]) if client else None
            question = Question(
                name,
                qtype,
                qclass,
                want_dnssec=bool(key & KEY_DO),
                recursion_desired=bool(flags & Q_RD),
                checking_disabled=bool(key & KEY_CD),
                family=family,
                client=asked_by,
            )
            return self._keep(job, question, 0, step.ask(question))
        question, state, followed = waiting.pop((block, number))
        if followed > FOLLOW_MAX:
            raise StepError(f"more than {FOLLOW_MAX} questions for one answer")
        try:
            came = dns.message.from_wire(message)
        except dns.exception.DNSException as error:
            raise StepError(f"an answer that can't be read: {error}") from None
        return self._keep(job, question, followed, step.answer(question, state, came))

    def _keep(self, job: "Job", question: Question, followed: int, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Ask) or (isinstance(outcome, Go) and outcome.back):
            place = (job[3], job[4])
            self._waiting.setdefault(job[1], {})[place] = (question, outcome.state, followed + 1)
        return outcome

    def _put(self, job: "Job", outcome: Outcome) -> bool:
        if isinstance(outcome, Done):
            flags = (
                (PASSING if outcome.passing else 0)
                | (TOLD if outcome.told else 0)
                | (TRANSLATED if outcome.translated else 0)
            )
            message = outcome.message
            message.id = 0
            message.flags |= dns.flags.QR
            plugin = self._plugins[job[3], job[4]]
            # In the order in which they came: who wants another one says `loadbalance`.
            wire = message.to_wire(max_size=65535, want_shuffle=False)
            return self._queue.put(RESULT_DONE, job, flags=flags, plugin=plugin, message=wire)
        if isinstance(outcome, Fail):
            return self._queue.put(RESULT_FAIL, job, rcode=outcome.rcode, message=outcome.text.encode()[:255])
        asked = outcome.question
        kind, flags, options = RESULT_SELF, 0, b""
        if isinstance(outcome, Go):
            kind, flags, options = RESULT_GO, BACK if outcome.back else 0, outcome.options
        qname = asked.name.canonicalize().to_wire()
        assert qname is not None
        return self._queue.put(
            kind, job, qname=qname, qtype=asked.rdtype, qclass=asked.rdclass, flags=flags, options=options
        )


def start(queue: SlowQueue, programs: Sequence[tuple[int, int, bytes]]) -> SlowThread:
    """Start the thread with the steps of (block, step, JSON of what it does). Raises FastDNSError."""
    thread = SlowThread(queue, {(block, step): json.loads(program) for block, step, program in programs})
    thread.start()
    return thread
