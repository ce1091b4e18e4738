"""The watermark snapshot by key ranges, with writers, subtransactions, rollbacks, key moves and an ICU collation.

variants  late      the protocol: take the snapshot, wait until the stream has passed, read, drop what it does not see
          since     as late, but only transactions delivered since the snapshot are looked at
          lsn       as late, but by position instead of visibility
          gap       late as a repair after lost changes: the topic holds keys that the table no longer has
          repair    gap, then anti-chunks
arguments: SECONDS of a run, SEED, VARIANT:STALL … (STALL 1: commits stall on synchronous replication, on and off)
"""

import random
import sys
import time

from lab import connect, create_slot, finish, fresh, psycopg2, q, release_commits, stalling, verdict
from replica import Crew, Replica

DB, SLOT = "p4", "p4"
KEYS, CHUNK, WRITERS = 600, 40, 6
DEFAULT_VARIANTS = ("late:1", "gap:0")


def key(number):
    return f"{'Aa_bB-éz'[number % 8]}{number:05d}"


def write(seed, stop):
    rng, c = random.Random(seed), connect(DB, autocommit=False)
    while not stop.is_set():
        try:
            for _ in range(rng.choice((1, 1, 1, 3, 8))):
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
        time.sleep(0.002)
    c.close()


def change(c, rng):
    number, dice = rng.randint(1, KEYS), rng.random()
    if dice < 0.25:
        pad = "x" * rng.choice((3, 3, 9000))
        q(c, "insert into t values (%s, nextval('ver'), %s) on conflict do nothing", (key(number), pad))
    elif dice < 0.6:
        q(c, "update t set ver = nextval('ver') where k = %s", (key(number),))
    elif dice < 0.75:
        q(c, "delete from t where k = %s", (key(number),))
    elif dice < 0.9:
        target = key(rng.randint(1, KEYS))
        free = "not exists (select from t where k = %s)"
        q(c, f"update t set k = %s, ver = nextval('ver') where k = %s and {free}", (target, key(number), target))
    else:
        time.sleep(rng.random() * 0.02)


def prepare():
    c = fresh(DB)
    icu = q(c, "select from pg_collation where collname = 'und-x-icu'")
    collation = 'collate "und-x-icu"' if icu else ""
    q(c, f"create table t(k text {collation} primary key, ver bigint, pad text)")
    q(c, "alter table t alter pad set storage external; create sequence ver; create publication p for table t")
    for number in range(1, KEYS, 2):
        q(c, "insert into t values (%s, nextval('ver'), 'x')", (key(number),))
    create_slot(c, SLOT)
    c.close()


def run(variant, stall, seconds, seed):
    admin = connect()
    release_commits(admin)
    prepare()
    crew = Crew()
    for i in range(WRITERS):
        crew.add(write, seed * 100 + i)
    if stall:
        crew.add(lambda stop: stalling(stop, random.Random(seed)))
    replica = Replica(DB, SLOT, "p", str)
    if variant in ("gap", "repair"):
        replica.topic += [(key(number), 0) for number in range(2, KEYS, 3)]  # ghosts: their deletes were lost
    crew.start()

    rule = variant if variant in ("since", "lsn") else "snapshot"
    end, position = time.time() + seconds, None
    while time.time() < end or position is not None:
        query = "select k, ver from t where %s::text is null or k > %s order by k limit %s"
        rows, hidden = replica.fenced(lambda: q(replica.reader, query, (position, position, CHUNK)), rule)
        replica.write_chunk(rows, hidden)
        position = rows[-1][0] if len(rows) == CHUNK else None
    if variant == "repair":
        replica.write_antichunks(CHUNK)

    crew.end()
    release_commits(admin)
    difference = replica.difference()
    replica.close()
    admin.close()
    return len(difference), replica.regressions, dict(replica.counts)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 20)
    print(f"seed {seed}, {seconds} s a run")
    for argument in sys.argv[3:] or DEFAULT_VARIANTS:
        variant, stall = argument.split(":")
        stall = stall == "1"
        differs, regressions, counts = run(variant, stall, seconds, seed)
        level = not differs and not regressions
        expected = variant in ("late", "repair") or (variant == "lsn" and not stall)
        claim = f"{variant}{', commits stall' if stall else ''}: {'level' if expected else 'not level'}"
        verdict(claim, level == expected, f"fold differs in {differs} keys, {regressions} regressions; {counts}")
    finish()


main()
