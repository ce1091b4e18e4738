"""The watermark snapshot by ctid ranges, per leaf partition.

First the facts that it rests on, a few statements each. Then the model of the daemon, with writers whose updates move
rows (HOT, non-HOT, across leaves), deletes, VACUUM that reuses line pointers, VACUUM FULL and CLUSTER in the middle.

variants  pages     a range ends between two pages
          inpage    a range may end at any line pointer
          gap       chunks only, into a topic with planted ghosts and stale rows
          repair    gap, then anti-chunks
arguments: SECONDS of a run, SEED, VARIANT:STALL … (STALL 1: commits stall on synchronous replication, on and off)
"""

import random
import sys
import threading
import time

from lab import (
    Snapshot,
    changes,
    connect,
    create_slot,
    eventually,
    finish,
    fresh,
    insert_lsn,
    psycopg2,
    q,
    q1,
    release_commits,
    repeatable_read,
    snapshot_xmax,
    snapshot_xmin,
    stall_commits,
    stalling,
    verdict,
)
from replica import Crew, Replica

FACTS_DB, MODEL_DB = "p4c_facts", "p4c"
LEAVES = ("t1", "t2", "t3")
KEYS, PAGES, ANTICHUNK, WRITERS = 2400, 6, 300, 5
DEFAULT_VARIANTS = ("pages:1", "repair:0")


def prepare(c, keys):
    """`t` in three leaves with free space, other column order and a dropped column."""
    q(
        c,
        f"""create table t(k int, ver bigint, pad text) partition by range (k);
        create table t1 partition of t for values from (0) to ({keys // 3}) with (fillfactor=70, autovacuum_enabled=off);
        create table t2 partition of t for values from ({keys // 3}) to ({2 * keys // 3}) with (autovacuum_enabled=off);
        create table t3(pad text, gone int, ver bigint, k int not null) with (fillfactor=90, autovacuum_enabled=off);
        alter table t3 drop gone;
        alter table t attach partition t3 for values from ({2 * keys // 3}) to ({4 * keys});
        alter table t add primary key (k);
        create index on t (length(pad));
        create sequence ver;
        insert into t select i, nextval('ver'), repeat('x', 50 + i % 250) from generate_series(1, {keys - 1}) i;
        create publication p for table t with (publish_via_partition_root)""",
    )


def keys_between(c, table, low, high):
    return [row[0] for row in q(c, f"select k from only {table} where ctid >= %s and ctid < %s", (low, high))]


def all_keys(c, table):
    return {row[0] for row in q(c, f"select k from only {table}")}


def blocks(c, table):
    return q1(c, f"select pg_relation_size('{table}') / 8192")


def filenode(c, table):
    return q1(c, f"select pg_relation_filenode('{table}')::int8")


# ---- facts ----------------------------------------------------------------------------------------------------------


def facts(rng):
    c = fresh(FACTS_DB)
    prepare(c, 900)
    reader = repeatable_read(FACTS_DB)
    fact_plans(c)
    fact_rights(c)
    fact_cuts(c, reader, rng)
    fact_vacuum_full(c, reader)
    fact_rewrites(c, reader)
    fact_names(c, reader)
    fact_range_end(c, reader)
    fact_activation(c, reader)
    for slot in ("p4c_range", "p4c_activation"):
        q(c, "select pg_drop_replication_slot(%s)", (slot,))
    reader.close()
    c.close()


def fact_plans(c):
    def scans(table, condition):
        query = f"explain select k from {table} where {condition} ctid >= '(1,0)' and ctid < '(3,0)'"
        return " ".join(row[0] for row in q(c, query)).count("Tid Range Scan")

    verdict("a ctid range on a leaf is a Tid Range Scan", scans("only t1", "") == 1)
    root = scans("t", "tableoid = 't1'::regclass and")
    verdict("through the root, with tableoid, it scans the range of every leaf", root == 3)


def fact_rights(c):
    q(c, "drop role if exists p4c_reader")
    q(c, "create role p4c_reader login")
    q(c, "grant select on t to p4c_reader")
    reader = connect(FACTS_DB, user="p4c_reader")
    try:
        q(reader, "select from only t1 limit 1")
        denied = False
    except psycopg2.errors.InsufficientPrivilege:
        denied = True
    verdict("SELECT on the root does not permit to read a leaf", q1(reader, "select count(*) from t") == 899 and denied)
    reader.close()
    q(c, "drop owned by p4c_reader; drop role p4c_reader")


