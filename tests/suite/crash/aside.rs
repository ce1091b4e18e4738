//! What cannot be published: dead letters and parked contracts, on both sinks, with nothing to read for who has no key.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::project::{Daemon, Project, Sink, live};
use super::server;
use crate::lab::{self, Database};

const DEADLINE: Duration = Duration::from_secs(60);

/// Two tables with a contract each, and a key for sealing. Every text of `t` holds the canary.
struct Scene {
    database: Database,
    project: Project,
    canary: String,
}

fn scene(name: &str, sink: Sink) -> Scene {
    let canary = format!("canary{:016x}", fastrand::u64(..));
    let database = server().fresh_database(&format!("aside_{name}"));
    database.run(&format!(
        "create table t (id int primary key, code text, amount numeric(12,2), note text not null);
         create table o (id int primary key, n int);
         insert into t select g, g, 1.5, '{canary}' from generate_series(1, 10) g;
         insert into o values (1, 0)"
    ));
    let project = Project::new(&format!("aside-{name}-{:08x}", fastrand::u32(..)), database.url(), sink);
    project.seal();
    project.add(&["t", "o"]);
    edit(&project.path("schemas/t/1.0.avsc"), |field| match field["name"].as_str() {
        // A checked pair: texts that are no numbers do not fit.
        Some("code") => field["type"] = json!(["null", "long"]),
        Some("note") => {
            field["type"] = json!("string");
            field.as_object_mut().expect("a field").remove("default");
        }
        _ => {}
    });
    Scene { database, project, canary }
}

fn edit(schema: &Path, change: impl Fn(&mut Json)) {
    let mut text: Json = serde_json::from_str(&std::fs::read_to_string(schema).expect("a schema")).expect("JSON");
    text["fields"].as_array_mut().expect("fields").iter_mut().for_each(change);
    std::fs::write(schema, text.to_string()).expect("the folder is writable");
}

fn kafka() -> Sink {
    Sink::Kafka { bootstrap: lab::kafka().bootstrap().into(), registry: lab::registry().url().into() }
}

impl Scene {
    fn live(&self) -> Daemon {
        let mut daemon = self.project.start(&[], None);
        daemon.until("the snapshots are complete", DEADLINE, live);
        daemon
    }

    fn topic(&self, suffix: &str) -> String {
        self.project.topic("t") + suffix
    }

    /// Key, operation and `last` of a topic's records after its snapshot.
    fn changes(&self, table: &str) -> Vec<(i64, String, bool)> {
        let mut records = self.project.tail(&self.project.topic(table), &[]);
        // Partitions come as they come.
        records.sort_by_key(|record| record["pos"].as_str().map(str::to_owned));
        let streamed = records.iter().filter(|record| record["op"] != "r");
        let line = |record: &Json| {
            let (key, op) = (record["key"]["id"].as_i64().unwrap(), record["op"].as_str().unwrap().to_owned());
            (key, op, record["last"] == true)
        };
        streamed.map(line).collect()
    }

    fn confirmed(&self) -> String {
        let slot = format!("gimbal_{}", self.project.pipeline().replace('-', "_"));
        self.database.text(&format!("select confirmed_flush_lsn from pg_replication_slots where slot_name = '{slot}'"))
    }

    /// The canary is nowhere but in the topic itself.
    fn nothing_leaks(&self, daemon: &Daemon) {
        let clean = |what: &str, text: &str| assert!(!text.contains(&self.canary), "{what} holds the canary: {text}");
        clean("the log", &daemon.log());
        for path in ["/status", "/metrics"] {
            clean(path, &daemon.get(path).expect("the daemon answers"));
        }
        clean("status", &self.project.must(&["status"]));
        for suffix in [".parked", ".dead"] {
            let plain = self.project.tail(&self.topic(suffix), &[]);
            clean(suffix, &Json::from(plain.clone()).to_string());
            assert!(plain.iter().all(|record| record["value"]["sealed"].is_string()), "{plain:?}");
        }
        let topics = self.project.path("topics");
        if topics.exists() {
            let own = topics.join(self.topic(""));
            bytes(&topics, &mut |path, bytes| {
                let found = bytes.windows(self.canary.len()).any(|window| window == self.canary.as_bytes());
                assert!(!found || path.starts_with(&own), "{} holds the canary", path.display());
            });
        }
    }
}

fn bytes(folder: &Path, look: &mut dyn FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => bytes(&path, look),
            false => look(&path, &std::fs::read(&path).expect("a file")),
        }
    }
}

fn contract<'a>(status: &'a Json, name: &str) -> &'a Json {
    // A daemon that has just started shows none.
    let all = status["contracts"].as_array().into_iter().flatten();
    all.into_iter().find(|contract| contract["contract"] == name).unwrap_or(&Json::Null)
}

