"""What the proofs share: connections, a pgoutput reader, verdicts.

The servers are given: GIMBAL_TEST_PG is the URL of a PostgreSQL superuser, GIMBAL_TEST_KAFKA is host:port
(`scripts/lab.sh start pg kafka` prints both).
"""

import os
import select
import struct
import sys
import time
from urllib.parse import urlsplit

import psycopg2
from psycopg2.extras import LogicalReplicationConnection


def server(variable):
    """The coordinates of a server, from the environment."""
    if variable not in os.environ:
        sys.exit(f"{variable} is not set: start the servers with scripts/lab.sh")
    return os.environ[variable]


# ---- connections ----------------------------------------------------------------------------------------------------


def parameters(database):
    url = urlsplit(server("GIMBAL_TEST_PG"))
    return dict(host=url.hostname, port=url.port, user=url.username, dbname=database)


def connect(database="postgres", autocommit=True, **more):
    connection = psycopg2.connect(**{**parameters(database), **more})
    connection.autocommit = autocommit
    return connection


def repeatable_read(database):
    """A connection whose next statement takes the snapshot of all that follow."""
    connection = connect(database, autocommit=False)
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    return connection


def q(connection, sql, arguments=None):
    """Runs SQL; the rows, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return cursor.fetchall() if cursor.description else None


def q1(connection, sql, arguments=None):
    """The first value of the first row, or None."""
    rows = q(connection, sql, arguments)
    return rows[0][0] if rows else None


def fresh(database):
    """A connection to a new database; slots and data of the old one are dropped."""
    admin = connect()
    for slot, pid in q(admin, "select slot_name, active_pid from pg_replication_slots where database = %s", (database,)):
        if pid:
            q(admin, "select pg_terminate_backend(%s)", (pid,))
            eventually(lambda: not q1(admin, "select active from pg_replication_slots where slot_name = %s", (slot,)))
        q(admin, "select pg_drop_replication_slot(%s)", (slot,))
    q(admin, f"drop database if exists {database} with (force)")
    q(admin, f"create database {database}")
    admin.close()
    return connect(database)


def create_slot(connection, slot):
    q(connection, "select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))


def eventually(condition, seconds=30):
    """Polls a condition; False if the deadline passes first."""
    end = time.time() + seconds
    while not condition():
        if time.time() > end:
            return False
        time.sleep(0.02)
    return True


# ---- the two ways to stall commits --------------------------------------------------------------------------------


def stall_commits(admin):
    """From now on a commit is written and sent to slots, but its session waits, and nobody sees it."""
    q(admin, "alter system set synchronous_standby_names = 'nobody'")
    q(admin, "select pg_reload_conf()")


def release_commits(admin):
    q(admin, "alter system reset synchronous_standby_names")
    q(admin, "select pg_reload_conf()")


def stalling(stop, rng):
    """Stalls commits on and off until `stop` is set."""
    admin = connect()
    while not stop.is_set():
        stall_commits(admin)
        time.sleep(0.25 + rng.random() * 0.3)
        release_commits(admin)
        time.sleep(0.15 + rng.random() * 0.2)
    admin.close()


# ---- positions and snapshots --------------------------------------------------------------------------------------


def lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def insert_lsn(connection):
    return lsn(q1(connection, "select pg_current_wal_insert_lsn()::text"))


def flush_lsn(connection):
    return lsn(q1(connection, "select pg_current_wal_flush_lsn()::text"))


def snapshot_xmax(connection):
    return int(q1(connection, "select pg_snapshot_xmax(pg_current_snapshot())::text"))


def snapshot_xmin(connection):
    return int(q1(connection, "select pg_snapshot_xmin(pg_current_snapshot())::text"))


def wide(xid, reference):
    """The 64-bit id nearest to `reference` whose low half is the 32-bit `xid` of a Begin message."""
    full = (reference & ~0xFFFFFFFF) | xid
    if full - reference > 1 << 31:
        full -= 1 << 32
    if reference - full > 1 << 31:
        full += 1 << 32
    return full


class Snapshot:
    """`pg_current_snapshot()`: which transactions it sees."""

    def __init__(self, connection):
        xmin, xmax, running = q1(connection, "select pg_current_snapshot()::text").split(":")
        self.xmin, self.xmax = int(xmin), int(xmax)
        self.running = {int(xid) for xid in running.split(",")} if running else set()

    def sees(self, xid32):
        xid = wide(xid32, self.xmax)
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)


# ---- pgoutput -------------------------------------------------------------------------------------------------------


class Bytes:
    """A cursor over one message."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def letter(self):
        return chr(self.number("B"))

    def text(self):
        end = self.data.index(0, self.at)
        value = self.data[self.at : end].decode()
        self.at = end + 1
        return value

    def take(self, length):
        value = self.data[self.at : self.at + length]
        self.at += length
        return value

    def row(self):
        """Values as text, None for null, ("U",) for an unchanged out-of-line value."""
        values = []
        for _ in range(self.number(">h")):
            kind = self.letter()
            if kind == "n":
                values.append(None)
            elif kind == "u":
                values.append(("U",))
            else:
                values.append(self.take(self.number(">i")).decode("utf8", "replace"))
        return values