def fact_cuts(c, reader, rng):
    for _ in range(5):  # move rows, and free line pointers for others
        q(c, "update t set ver = ver + 1 where k % 3 = 0")
        q(c, "delete from t where k % 17 = 0")
        q(c, "vacuum t1, t2, t3")
        q(c, "insert into t select k, 1, 'n' from generate_series(1, 890, 17) k on conflict do nothing")
    wrong = 0
    for leaf in LEAVES:
        every, end = sorted(all_keys(reader, leaf)), blocks(reader, leaf)
        for _ in range(40):
            inner = sorted((rng.randrange(end), rng.randrange(1, 60)) for _ in range(rng.randrange(1, 9)))
            cuts = [f"({block},{line})" for block, line in [(0, 0), *inner, (end, 0)]]
            got = [k for low, high in zip(cuts, cuts[1:]) for k in keys_between(reader, leaf, low, high)]
            wrong += sorted(got) != every
    reader.rollback()
    verdict("cuts at any line pointer give every row of one snapshot exactly once (120 random cuts)", wrong == 0)


def fact_vacuum_full(c, reader):
    q(c, "delete from t1 where k < 150")
    q(c, "vacuum t1")
    every, end = all_keys(c, "t1"), blocks(c, "t1")
    middle = f"({end * 2 // 3},0)"
    first = keys_between(reader, "t1", "(0,0)", middle)
    at_first = filenode(reader, "t1")
    reader.rollback()
    q(reader, "select pg_current_snapshot()")
    before = filenode(reader, "t1")
    q(c, "vacuum full t1")
    second = keys_between(reader, "t1", middle, f"({end},0)")
    in_catalog = q1(reader, "select relfilenode::int8 from pg_class where oid = 't1'::regclass")
    after = filenode(reader, "t1")
    reader.rollback()
    lost = every - set(first) - set(second)
    verdict("VACUUM FULL between chunks loses untouched rows", lost, f"{len(lost)} of {len(every)}")
    verdict(
        "pg_class under the chunk's snapshot still shows the old relfilenode; pg_relation_filenode() shows the new one",
        in_catalog == at_first != after,
    )
    verdict(
        "pg_relation_filenode() before the read misses it: ask after the read, in its transaction (its lock holds it)",
        before == at_first != after,
    )


def fact_rewrites(c, reader):
    for ddl in ("alter table t alter pad type text using pad || ''", "alter table t alter ver type numeric", "truncate t2"):
        q(c, "insert into t select i, 1, 'x' from generate_series(300, 599) i on conflict do nothing")
        q(reader, "select 1")
        before = filenode(reader, "t2")
        q(c, ddl)
        seen, after = q1(reader, "select count(*) from only t2"), filenode(reader, "t2")
        reader.rollback()
        verdict(f"`{ddl}` after the snapshot: the leaf reads empty, pg_relation_filenode() tells", seen == 0 and before != after)


def fact_names(c, reader):
    q(c, "create table w(id int primary key, a int, b int); insert into w values (1, 10, 20)")
    q(reader, "select 1")
    q(c, "alter table w rename a to x; alter table w rename b to a; alter table w rename x to b")
    got = q1(reader, "select a from w where ctid >= '(0,0)'")
    catalog = "select attname from pg_attribute where attrelid = 'w'::regclass and attnum > 1 order by attnum"
    beside = [row[0] for row in q(reader, catalog)]
    elsewhere = [row[0] for row in q(c, catalog)]
    reader.rollback()
    verdict(
        "a name swap after the snapshot puts b's values under a, and pg_attribute under that snapshot hides it; "
        "another connection, while the read's lock is held, tells",
        got == 20 and beside == ["a", "b"] and elsewhere == ["b", "a"],
    )


