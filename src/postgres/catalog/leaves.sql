-- The tables that hold the rows of a table: its leaf partitions, or itself. The parameter is its oid.
-- Foreign tables hold no rows here.
WITH RECURSIVE tree (oid) AS (
    SELECT c.oid FROM pg_catalog.pg_class AS c WHERE c.oid = $1::pg_catalog.text::pg_catalog.oid
     UNION ALL
    SELECT i.inhrelid
      FROM tree
      JOIN pg_catalog.pg_inherits AS i ON i.inhparent = tree.oid AND NOT i.inhdetachpending
      JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT c.oid::pg_catalog.text AS oid,
       n.nspname::pg_catalog.text AS namespace,
       c.relname::pg_catalog.text AS name,
       (pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8)::pg_catalog.text AS blocks,
       pg_catalog.pg_relation_filenode(c.oid)::pg_catalog.text AS filenode
  FROM tree
  JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid AND c.relkind = 'r'
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 ORDER BY c.oid
