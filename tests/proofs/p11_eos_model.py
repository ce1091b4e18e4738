"""Delivery, as an explicit-state model: slot, two daemons, producer epochs (Kafka transactions v1, what librdkafka
speaks), state topic. Every interleaving is visited, with any F faults among N source transactions (one Kafka
transaction each: record, checkpoint, EndTxn).

steps    start, init, read state, produce, checkpoint, EndTxn sent, EndTxn processed at any later time, with its reply,
         status update, slot saved to disk, dead or stopped daemon's slot released, foreign transaction ends
faults   crash, SIGSTOP (resumes any time), PostgreSQL crash (confirmed_flush falls back to the saved one), connection
         cut, reply lost, commit time-out while EndTxn is still under way, EndTxn sent again by the client library,
         coordinator's transaction time-out, foreign transaction opened on the state topic, second daemon
checked  in each state: what read_committed sees is 1..k in order, once each; confirmed_flush <= committed checkpoint;
         from each state the end (all published, all confirmed) can be reached without a further fault

Then each rule is dropped alone, and the shortest trace to a violation is printed. arguments: N F
"""

import sys
import time
from collections import deque
from typing import NamedTuple

from lab import finish, verdict

RULES = dict(
    fence="after a commit time-out or error: a new producer (init_transactions) before anything else",
    reread="... and then the state topic decides whether that commit happened",
    resent="a commit whose EndTxn left more than once counts as a time-out, even if it returned success",
    order="state is read after init_transactions, not before",
    high="state is read to the high watermark (a foreign open transaction is waited for)",
    slot="START_REPLICATION before init_transactions",
    durable="confirm to PostgreSQL only what a commit reply or the state topic has shown",
    skip="skip up to the checkpoint, whatever confirmed_flush says",
    atomic="records and checkpoint in one transaction",
)

# What a daemon is about to do.
DOWN = "down"  # START_REPLICATION
FENCING_FIRST = "fencing first"  # START_REPLICATION, after init_transactions: without rule `slot`
HAS_SLOT = "has slot"  # init_transactions
READ_EARLY = "read early"  # init_transactions, after reading the state: without rule `order`
FENCED_OTHERS = "fenced others"  # read the state
RUNNING = "running"  # produce the next record, or confirm
PRODUCED = "produced"  # produce the checkpoint
CHECKPOINTED = "checkpointed"  # send EndTxn
ENDING = "ending"  # wait for the reply
COMMITTED = "committed"  # take the success
CHECKPOINT_APART = "checkpoint apart"  # write the checkpoint by itself: without rule `atomic`
DOUBTFUL = "doubtful"  # find out whether the commit happened
HALTED = "halted"  # nothing: it refuses to go on

IN_TRANSACTION = (PRODUCED, CHECKPOINTED, ENDING, COMMITTED, DOUBTFUL, CHECKPOINT_APART)


class Daemon(NamedTuple):
    phase: str = DOWN
    stopped: bool = False
    start: int = 0  # of its stream
    handled: int = 0  # last source transaction
    resent: bool = False  # its EndTxn left twice


class State(NamedTuple):
    confirmed: int = 0  # confirmed_flush in memory
    saved: int = 0  # ... on disk
    holder: int | None = None  # daemon that holds the slot
    owner: int | None = None  # daemon whose producer epoch is the newest
    open: tuple | None = None  # the open Kafka transaction: n for a record, -n for a checkpoint
    visible: tuple = ()  # records that read_committed sees
    checkpoint: int = 0  # committed
    ended: str = "empty"  # how the coordinator's last transaction of this epoch ended
    foreign: int | None = None  # a foreign open transaction hides newer checkpoints than this one
    network: tuple = ()  # EndTxn under way: (daemon, n, sent again), only of the newest epoch
    daemons: tuple = (Daemon(), Daemon())
    faults: int = 0


class Step(NamedTuple):
    label: str
    state: State
    fault: bool
    violation: str | None


# A higher producer epoch: the open transaction is aborted, what is under way is fenced.
NEW_EPOCH = dict(open=None, network=(), ended="empty")