def fact_range_end(c, reader):
    fill = "insert into g select i, repeat('x', 400) from generate_series(%s, %s) i"
    q(c, "create table g(k int primary key, pad text) with (autovacuum_enabled = off); create publication growing")
    q(c, fill, (1, 100))
    create_slot(c, "p4c_range")
    early = blocks(c, "g")
    w = connect(FACTS_DB, autocommit=False)
    q(w, fill, (101, 200))
    q(c, "alter publication growing add table g")
    fence = snapshot_xmax(c)
    w.commit()
    w.close()
    open_again = eventually(lambda: snapshot_xmin(c) >= fence)
    late = blocks(c, "g")
    q(c, fill, (201, 300))
    q(reader, "select 1")
    streamed = {int(fields["new"][0]) for _, _, kind, fields in changes(c, "p4c_range", "growing") if kind == "I"}
    to_early, to_late = (set(keys_between(reader, "g", "(0,0)", f"({end},0)")) for end in (early, late))
    reader.rollback()
    every = set(range(1, 301))
    verdict(
        "range end measured before the xmin fence: rows of a transaction open across the ALTER are in no chunk and not in the stream",
        open_again and every - streamed - to_early,
        f"{len(every - streamed - to_early)} lost",
    )
    verdict(
        "measured once after the fence: pages added later need no chunk, the stream has their rows",
        every <= streamed | to_late,
        f"{early} -> {late} blocks, now {blocks(c, 'g')}",
    )