def parse(data):
    """(kind, fields) of a pgoutput message, version 1; kinds that no proof reads have no fields."""
    message = Bytes(bytes(data))
    kind = message.letter()
    if kind == "B":
        return kind, dict(lsn=message.number(">Q"), ts=message.number(">Q"), xid=message.number(">I"))
    if kind == "C":
        message.number("B")
        return kind, dict(lsn=message.number(">Q"), end=message.number(">Q"), ts=message.number(">Q"))
    if kind in "IUD":
        fields = dict(oid=message.number(">I"))
        part = message.letter()
        if part in "KO":
            fields["old"] = message.row()
            part = message.letter() if kind == "U" else None
        if part == "N":
            fields["new"] = message.row()
        return kind, fields
    return kind, {}


def changes(connection, slot, publication, peek=False):
    """Decodes all there is through the SQL interface: [(lsn, xid, kind, fields)]."""
    function = "peek" if peek else "get"
    rows = q(
        connection,
        f"select lsn::text, xid::text::int8, data from pg_logical_slot_{function}_binary_changes(%s, null, null, "
        "'proto_version', '1', 'publication_names', %s, 'messages', 'true')",
        (slot, publication),
    )
    return [(lsn(at), xid, *parse(data)) for at, xid, data in rows]


class Stream:
    """A replication connection, as the daemon has one."""

    def __init__(self, database, slot, publication):
        self.connection = psycopg2.connect(**parameters(database), connection_factory=LogicalReplicationConnection)
        self.cursor = self.connection.cursor()
        options = {"proto_version": "1", "publication_names": publication, "messages": "true"}
        self.cursor.start_replication(slot_name=slot, decode=False, options=options, status_interval=1)
        self.wal_end = 0

    def read(self, seconds):
        """[(kind, fields)] of all messages that arrive within `seconds`."""
        messages, end = [], time.time() + seconds
        while time.time() < end:
            message = self.cursor.read_message()
            if message is None:
                select.select([self.connection], [], [], min(0.05, seconds))
                continue
            self.wal_end = max(self.wal_end, message.wal_end)
            messages.append(parse(message.payload))
        self.wal_end = max(self.wal_end, self.cursor.wal_end)
        return messages

    def ask(self):
        """Asks the server for a keepalive, which tells how far it has read."""
        self.cursor.send_feedback(reply=True, force=True)

    def close(self):
        try:
            self.cursor.close()
        finally:
            self.connection.close()


# ---- verdicts -------------------------------------------------------------------------------------------------------

_verdicts = []


def verdict(claim, holds, note=""):
    _verdicts.append(bool(holds))
    print(f"{'ok  ' if holds else 'FAIL'} {claim}{f'  -- {note}' if note != '' else ''}", flush=True)


def finish():
    print(f"{sum(_verdicts)}/{len(_verdicts)} as expected")