class Explorer:
    """Lists the steps out of one state."""

    def __init__(self, state, transactions, faults, rules):
        self.state, self.transactions, self.faults_max, self.rules = state, transactions, faults, rules
        self.steps = []

    def go(self, label, fault=False, violation=None, **changes):
        if fault and self.state.faults >= self.faults_max:
            return
        after = self.state._replace(faults=self.state.faults + fault, **changes)
        self.steps.append(Step(label, after, fault, violation))

    def daemon(self, i, **changes):
        """The daemons, with daemon `i` changed."""
        daemons = list(self.state.daemons)
        daemons[i] = daemons[i]._replace(**changes)
        return tuple(daemons)

    def gone(self, i):
        return self.daemon(i, **Daemon()._asdict())

    def end_transaction(self, commit=True):
        """What the coordinator does with EndTxn."""
        open_ = self.state.open
        if open_ is None:
            return {}
        if not commit:
            return dict(open=None, ended="abort")
        records = tuple(n for n in open_ if n > 0)
        checkpoint = max([self.state.checkpoint] + [-n for n in open_ if n < 0])
        return dict(open=None, ended="commit", visible=self.state.visible + records, checkpoint=checkpoint)

    def all(self):
        for i, daemon in enumerate(self.state.daemons):
            self.outside(i, daemon)
            if not daemon.stopped:
                self.act(i, daemon)
        self.coordinator()
        self.servers()
        return self.steps

    def outside(self, i, daemon):
        """What happens to a daemon."""
        me, s = "AB"[i], self.state
        if daemon.stopped:
            self.go(f"{me} resumes", daemons=self.daemon(i, stopped=False))
        if daemon.phase not in (DOWN, HALTED):
            self.go(f"{me} crashes", True, daemons=self.gone(i))
            if not daemon.stopped:
                self.go(f"{me} is stopped (SIGSTOP)", True, daemons=self.daemon(i, stopped=True))
        if s.holder == i and (daemon.phase == DOWN or daemon.stopped):
            self.go(f"PostgreSQL releases {me}'s slot", holder=None)
        if s.holder == i and daemon.phase != DOWN and not daemon.stopped:
            self.go(f"{me}'s connection to PostgreSQL is cut", True, holder=None)

    def act(self, i, daemon):
        """What a daemon does next."""
        me, s = "AB"[i], self.state
        if daemon.phase == DOWN:
            self.begin(i, me)
        elif daemon.phase == FENCING_FIRST:
            if s.holder is None:
                label = f"{me} START_REPLICATION at {s.confirmed}"
                self.go(label, holder=i, daemons=self.daemon(i, phase=FENCED_OTHERS, start=s.confirmed))
            else:
                self.go(f"{me} slot is held, exits", daemons=self.gone(i))
        elif daemon.phase == HAS_SLOT and not self.rules["order"]:
            if self.state_is_readable():
                self.go(f"{me} reads state: {self.shown()}", daemons=self.daemon(i, phase=READ_EARLY, handled=self.shown()))
        elif daemon.phase in (HAS_SLOT, READ_EARLY):
            phase = FENCED_OTHERS if daemon.phase == HAS_SLOT else RUNNING
            self.go(f"{me} init_transactions", owner=i, daemons=self.daemon(i, phase=phase), **NEW_EPOCH)
        elif daemon.phase == FENCED_OTHERS:
            self.take_up(i, me, daemon)
        elif daemon.phase == RUNNING:
            self.work(i, me, daemon)
        elif daemon.phase in IN_TRANSACTION:
            if s.owner != i:
                self.go(f"{me} is fenced, exits", daemons=self.gone(i))
            else:
                self.commit(i, me, daemon)

    def state_is_readable(self):
        return self.state.foreign is None or not self.rules["high"]

    def shown(self):
        """The checkpoint that reading the state topic shows."""
        s = self.state
        return s.foreign if s.foreign is not None and not self.rules["high"] else s.checkpoint

    def begin(self, i, me):
        s = self.state
        if self.rules["slot"]:
            if s.holder is None:  # else refused: it exits, and Kafka is untouched
                daemons = self.daemon(i, phase=HAS_SLOT, stopped=False, start=s.confirmed)
                self.go(f"{me} START_REPLICATION at {s.confirmed}", holder=i, daemons=daemons)
            return
        other = s.holder if s.holder not in (None, i) else None
        healthy = other is not None and s.daemons[other].phase == RUNNING and not s.daemons[other].stopped
        violation = "a daemon that is refused the slot fenced the healthy one" if healthy and s.owner == other else None
        daemons = self.daemon(i, phase=FENCING_FIRST)
        self.go(f"{me} init_transactions", other is not None, violation, owner=i, daemons=daemons, **NEW_EPOCH)

    def take_up(self, i, me, daemon):
        if not self.state_is_readable():
            return
        shown = self.shown()
        if daemon.start > shown:
            self.go(f"{me} stops: confirmed {daemon.start} beyond checkpoint {shown}", daemons=self.daemon(i, phase=HALTED))
        else:
            handled = shown if self.rules["skip"] else daemon.start
            self.go(f"{me} reads state: {shown}", daemons=self.daemon(i, phase=RUNNING, handled=handled, resent=False))

    def work(self, i, me, daemon):
        s, n = self.state, daemon.handled + 1
        if s.holder != i:
            self.go(f"{me} source connection lost, exits", daemons=self.gone(i))
        if n <= self.transactions:  # also from what its socket still holds after the slot is lost
            if s.owner != i:
                self.go(f"{me} is fenced, exits", daemons=self.gone(i))
            else:
                confirmed = s.confirmed
                if not self.rules["durable"] and s.holder == i:
                    confirmed = max(confirmed, n)
                daemons = self.daemon(i, phase=PRODUCED)
                self.go(f"{me} produces {n}", open=(s.open or ()) + (n,), daemons=daemons, confirmed=confirmed)
        if s.holder == i and s.confirmed < daemon.handled:
            self.go(f"{me} confirms {daemon.handled}", confirmed=daemon.handled)

    def commit(self, i, me, daemon):
        s, n, rules = self.state, daemon.handled + 1, self.rules
        done = dict(phase=RUNNING, handled=n, resent=False)
        if daemon.phase == PRODUCED and s.open is None:
            self.go(f"{me} produces the checkpoint: no transaction", daemons=self.daemon(i, phase=DOUBTFUL))
        elif daemon.phase == PRODUCED and rules["atomic"]:
            self.go(f"{me} produces checkpoint {n}", open=s.open + (-n,), daemons=self.daemon(i, phase=CHECKPOINTED))
        elif daemon.phase in (PRODUCED, CHECKPOINTED):
            network = tuple(sorted(s.network + ((i, n, False),)))
            self.go(f"{me} sends EndTxn({n})", network=network, daemons=self.daemon(i, phase=ENDING, resent=False))
        elif daemon.phase == ENDING:
            if not daemon.resent:
                network = tuple(sorted(s.network + ((i, n, True),)))
                self.go(f"{me} sends EndTxn({n}) again", True, network=network, daemons=self.daemon(i, resent=True))
            # A fault only while the request is still under way: else its reply was lost, which was one already.
            under_way = any(message[:2] == (i, n) for message in s.network)
            self.go(f"{me} commit of {n} times out", under_way, daemons=self.daemon(i, phase=DOUBTFUL))
        elif daemon.phase == COMMITTED:
            if daemon.resent and rules["resent"]:
                self.go(f"{me} commit returned after a resend: suspect", daemons=self.daemon(i, phase=DOUBTFUL))
            elif not rules["atomic"]:
                self.go(f"{me} commit of {n} returned", daemons=self.daemon(i, phase=CHECKPOINT_APART))
            else:
                self.go(f"{me} commit of {n} returned", daemons=self.daemon(i, **done))
        elif daemon.phase == CHECKPOINT_APART:
            self.go(f"{me} writes checkpoint {n}", checkpoint=max(s.checkpoint, n), daemons=self.daemon(i, **done))
        elif daemon.phase == DOUBTFUL:
            self.settle(i, me, daemon)

    def settle(self, i, me, daemon):
        """After a doubtful commit."""
        n, rules, shown = daemon.handled + 1, self.rules, self.shown()
        if rules["fence"] and rules["reread"] is True:
            self.go(f"{me} new producer", owner=i, daemons=self.daemon(i, phase=FENCED_OTHERS), **NEW_EPOCH)
        elif rules["fence"]:
            handled = n if rules["reread"] == "done" else daemon.handled
            daemons = self.daemon(i, phase=RUNNING, handled=handled, resent=False)
            self.go(f"{me} new producer, takes {n} as {rules['reread']}", owner=i, daemons=daemons, **NEW_EPOCH)
        else:
            daemons = self.daemon(i, phase=RUNNING, handled=shown, resent=False)
            if shown > daemon.handled:
                self.go(f"{me} reads state: {shown}", daemons=daemons)
            else:
                label = f"{me} reads state: {shown}; aborts, goes on with the same producer"
                self.go(label, daemons=daemons, **self.end_transaction(commit=False))

    def coordinator(self):
        s = self.state
        for message in dict.fromkeys(s.network):
            i, n, again = message
            network = tuple(other for other in s.network if other != message)
            daemon = s.daemons[i]
            waits = daemon.phase == ENDING and s.owner == i and daemon.handled + 1 == n
            label = f"coordinator processes EndTxn({n})" + (" [resent]" if again else "")
            if s.open and n not in s.open:
                label += f", which ends {tuple(abs(r) for r in s.open if r > 0)}"
            outcome = self.end_transaction()
            self.go(label + (", reply lost" if waits else ""), waits, network=network, **outcome)
            if waits:
                success = s.open is not None or s.ended == "commit"
                daemons = self.daemon(i, phase=COMMITTED if success else DOUBTFUL)
                self.go(label + ", reply", network=network, daemons=daemons, **outcome)
        if s.open is not None:
            self.go("coordinator times the transaction out", True, **{**NEW_EPOCH, "owner": None})
        if s.foreign is None:
            label = f"a foreign transaction opens on the state topic after checkpoint {s.checkpoint}"
            self.go(label, True, foreign=s.checkpoint)
        else:
            self.go("the foreign transaction ends", foreign=None)

    def servers(self):
        s = self.state
        if s.saved < s.confirmed:
            self.go("slot saved to disk", saved=s.confirmed)
        if s.confirmed > s.saved or s.holder is not None:
            self.go(f"PostgreSQL crashes, confirmed {s.confirmed} -> {s.saved}", True, confirmed=s.saved, holder=None)


