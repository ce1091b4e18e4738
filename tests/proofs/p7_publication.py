"""ALTER PUBLICATION … ADD TABLE while a transaction that writes the table is open across it.

The chunk that follows the ALTER does not see that transaction, and the stream does not deliver its early rows.
"""

from lab import changes, connect, create_slot, finish, fresh, q, q1, repeatable_read, snapshot_xmax, snapshot_xmin, verdict

DB, SLOT = "p7", "p7"

c = fresh(DB)
q(c, "create table a(id int primary key); create table t(id int primary key, x text); create publication p for table a")
create_slot(c, SLOT)


def inserted(messages):
    return [int(fields["new"][0]) for _, _, kind, fields in messages if kind == "I"]


def race(another_writer):
    """Rows of `t` that neither the first chunk nor the stream shows.

    `another_writer`: a second transaction writes the table between the ALTER and the first one's commit."""
    if q1(c, "select 1 from pg_publication_tables where pubname = 'p' and tablename = 't'"):
        q(c, "alter publication p drop table t")
    q(c, "truncate t")
    changes(c, SLOT, "p")
    w = connect(DB, autocommit=False)
    q(w, "insert into t values (1, 'before the ALTER')")
    q(c, "alter publication p add table t")
    if another_writer:
        q(c, "insert into t values (2, 'own transaction after the ALTER')")
    reader = repeatable_read(DB)
    chunk = [row[0] for row in q(reader, "select id from t order by id")]
    reader.close()
    q(w, "insert into t values (3, 'after the ALTER, same open transaction')")
    w.commit()
    w.close()
    streamed = inserted(changes(c, SLOT, "p"))
    lost = {row[0] for row in q(c, "select id from t")} - set(chunk) - set(streamed)
    return lost, f"chunk {chunk}, stream {streamed}"


lost, note = race(another_writer=False)
verdict(f"a transaction open across the ALTER: rows {sorted(lost)} are lost", lost, note)
lost, note = race(another_writer=True)
verdict("the same, but the decoder met the table in another transaction first: the early row is delivered after all", not lost, note)

# The fence: wait until every transaction that ran at the ALTER has ended, then take the first chunk.
w = connect(DB, autocommit=False)
q(c, "create table fenced(id int primary key)")
q(w, "insert into fenced values (1)")
q(c, "alter publication p add table fenced")
fence = snapshot_xmax(c)
closed = snapshot_xmin(c) < fence
q(w, "insert into fenced values (3)")
w.commit()
w.close()
q(c, "select txid_current()")
open_again = snapshot_xmin(c) >= fence
chunk = [row[0] for row in q(c, "select id from fenced order by id")]
streamed = inserted(changes(c, SLOT, "p"))
covered = {1, 3} == set(chunk) | set(streamed)
verdict("with the fence (xmin >= the xmax at the ALTER) nothing is lost", closed and open_again and covered, f"chunk {chunk}, stream {streamed}")

# Partitions, published through their root.
q(
    c,
    """create table pt(id int, k int, primary key (id, k)) partition by list (k);
    create table p1 partition of pt for values in (1);
    create table p2 partition of pt for values in (2);
    create publication pv for table pt with (publish_via_partition_root = true)""",
)


def sent(*statements):
    for statement in statements:
        q(c, statement)
    return "".join(kind for _, _, kind, _ in changes(c, SLOT, "pv") if kind in "IUDT") or "nothing"


inserts = sent("insert into pt values (1, 1), (2, 2)")
truncated = sent("truncate p1")
detached = sent("alter table pt detach partition p2")
attached = sent("update p2 set id = 77", "alter table pt attach partition p2 for values in (2)")
root = sent("truncate pt")
verdict("through the root, inserts are sent", inserts == "II", inserts)
verdict(
    "TRUNCATE of a partition, DETACH, and a write before ATTACH send nothing; TRUNCATE of the root does",
    (truncated, detached, attached, root) == ("nothing", "nothing", "nothing", "T"),
    (truncated, detached, attached, root),
)
finish()
