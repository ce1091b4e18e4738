-- Has anything moved that an image holds? The parameter is {"oids": [16384]}. One row per table that exists, at least one row.
-- Every write to a catalog row gives it a new xmin, so equal sums mean that nothing moved.
WITH RECURSIVE asked AS MATERIALIZED (
    SELECT o.oid::pg_catalog.oid
      FROM pg_catalog.json_array_elements_text($1::pg_catalog.text::pg_catalog.json -> 'oids') AS o (oid)
), tree (root, oid) AS (
    -- Partitions at any depth: their replica identities count.
    SELECT asked.oid, i.inhrelid FROM asked JOIN pg_catalog.pg_inherits AS i ON i.inhparent = asked.oid
     UNION ALL
    SELECT tree.root, i.inhrelid FROM tree JOIN pg_catalog.pg_inherits AS i ON i.inhparent = tree.oid
), shared (sum) AS MATERIALIZED (
    -- What several tables use, small as a rule: enums, domains, names of namespaces.
    SELECT pg_catalog.sum(pg_catalog.hashint8extended(s.xmin::pg_catalog.text::pg_catalog.int8, s.row))
      FROM (
        SELECT xmin, oid::pg_catalog.int8 FROM pg_catalog.pg_namespace
         UNION ALL
        SELECT xmin, oid::pg_catalog.int8 FROM pg_catalog.pg_enum
         UNION ALL
        SELECT xmin, oid::pg_catalog.int8 FROM pg_catalog.pg_type WHERE typtype IN ('d', 'e')
      ) AS s (xmin, "row")
), own (oid, sum) AS (
    SELECT s.oid, pg_catalog.sum(pg_catalog.hashint8extended(s.xmin::pg_catalog.text::pg_catalog.int8, s.row))
      FROM (
        SELECT c.oid, c.xmin, 0::pg_catalog.int8
          FROM asked JOIN pg_catalog.pg_class AS c ON c.oid = asked.oid AND c.relkind IN ('r', 'p')
         UNION ALL
        SELECT a.attrelid, a.xmin, a.attnum::pg_catalog.int8
          FROM asked JOIN pg_catalog.pg_attribute AS a ON a.attrelid = asked.oid AND a.attnum > 0
         UNION ALL
        SELECT x.indrelid, x.xmin, x.indexrelid::pg_catalog.int8
          FROM asked JOIN pg_catalog.pg_index AS x ON x.indrelid = asked.oid
         UNION ALL
        SELECT x.indrelid, i.xmin, x.indexrelid::pg_catalog.int8
          FROM asked JOIN pg_catalog.pg_index AS x ON x.indrelid = asked.oid
          JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
         UNION ALL
        SELECT tree.root, c.xmin, c.oid::pg_catalog.int8
          FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid
         UNION ALL
        SELECT tree.root, x.xmin, x.indexrelid::pg_catalog.int8
          FROM tree JOIN pg_catalog.pg_index AS x ON x.indrelid = tree.oid
         UNION ALL
        SELECT k.conrelid, k.xmin, k.oid::pg_catalog.int8
          FROM asked JOIN pg_catalog.pg_constraint AS k ON k.conrelid = asked.oid AND k.contype = 'n'
      ) AS s (oid, xmin, "row")
     GROUP BY s.oid
)
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text AS snapshot,
       own.oid::pg_catalog.text AS oid,
       own.sum::pg_catalog.text || '/' || shared.sum::pg_catalog.text AS fingerprint
  FROM shared LEFT JOIN own ON true