def broken(state):
    """What a promise says about this state, if it is broken."""
    if state.visible != tuple(range(1, len(state.visible) + 1)):
        fault = "twice" if len(set(state.visible)) < len(state.visible) else "lost"
        return f"read_committed sees {list(state.visible)}: {fault}"
    if state.confirmed > state.checkpoint:
        return f"confirmed {state.confirmed} > checkpoint {state.checkpoint}"
    return None


def check(transactions, faults, rules, progress=False):
    """(states seen, violation or None, trace to it). `progress`: the end must be reachable from everywhere, too."""
    first = State()
    number, parents, todo = {first: 0}, [None], deque([first])
    before, ends = [[]], []  # steps without fault, backwards; states in which everything is done

    def trace(at):
        labels = []
        while parents[at]:
            at, label = parents[at]
            labels.append(label)
        return labels[::-1]

    while todo:
        state = todo.popleft()
        here = number[state]
        if state.confirmed == transactions == len(state.visible):
            ends.append(here)
        for step in Explorer(state, transactions, faults, rules).all():
            if step.state == state:
                continue
            there, violation = number.get(step.state), step.violation
            if there is None:
                there = number[step.state] = len(parents)
                parents.append((here, step.label))
                before.append([])
                todo.append(step.state)
                violation = violation or broken(step.state)
            if violation:
                return len(number), violation, trace(there)
            if progress and not step.fault:
                before[there].append(here)
    if progress:
        reaches, stack = set(ends), list(ends)
        while stack:
            for earlier in before[stack.pop()]:
                if earlier not in reaches:
                    reaches.add(earlier)
                    stack.append(earlier)
        stuck = next((at for at in range(len(parents)) if at not in reaches), None)
        if stuck is not None:
            return len(number), "the end cannot be reached any more", trace(stuck)
    return len(number), None, []


def main():
    transactions = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    faults = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    start = time.time()
    states, violation, steps = check(transactions, faults, dict.fromkeys(RULES, True), progress=True)
    claim = f"all rules, {transactions} transactions, any {faults} faults: no loss, no duplicate, confirmed <= durable, the end stays reachable"
    failure = f"; {violation}: {' | '.join(steps)}" if violation else ""
    verdict(claim, not violation, f"{states:,} states, {time.time() - start:.0f} s{failure}")
    for rule, text in RULES.items():
        for instead in ("failed", "done") if rule == "reread" else (False,):
            states, violation, steps = check(transactions, faults, {**dict.fromkeys(RULES, True), rule: instead})
            taken = f" (taken as {instead})" if instead else ""
            verdict(f"without `{rule}`{taken} ({text}): {violation or 'no violation'}", violation, f"{states:,} states")
            for i, step in enumerate(steps, 1):
                print(f"        {i:2} {step}")
    finish()


main()