fn alert<'a>(status: &'a Json, name: &str) -> Option<&'a Json> {
    status["alerts"].as_array()?.iter().find(|alert| alert["labels"]["alertname"] == name)
}

fn a_bad_value_is_a_dead_letter(name: &str, sink: Sink) {
    let scene = scene(name, sink);
    let Scene { database, canary, .. } = &scene;
    // One bad row is there before the snapshot.
    database.run(&format!("update t set code = '{canary}' where id = 9"));
    let mut daemon = scene.live();
    assert_eq!(contract(&daemon.status().unwrap(), "t")["dead_keys"], 1);
    database.run(&format!(
        "begin; update t set amount = 3 where id = 2; update t set amount = 'NaN' where id = 3;
         update t set code = '{canary}' where id = 4; commit"
    ));
    database.run("update t set amount = 5 where id = 5");
    database.run("update o set n = 1");
    let done = |status: &Json| contract(status, "o")["records"] == 2 && contract(status, "t")["records"] == 11;
    let status = daemon.until("the good ones are published", DEADLINE, done);
    assert_eq!((&contract(&status, "t")["dead_keys"], &contract(&status, "t")["state"]), (&json!(3), &json!("live")));
    let fires = alert(&status, "DeadLetters").expect("an alert");
    assert!(fires["startsAt"].is_string() && fires["endsAt"].is_null(), "{fires}");
    let metrics = daemon.get("/metrics").unwrap();
    let nan = "gimbal_dead_letter_records_total{contract=\"t\",reason=\"nan\"} 1";
    assert!(metrics.contains(nan), "{metrics}");
    assert_eq!(scene.changes("t"), [(2, "u".into(), false), (5, "u".into(), true)]);

    let dead = scene.project.tail(&scene.topic(".dead"), &["--unseal"]);
    let line = |record: &Json| {
        let (value, row) = (&record["value"], &record["unsealed"]);
        let text = |json: &Json| json.as_str().unwrap_or("-").to_owned();
        let last = record["last"] == true;
        (text(&value["op"]), text(&value["reason"]), text(&value["field"]), text(&row["id"]), last)
    };
    let row = |op: &str, reason: &str, field: &str, id: &str, last| {
        (op.to_owned(), reason.to_owned(), field.to_owned(), id.to_owned(), last)
    };
    assert_eq!(
        dead.iter().map(line).collect::<Vec<_>>(),
        [
            row("r", "not_canonical", "code", "9", false),
            row("u", "nan", "amount", "3", false),
            row("u", "not_canonical", "code", "4", true)
        ]
    );
    assert_eq!((&dead[2]["unsealed"]["code"], &dead[1]["unsealed"]["amount"]), (&json!(canary), &json!("NaN")));
    scene.nothing_leaks(&daemon);

    // A good change or a delete of each key clears it, after a restart too.
    daemon.signal("TERM");
    daemon.finish(DEADLINE);
    let mut daemon = scene.live();
    assert_eq!(contract(&daemon.status().unwrap(), "t")["dead_keys"], 3);
    database
        .run("update t set amount = 3 where id = 3; delete from t where id = 4; update t set code = '9' where id = 9");
    let status = daemon.until("no key is dead", DEADLINE, |status| contract(status, "t")["dead_keys"] == 0);
    let resolved = alert(&status, "DeadLetters").cloned();
    let resolved = resolved.filter(|alert| alert["endsAt"].is_string()).unwrap_or_else(|| {
        let status = daemon.until("the alert is resolved", DEADLINE, |status| {
            alert(status, "DeadLetters").is_some_and(|alert| alert["endsAt"].is_string())
        });
        alert(&status, "DeadLetters").cloned().expect("an alert")
    });
    assert_eq!(resolved["startsAt"], fires["startsAt"], "{resolved}");
}

#[test]
fn a_bad_value_is_a_dead_letter_in_files_and_the_rest_flows() {
    a_bad_value_is_a_dead_letter("dead-files", Sink::Files);
}

#[test]
fn a_bad_value_is_a_dead_letter_on_kafka_and_the_rest_flows() {
    a_bad_value_is_a_dead_letter("dead-kafka", kafka());
}

