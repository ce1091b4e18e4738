-- Images of tables, read under one snapshot. The parameter is {"oids": [16384], "names": [["public", "orders"]]};
-- either may be absent.
-- One row with the types of all tables, then one row per table that exists; every column is text.
WITH RECURSIVE asked AS (
    SELECT $1::pg_catalog.text::pg_catalog.json AS tables
), found (oid) AS (
    SELECT c.oid
      FROM asked
     CROSS JOIN LATERAL pg_catalog.json_array_elements_text(asked.tables -> 'oids') AS o (oid)
      JOIN pg_catalog.pg_class AS c ON c.oid = o.oid::pg_catalog.oid
     WHERE c.relkind IN ('r', 'p')
     UNION
    SELECT c.oid
      FROM asked
     CROSS JOIN LATERAL pg_catalog.json_array_elements(asked.tables -> 'names') AS o (name)
      JOIN pg_catalog.pg_namespace AS n ON n.nspname = o.name ->> 0
      JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = o.name ->> 1
     WHERE c.relkind IN ('r', 'p')
), tree (root, oid) AS (
    SELECT c.oid, c.oid FROM found JOIN pg_catalog.pg_class AS c ON c.oid = found.oid AND c.relkind = 'p'
     UNION ALL
    SELECT tree.root, i.inhrelid FROM tree JOIN pg_catalog.pg_inherits AS i ON i.inhparent = tree.oid
), leaf (root, oid, identity) AS (
    SELECT tree.root, c.oid, c.relreplident
      FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid AND c.relkind = 'r'
), reached (type) AS (
    -- Every type that a column needs: its own, a domain's base, an array's element (if commas separate its items).
    SELECT a.atttypid
      FROM found
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = found.oid AND a.attnum > 0 AND NOT a.attisdropped
     UNION
    SELECT step.type
      FROM reached AS r
      JOIN pg_catalog.pg_type AS t ON t.oid = r.type
     CROSS JOIN LATERAL (
         SELECT t.typbasetype WHERE t.typtype = 'd'
          UNION ALL
         SELECT e.oid FROM pg_catalog.pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid AND e.typdelim = ','
     ) AS step (type)
)
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text AS snapshot,
       pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text AS insert_lsn,
       answer.types,
       answer.image
  FROM (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
        'oid', t.oid::pg_catalog.int8,
        'kind', t.typtype,
        'type_name', pg_catalog.format_type(t.oid, NULL),
        'name', t.typname,
        'base', CASE WHEN t.typtype = 'd' THEN t.typbasetype::pg_catalog.int8 END,
        'base_typmod', t.typtypmod,
        'element', e.oid::pg_catalog.int8,
        'labels', (
            SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
                'oid', l.oid::pg_catalog.int8, 'label', l.enumlabel
            ) ORDER BY l.enumsortorder)
              FROM pg_catalog.pg_enum AS l
             WHERE l.enumtypid = t.oid
        )
    ) ORDER BY t.oid)::pg_catalog.text AS types,
           NULL::pg_catalog.text AS image
      FROM reached AS r
      JOIN pg_catalog.pg_type AS t ON t.oid = r.type
      LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid AND e.typdelim = ','
     UNION ALL
    SELECT NULL, pg_catalog.json_build_object(
        'oid', c.oid::pg_catalog.int8,
        'namespace', n.nspname,
        'name', c.relname,
        'partitioned', c.relkind = 'p',
        'replica_identity', c.relreplident,
        'columns', (
            SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
                'attnum', a.attnum,
                'dropped', a.attisdropped,
                'generated', a.attgenerated <> '',
                'name', a.attname,
                'type', a.atttypid::pg_catalog.int8,
                'typmod', a.atttypmod,
                'type_name', pg_catalog.format_type(a.atttypid, a.atttypmod),
                -- Since PostgreSQL 18 a constraint may be NOT VALID: then older rows can hold nulls.
                'not_null', a.attnotnull AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_constraint AS v
                     WHERE v.conrelid = a.attrelid AND v.contype = 'n' AND NOT v.convalidated AND v.conkey = ARRAY[a.attnum]
                )
            ) ORDER BY a.attnum)
              FROM pg_catalog.pg_attribute AS a
             WHERE a.attrelid = c.oid AND a.attnum > 0
        ),
        -- Unique indexes over columns; whether those are NOT NULL is for the reader to see above.
        'keys', (
            SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
                'name', i.relname,
                'primary', x.indisprimary,
                'replica_identity', x.indisreplident,
                'attnums', x.attnums
            ) ORDER BY x.indisprimary DESC, i.relname)
              FROM (
                SELECT x.indexrelid, x.indisprimary, x.indisreplident,
                       pg_catalog.array_agg(k.attnum ORDER BY k.place) AS attnums,
                       pg_catalog.bool_and((o.oid IS NULL OR o.collisdeterministic) AND (own.oid IS NULL OR own.collisdeterministic))
                           AS exact
                  FROM pg_catalog.pg_index AS x
                 CROSS JOIN LATERAL ROWS FROM (
                     pg_catalog.unnest(x.indkey::pg_catalog.int2[]),
                     pg_catalog.unnest(x.indcollation::pg_catalog.oid[])
                 ) WITH ORDINALITY AS k (attnum, collation_oid, place)
                  LEFT JOIN pg_catalog.pg_collation AS o ON o.oid = k.collation_oid
                  -- `=` compares by the column's own collation, whatever the index's is.
                  LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
                  LEFT JOIN pg_catalog.pg_collation AS own ON own.oid = a.attcollation
                 WHERE x.indrelid = c.oid AND x.indisunique AND x.indimmediate AND x.indisvalid
                   AND x.indexprs IS NULL AND x.indpred IS NULL AND k.place <= x.indnkeyatts
                 GROUP BY x.indexrelid, x.indisprimary, x.indisreplident
              ) AS x
              JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
             WHERE x.exact
        ),
        -- Key columns that every leaf's own replica identity has; leaves may number their columns otherwise.
        'carried_by_leaves', CASE WHEN c.relkind = 'p' THEN (
            SELECT coalesce(pg_catalog.json_agg(a.attnum ORDER BY a.attnum), '[]')
              FROM pg_catalog.pg_attribute AS a
             WHERE a.attrelid = c.oid AND a.attnum IN (
                       SELECT k.attnum FROM pg_catalog.pg_index AS x, pg_catalog.unnest(x.indkey::pg_catalog.int2[]) AS k (attnum)
                        WHERE x.indrelid = c.oid AND x.indisunique
                   )
               AND NOT EXISTS (
                       SELECT FROM leaf
                        WHERE leaf.root = c.oid AND leaf.identity <> 'f' AND NOT EXISTS (
                                  SELECT FROM pg_catalog.pg_index AS x
                                   CROSS JOIN pg_catalog.unnest(x.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (attnum, place)
                                    JOIN pg_catalog.pg_attribute AS own ON own.attrelid = leaf.oid AND own.attnum = k.attnum
                                   WHERE x.indrelid = leaf.oid AND x.indisvalid AND x.indimmediate AND k.place <= x.indnkeyatts
                                     AND own.attname = a.attname
                                     AND CASE leaf.identity WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident END
                              )
                   )
        ) END
    )::pg_catalog.text
      FROM found
      JOIN pg_catalog.pg_class AS c ON c.oid = found.oid
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  ) AS answer
