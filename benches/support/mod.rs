//! What the benches share: the servers of the test lab, the table, and its contract.
#![allow(dead_code, reason = "not every bench uses every part")]

#[path = "../../tests/suite/lab/mod.rs"]
pub mod lab;

use std::collections::BTreeMap;

use gimbal::contract::draft::drafts;
use gimbal::contract::{self, Catalog, ContractVersion, Sources};
use gimbal::diagnostic::SourceText;
use gimbal::table::TableImage;

/// Publications: the second one is that of append-only tables without identity, of which there are none.
pub const PUBLICATIONS: [&str; 2] = ["bench", "bench_inserts"];

/// An order as the shop has it: ten columns, about 200 bytes a row in the stream.
const TABLE: &str = "
    create table orders (
        order_id bigint primary key, customer_id bigint not null, status text not null, total numeric(12,2) not null,
        currency char(3) not null, placed_at timestamptz not null, region varchar(60) not null,
        guest boolean not null, lines integer not null, note varchar(200)
    );
    create publication bench for table orders with (publish_via_partition_root = true);
    create publication bench_inserts with (publish = 'insert', publish_via_partition_root = true);";

/// Rows from numbers, the same ones every time; `fill` commits after each `size` rows, `mix` as it says.
const PROCEDURES: &str = "
    create function order_rows(first bigint, last bigint) returns setof orders language sql as $$
        select i, i * 7919 % 100000, (array['new', 'paid', 'packed', 'shipped'])[1 + i % 4],
               (i * 31 % 1000000)::numeric / 100 + 5, 'EUR',
               timestamptz '2026-07-01 00:00:00+00' + i * interval '1.000123 seconds',
               (array['Bayern', 'Baden-Württemberg', 'Île-de-France', 'Lombardia'])[1 + i % 4],
               i % 7 = 0, (1 + i % 5)::int,
               case when i % 10 <> 0 then rpad('leave it with the neighbour, ring twice, order ' || i, 90, '.') end
        from generate_series(first, last) i
    $$;
    create procedure fill(first bigint, transactions bigint, size bigint) language plpgsql as $$
    begin
        for t in 0 .. transactions - 1 loop
            insert into orders select * from order_rows(first + t * size, first + (t + 1) * size - 1);
            commit;
        end loop;
    end $$;
    create procedure mix(transactions bigint) language plpgsql as $$
    begin
        for t in 0 .. transactions - 1 loop
            insert into orders select * from order_rows(t * 700, t * 700 + 699);
            update orders set status = 'paid', total = total + 1 where order_id between t * 700 and t * 700 + 199;
            delete from orders where order_id between t * 700 + 600 and t * 700 + 699;
            commit;
        end loop;
    end $$;";

/// Row messages of one transaction of `mix`: 700 inserts, 200 updates, 100 deletes.
pub const MIX_MESSAGES: u64 = 1_000;

/// Makes table, publications and procedures in an empty database.
pub fn create_table(sql: &lab::Sql) {
    sql.run(TABLE);
    sql.run(PROCEDURES);
}

/// The contract as `gimbal init` drafts it, without a snapshot, with this topic: contract and schema as text.
pub fn contract_texts(images: &[TableImage], topic: &str) -> (String, String) {
    let draft = drafts(images, "bench").into_iter().next().expect("the table is drafted");
    let lines = draft.contract_text.lines().map(|line| match line.split_once(':') {
        Some(("topic", _)) => format!("topic: {topic}\n"),
        _ => format!("{line}\n"),
    });
    (lines.collect::<String>() + "    backfill: none\n", draft.schema_text)
}

/// The contract, checked.
pub fn contract_version(images: &[TableImage]) -> ContractVersion {
    let (contract, schema) = contract_texts(images, "bench.orders.v{major}");
    let sources = Sources {
        contracts: vec![SourceText::new("orders.yaml", contract)],
        schemas: BTreeMap::from([("orders/1.0.avsc".to_owned(), SourceText::new("orders/1.0.avsc", schema))]),
        catalog: Some(SourceText::new("catalog.json", Catalog::new(images.iter().cloned()).to_text())),
        ..Sources::default()
    };
    let mut resolved = contract::resolve(&sources);
    assert!(resolved.versions.len() == 1, "the draft does not resolve: {:?}", resolved.findings);
    resolved.versions.remove(0)
}

/// Lowest, median and highest of some numbers.
pub fn spread(numbers: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    let last = sorted.len().saturating_sub(1);
    [at(0), (at(last / 2) + at(last.div_ceil(2))) / 2.0, at(last)]
}
