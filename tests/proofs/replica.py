"""A model of the daemon's snapshot: one stream, fenced reads between its transactions, a topic as a list.

At the end the fold of the topic must equal the table, and no record of a read may have put an older version over a
newer one. The table is t(k, ver, …); `ver` comes from one sequence, so a later version is a larger number.
"""

import threading
import time
from collections import Counter

from lab import Snapshot, Stream, connect, flush_lsn, insert_lsn, q, q1, repeatable_read


class Replica:
    def __init__(self, database, slot, publication, key_type):
        self.stream = Stream(database, slot, publication)
        self.reader = repeatable_read(database)
        self.control = connect(database)
        self.key_type = key_type
        self.topic = []  # (key, version), None for a tombstone
        self.newest = {}  # key -> the largest version in the topic
        self.regressions = 0
        self.counts = Counter()
        self.transaction = None  # (xid, keys) of the one being delivered
        self.passed = 0  # the stream has delivered everything below
        self.since = []  # (xid, end, keys): delivered since the snapshot was taken
        self.invisible = {}  # xid -> keys: delivered, and not yet known to be visible to SELECT

    def emit(self, key, version, op):
        if op == "r" and version is not None and self.newest.get(key, -1) > version:
            self.regressions += 1
        self.topic.append((key, version))
        self.newest[key] = max(self.newest.get(key, -1), version or 0)

    def pump(self, seconds=0.01):
        """Takes in what the stream delivers within `seconds`."""
        for kind, fields in self.stream.read(seconds):
            if kind == "B":
                self.transaction = (fields["xid"], set())
            elif kind == "C":
                xid, keys = self.transaction
                self.since.append((xid, fields["end"], keys))
                self.invisible[xid] = keys
                self.transaction, self.passed = None, fields["end"]
                self.counts["transactions"] += 1
            elif kind in "IUD":
                self.apply(fields)
        if self.transaction is None:
            self.passed = max(self.passed, self.stream.wal_end)

    def apply(self, fields):
        old = self.key_type(fields["old"][0]) if "old" in fields else None
        new = self.key_type(fields["new"][0]) if "new" in fields else None
        touched = self.transaction[1]
        if old is not None and old != new:
            self.emit(old, None, "d")
            touched.add(old)
        if new is not None:
            self.emit(new, int(fields["new"][1]), "u")
            touched.add(new)

    def pass_by(self, position):
        """Waits until the stream is beyond `position`, and between two transactions."""
        while self.passed < position or self.transaction:
            self.stream.ask()
            self.pump()

    def fenced(self, read, rule="snapshot"):
        """What `read` returns, and the keys that it may not overwrite. Ends between two transactions.

        rule  snapshot     all keys of delivered transactions that the snapshot does not see
              since        only of those delivered since the snapshot: forgets what SELECT does not show yet
              lsn          keys changed after the position before the snapshot: a stalled commit is below it
        """
        low = insert_lsn(self.control)
        snapshot = Snapshot(self.reader)
        high = insert_lsn(self.reader)
        self.since.clear()
        for xid in [xid for xid in self.invisible if snapshot.sees(xid)]:
            del self.invisible[xid]
        before = set().union(*self.invisible.values())
        self.pass_by(high)
        result = read()
        self.reader.rollback()
        self.pump()  # the stream goes on while a chunk is read
        self.pass_by(0)
        self.counts["reads"] += 1
        if rule == "lsn":
            return result, set().union(*[keys for _, end, keys in self.since if end > low])
        unseen = set().union(*[keys for xid, _, keys in self.since if not snapshot.sees(xid)])
        return result, unseen if rule == "since" else unseen | before

    def write_chunk(self, rows, hidden):
        for key, version in rows:
            if key in hidden:
                self.counts["dropped"] += 1
            else:
                self.emit(key, version, "r")

    def write_antichunks(self, page):
        """Tombstones for the topic's keys that the table lacks."""
        keys = sorted({key for key, _ in self.topic})
        for start in range(0, len(keys), page):
            batch = keys[start : start + page]
            found, hidden = self.fenced(lambda: {row[0] for row in q(self.reader, "select k from t where k = any(%s)", (batch,))})
            for key in batch:
                if key not in found and key not in hidden:
                    self.emit(key, None, "d")

    def difference(self):
        """Keys in which the fold of the topic and the table differ, once nobody writes any more."""
        end, deadline = flush_lsn(self.control), time.time() + 20
        while (self.passed < end or self.transaction) and time.time() < deadline:
            self.stream.ask()
            self.pump(0.05)
        fold = {key: version for key, version in dict(self.topic).items() if version is not None}
        table = dict(q(self.control, "select k, ver from t"))
        return [key for key in fold.keys() | table.keys() if fold.get(key) != table.get(key)]

    def close(self):
        self.stream.close()
        for connection in (self.reader, self.control):
            connection.close()


class Crew:
    """Threads that write, tidy up or stall until they are told to stop."""

    def __init__(self):
        self.stop = threading.Event()
        self.threads = []

    def add(self, work, *arguments):
        self.threads.append(threading.Thread(target=work, args=(*arguments, self.stop), daemon=True))

    def start(self):
        for thread in self.threads:
            thread.start()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(20)