def fact_activation(c, reader):
    q(c, "create table h(k int primary key); create publication activated")
    create_slot(c, "p4c_activation")
    q(c, "alter publication activated add table h")
    fence = snapshot_xmax(c)
    admin = connect()
    stall_commits(admin)
    eventually(lambda: q1(connect(FACTS_DB), "show synchronous_standby_names") == "nobody")
    writer = threading.Thread(target=lambda: q(connect(FACTS_DB), "insert into h values (1)"), daemon=True)
    writer.start()
    eventually(lambda: q1(c, "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == 1)
    snapshot, moment = Snapshot(reader), insert_lsn(reader)
    seen = q1(reader, "select count(*) from h")
    reader.rollback()
    delivered = []
    eventually(lambda: delivered.extend(changes(c, "p4c_activation", "activated")) or any(kind == "C" for _, _, kind, _ in delivered))
    release_commits(admin)
    writer.join(10)
    admin.close()
    inserts = [xid for _, xid, kind, _ in delivered if kind == "I"]
    commits = [at for at, _, kind, _ in delivered if kind == "C"]
    stalled = len(inserts) == 1 and snapshot.xmin >= fence and seen == 0 and min(commits) <= moment
    verdict("activation by position loses a stalled commit: fence open, commit below the moment, not visible", stalled)
    verdict("activation by xid (ignore the rows of transactions with xid < F) keeps it", inserts and inserts[0] >= fence & 0xFFFFFFFF)


# ---- the model ------------------------------------------------------------------------------------------------------


def write(seed, stop):
    rng, c = random.Random(seed), connect(MODEL_DB, autocommit=False)
    while not stop.is_set():
        try:
            for _ in range(rng.choice((1, 1, 1, 4, 10))):
                savepoint = rng.random() < 0.4
                if savepoint:
                    q(c, "savepoint a")
                change(c, rng)
                if savepoint:
                    q(c, rng.choice(("release a", "rollback to a")))
            if rng.random() < 0.05:
                time.sleep(0.25)  # a long transaction
            c.commit() if rng.random() < 0.85 else c.rollback()
        except psycopg2.Error:  # a deadlock or a duplicate key
            c.rollback()
        time.sleep(0.001)
    c.close()


def change(c, rng):
    k, dice = rng.randint(1, KEYS), rng.random()
    if dice < 0.22:
        size = rng.choice((3, 100, 400, 900))
        q(c, "insert into t values (%s, nextval('ver'), repeat('i', %s)) on conflict do nothing", (k, size))
    elif dice < 0.45:  # HOT where the page has room
        q(c, "update t set ver = nextval('ver') where k = %s", (k,))
    elif dice < 0.65:  # never HOT: an index is on the length
        q(c, "update t set ver = nextval('ver'), pad = repeat('u', %s) where k = %s", (rng.choice((3, 200, 900)), k))
    elif dice < 0.8:
        q(c, "delete from t where k between %s and %s", (k, k + rng.choice((0, 0, 15))))
    elif dice < 0.93:  # a key move, often to another leaf
        target = rng.randint(1, KEYS)
        q(c, "update t set k = %s, ver = nextval('ver') where k = %s and not exists (select from t where k = %s)", (target, k, target))
    else:
        time.sleep(rng.random() * 0.02)


def tidy_up(rng, counts, stop):
    """VACUUM all the time; VACUUM FULL or CLUSTER, which rewrite a leaf, every one or two seconds."""
    c, rewrite_at = connect(MODEL_DB), time.time() + 0.4
    while not stop.is_set():
        try:
            if time.time() > rewrite_at:
                rewrite_at = time.time() + 1 + 1.5 * rng.random()
                q(c, f"vacuum full {rng.choice(LEAVES)}" if rng.random() < 0.6 else "cluster t2 using t2_pkey")
                counts["rewrites"] += 1
            else:
                q(c, f"vacuum {rng.choice(LEAVES)}")
        except psycopg2.Error:  # a deadlock with a writer
            pass
        time.sleep(0.03)
    c.close()


class Places:
    """Where each row was read, to show that rows did move between chunks and line pointers were reused."""

    def __init__(self, counts):
        self.counts, self.place_of, self.key_at = counts, {}, {}

    def note(self, leaf, node, ctid, key):
        self.counts["moved"] += self.place_of.get(key, (leaf, ctid)) != (leaf, ctid)
        self.counts["reused"] += self.key_at.get((leaf, node, ctid), key) != key
        self.place_of[key], self.key_at[leaf, node, ctid] = (leaf, ctid), key


def next_cut(position, end, variant, rng):
    if variant == "inpage":
        cut = (position[0] + rng.randrange(PAGES), rng.randrange(1, 80))
        cut = cut if cut > position else (position[0] + 1, 0)
    else:
        cut = (position[0] + PAGES, 0)
    return cut if cut[0] < end else (end, 0)


def read_leaf(replica, leaf, variant, rng, places):
    """Writes a leaf's rows to the topic, range by range; starts it again when the leaf was rewritten."""
    while True:
        node, end, position = filenode(replica.control, leaf), blocks(replica.control, leaf), (0, 0)
        while position[0] < end:
            cut = next_cut(position, end, variant, rng)
            query = f"select ctid::text, k, ver from only {leaf} where ctid >= %s and ctid < %s"
            bounds = ("(%d,%d)" % position, "(%d,%d)" % cut)
            # The filenode is asked for after the read, whose lock keeps it as it is.
            (rows, now), hidden = replica.fenced(lambda: (q(replica.reader, query, bounds), filenode(replica.reader, leaf)))
            if now != node:
                replica.counts["restarts"] += 1
                break
            for ctid, k, _ in rows:
                places.note(leaf, node, ctid, k)
            replica.write_chunk([(k, version) for _, k, version in rows], hidden)
            position = cut
        else:
            return


def run(variant, stall, seconds, seed):
    rng, admin = random.Random(seed), connect()
    release_commits(admin)
    c = fresh(MODEL_DB)
    prepare(c, KEYS)
    create_slot(c, "p4c")
    if variant in ("gap", "repair"):  # changes that the topic never got
        q(c, "delete from t where k % 11 = 0")
        q(c, "select pg_replication_slot_advance('p4c', pg_current_wal_insert_lsn())")
    replica, crew = Replica(MODEL_DB, "p4c", "p", int), Crew()
    for i in range(WRITERS):
        crew.add(write, seed * 100 + i)
    crew.add(tidy_up, random.Random(seed + 1), replica.counts)
    if stall:
        crew.add(lambda stop: stalling(stop, random.Random(seed + 2)))
    if variant in ("gap", "repair"):
        ghosts = (*range(KEYS + 10, KEYS + 210), *range(11, KEYS, 11))  # beyond the keys and between them
        replica.topic += [(k, 0) for k in ghosts] + [(k, -7) for k in range(1, KEYS, 5)]  # and stale rows
    crew.start()

    places, end = Places(replica.counts), time.time() + seconds
    while time.time() < end or not replica.counts["passes"]:
        for leaf in LEAVES:
            read_leaf(replica, leaf, variant, rng, places)
        replica.counts["passes"] += 1
    if variant == "repair":
        replica.write_antichunks(ANTICHUNK)

    crew.end()
    release_commits(admin)
    difference = replica.difference()
    replica.close()
    c.close()
    admin.close()
    return len(difference), replica.regressions, dict(replica.counts)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 20)
    print(f"seed {seed}, {seconds} s a run")
    facts(random.Random(seed))
    for argument in sys.argv[3:] or DEFAULT_VARIANTS:
        variant, stall = argument.split(":")
        stall = stall == "1"
        differs, regressions, counts = run(variant, stall, seconds, seed)
        level = not differs and not regressions
        expected = variant != "gap"
        claim = f"{variant}{', commits stall' if stall else ''}: {'level' if expected else 'not level'}"
        verdict(claim, level == expected, f"fold differs in {differs} keys, {regressions} regressions; {counts}")
    finish()


main()
