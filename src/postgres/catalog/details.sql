-- What `check` says about tables beyond their images. The parameter is {"names": [["public", "orders"]]}.
-- One row per table that exists; every column is text.
SELECT n.nspname::pg_catalog.text AS namespace,
       c.relname::pg_catalog.text AS name,
       -- Unique indexes that cannot identify rows, and the first reason.
       (
           SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
                      'name', u.name, 'columns', u.columns, 'why', u.why
                  ) ORDER BY u.name)
             FROM (
               SELECT i.relname AS name,
                      coalesce(k.columns, '[]') AS columns,
                      CASE WHEN NOT x.indisvalid THEN 'invalid'
                           WHEN x.indexprs IS NOT NULL THEN 'expression'
                           WHEN x.indpred IS NOT NULL THEN 'partial'
                           WHEN NOT x.indimmediate THEN 'deferrable'
                           WHEN k.folding THEN 'collation'
                           WHEN k.nullable THEN 'nullable'
                      END AS why
                 FROM pg_catalog.pg_index AS x
                 JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
                CROSS JOIN LATERAL (
                    SELECT pg_catalog.json_agg(a.attname ORDER BY k.place) FILTER (WHERE a.attnum IS NOT NULL) AS columns,
                           pg_catalog.bool_or(NOT o.collisdeterministic OR NOT own.collisdeterministic) AS folding,
                           pg_catalog.bool_or(NOT a.attnotnull OR EXISTS (
                               SELECT FROM pg_catalog.pg_constraint AS v
                                WHERE v.conrelid = a.attrelid AND v.contype = 'n' AND NOT v.convalidated
                                  AND v.conkey = ARRAY[a.attnum]
                           )) AS nullable
                      FROM ROWS FROM (
                          pg_catalog.unnest(x.indkey::pg_catalog.int2[]),
                          pg_catalog.unnest(x.indcollation::pg_catalog.oid[])
                      ) WITH ORDINALITY AS k (attnum, collation_oid, place)
                      LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
                      LEFT JOIN pg_catalog.pg_collation AS o ON o.oid = k.collation_oid
                      LEFT JOIN pg_catalog.pg_collation AS own ON own.oid = a.attcollation
                     WHERE k.place <= x.indnkeyatts
                ) AS k
                WHERE x.indrelid = c.oid AND x.indisunique
             ) AS u
            WHERE u.why IS NOT NULL
       )::pg_catalog.text AS unfit_indexes,
       -- A partitioned table stores nothing itself; its partitions have TOAST tables where such columns ask for them.
       (
           SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum)
             FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attstorage <> 'p'
              AND (c.reltoastrelid <> 0 OR c.relkind = 'p')
       )::pg_catalog.text AS toastable
  FROM pg_catalog.json_array_elements($1::pg_catalog.text::pg_catalog.json -> 'names') AS asked (name)
  JOIN pg_catalog.pg_namespace AS n ON n.nspname = asked.name ->> 0
  JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = asked.name ->> 1
 WHERE c.relkind IN ('r', 'p')