fn a_dropped_column_parks_its_contract(name: &str, sink: Sink) {
    let scene = scene(name, sink);
    let Scene { database, canary, .. } = &scene;
    let mut daemon = scene.live();
    database.run("update t set amount = 2 where id = 1");
    database.run(
        "begin; update t set amount = 3 where id = 2; alter table t drop column amount;
         update t set code = 7 where id = 3; update o set n = 1; commit",
    );
    database.run("delete from t where id = 4");
    let parked = |records: u64| move |status: &Json| contract(status, "t")["parked_records"] == records;
    let status = daemon.until("the contract is parked", DEADLINE, parked(2));
    let (t, o) = (contract(&status, "t"), contract(&status, "o"));
    assert_eq!((&t["state"], &o["state"], &o["records"]), (&json!("parked"), &json!("live"), &json!(2)), "{status}");
    assert_eq!(t["reason"]["code"], "E0201");
    let fires = alert(&status, "ContractBroken").cloned().expect("an alert");
    assert_eq!((&fires["labels"]["contract"], &fires["severity"]), (&json!("t"), &json!("critical")));
    assert!(fires["startsAt"].is_string() && fires["pos"] == t["since"], "{fires}");
    let metrics = daemon.get("/metrics").unwrap();
    let state = "gimbal_contract_state{contract=\"t\",version=\"1\",state=\"parked\"} 1";
    assert!(metrics.contains("gimbal_parked_records{contract=\"t\"} 2") && metrics.contains(state), "{metrics}");
    assert_eq!(scene.changes("t"), [(1, "u".into(), true), (2, "u".into(), false)]);
    // The slot moves on.
    let before = scene.confirmed();
    let moved = || (scene.confirmed() != before).then_some(());
    lab::eventually("the slot is confirmed further", DEADLINE, moved);
    scene.nothing_leaks(&daemon);
    daemon.signal("TERM");
    daemon.finish(DEADLINE);

    // It stays parked, without its table too, and the other one goes on.
    let mut daemon = scene.project.start(&[], None);
    database.run("update t set code = 8 where id = 5; update o set n = 2");
    let status = daemon.until("it is parked still", DEADLINE, parked(3));
    assert_eq!(alert(&status, "ContractBroken").map(|alert| &alert["startsAt"]), Some(&fires["startsAt"]));
    database.run("truncate t");
    daemon.until("the truncate is parked too", DEADLINE, parked(4));
    daemon.signal("TERM");
    daemon.finish(DEADLINE);
    database.run("drop table t");
    let mut daemon = scene.project.start(&[], None);
    database.run("update o set n = 3");
    daemon.until("the other one goes on", DEADLINE, |status| contract(status, "o")["records"] == 1);

    let rows = scene.project.tail(&scene.topic(".parked"), &["--unseal"]);
    let ops: Vec<&str> = rows.iter().filter_map(|record| record["value"]["op"].as_str()).collect();
    assert_eq!(ops, ["u", "d", "u", "t"]);
    assert_eq!(rows[0]["unsealed"], json!({"id": "3", "code": "7", "note": canary}));
    assert_eq!(rows[1]["unsealed"]["id"], "4");
    assert_eq!((&rows[0]["value"]["reason"], &rows[0]["last"]), (&json!("E0201"), &json!(false)));
    assert_eq!(rows[0]["value"]["masked_key"].as_str().map(str::len), Some(64));
    scene.nothing_leaks(&daemon);
    daemon.signal("TERM");
    daemon.finish(DEADLINE);

    // With another key nobody could open what is there.
    std::fs::write(scene.project.path("state/seal.key"), "5a".repeat(32)).expect("the folder is writable");
    let refused = scene.project.gimbal(&["run", "--once"]);
    let said = super::project::said(&refused);
    assert!(!refused.status.success() && said.contains("error[E0404]") && said.contains("hint: "), "{said}");
}

#[test]
fn a_dropped_column_parks_its_contract_in_files_and_the_others_go_on() {
    a_dropped_column_parks_its_contract("drop-files", Sink::Files);
}

#[test]
fn a_dropped_column_parks_its_contract_on_kafka_and_the_others_go_on() {
    a_dropped_column_parks_its_contract("drop-kafka", kafka());
}

#[test]
fn a_null_in_a_required_field_parks_its_contract_and_nothing_else() {
    let scene = scene("null", Sink::Files);
    let mut daemon = scene.live();
    scene.database.run(
        "alter table t alter note drop not null;
         begin; update t set id = 20, note = null where id = 2; update t set amount = 3 where id = 3; update o set n = 1;
         commit",
    );
    let status = daemon.until("it is parked", DEADLINE, |status| contract(status, "t")["parked_records"] == 2);
    let t = contract(&status, "t");
    assert_eq!((&t["reason"]["code"], &t["state"]), (&json!("E0403"), &json!("parked")), "{status}");
    assert_eq!(alert(&status, "ContractBroken").map(|alert| &alert["labels"]["field"]), Some(&json!("note")));
    assert_eq!(scene.changes("t"), [], "not half of the change either");
    let rows = scene.project.tail(&scene.topic(".parked"), &["--unseal"]);
    assert_eq!((&rows[0]["unsealed"]["id"], &rows[0]["unsealed"]["note"]), (&json!("20"), &Json::Null));
    assert_eq!(rows[0]["unsealed_old"]["id"], "2");
    scene.nothing_leaks(&daemon);
}
