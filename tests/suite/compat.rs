//! FULL_TRANSITIVE in four corners: gimbal's own judgement, apache-avro's, a real registry's, and what fastavro reads of
//! records written with the other schema.
//!
//! Whatever gimbal calls compatible, all of them take. Gimbal may be stricter, for reasons that docs/contracts.md names.

mod generate;

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use gimbal::avro::AvroSchema;
use gimbal::compat::{Reason, full};
use serde_json::{Value, json};

use self::generate::{Pair, pair};
use crate::lab;

/// Pairs of a run: some hundred of each answer.
const PAIRS: u64 = 500;

/// Requests to the registry at a time.
const CONCURRENT: usize = 8;

/// The seed of every run, unless `GIMBAL_SEED` says another.
const SEED: u64 = 20;

/// Gimbal's judgement: the kinds of reasons against a pair; none for a compatible one.
fn ours(pair: &Pair) -> Vec<&'static str> {
    let (Ok(older), Ok(newer)) = (AvroSchema::parse(&pair.older), AvroSchema::parse(&pair.newer)) else {
        return vec!["form"];
    };
    let kind = |reason: &Reason| match reason {
        Reason::NoDefault => "no default",
        Reason::Null => "null",
        Reason::Type(..) => "type",
        Reason::Meaning(..) => "meaning",
        Reason::Name(..) => "name",
        Reason::Symbols { .. } => "symbols",
        Reason::Size(..) => "size",
        Reason::Decimal(..) => "decimal",
    };
    full(&older, &newer).iter().map(|found| kind(&found.reason)).collect()
}

/// apache-avro's: partial counts as no. It compares a named type with a reference to it by name alone, and says no where one
/// schema defines it and the other refers to it; of such pairs it has no opinion.
fn apache(pair: &Pair) -> Option<bool> {
    let parse = |text: &str| apache_avro::Schema::parse_str(text);
    let (Ok(older), Ok(newer)) = (parse(&pair.older), parse(&pair.newer)) else {
        return Some(false);
    };
    let reads = |writer, reader| SchemaCompatibility::can_read(writer, reader) == Ok(Compatibility::Full);
    let compatible = reads(&older, &newer) && reads(&newer, &older);
    (compatible || !(refers(&pair.older) || refers(&pair.newer))).then_some(compatible)
}

/// Whether a named type is used by its name.
fn refers(schema: &str) -> bool {
    let names = ["E", "H", "F", "G", "Inner", "Money", "Other"];
    names.iter().any(|name| {
        schema.matches(&format!("\"{name}\"")).count() > schema.matches(&format!("\"name\":\"{name}\"")).count()
    })
}

/// fastavro's: a line a pair.
fn fastavro(pairs: &[Pair], seed: u64) -> Vec<String> {
    let line = |pair: &Pair| json!({"older": pair.older, "newer": pair.newer, "seed": seed}).to_string() + "\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pairs.iter().map(line).collect::<String>()).unwrap();
    lab::python("py/read_across.py", &[&file.path().to_string_lossy()]).lines().map(str::to_owned).collect()
}

/// The registry's, by its compatibility endpoint.
fn registry(pairs: &Arc<Vec<Pair>>, seed: u64) -> Vec<bool> {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = lab::registry().url();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = runtime.block_on(async {
        let client = reqwest::Client::new();
        let mut tasks = tokio::task::JoinSet::new();
        for start in 0..CONCURRENT {
            let (client, pairs) = (client.clone(), pairs.clone());
            tasks.spawn(async move {
                let mut answers = Vec::new();
                for at in (start..pairs.len()).step_by(CONCURRENT) {
                    answers.push((at, ask(&client, url, &format!("compat-{seed}-{at}"), &pairs[at]).await));
                }
                answers
            });
        }
        tasks.join_all().await
    });
    let mut answers: Vec<(usize, bool)> = answers.into_iter().flatten().collect();
    answers.sort_unstable();
    answers.into_iter().map(|(_, compatible)| compatible).collect()
}

async fn ask(client: &reqwest::Client, url: &str, subject: &str, pair: &Pair) -> bool {
    let schema = |text: &str| json!({"schema": text});
    let body = async |request: reqwest::RequestBuilder, body: Value| {
        let answer = request.json(&body).send().await.expect("the registry answers");
        let status = answer.status();
        let text = answer.text().await.expect("the answer ends");
        (status.is_success(), serde_json::from_str::<Value>(&text).unwrap_or_default())
    };
    let posted = body(client.post(format!("{url}/subjects/{subject}/versions")), schema(&pair.older)).await;
    let rule = json!({"compatibility": "FULL_TRANSITIVE"});
    let set = body(client.put(format!("{url}/config/{subject}")), rule).await;
    assert!(set.0 || !posted.0, "{subject}: {} {}", posted.1, set.1);
    let asked = format!("{url}/compatibility/subjects/{subject}/versions/latest");
    let (success, answer) = body(client.post(asked), schema(&pair.newer)).await;
    posted.0 && success && answer["is_compatible"] == true
}

#[test]
fn what_gimbal_calls_compatible_every_reader_and_the_registry_take_and_it_is_stricter_only_for_named_reasons() {
    let seed = std::env::var("GIMBAL_SEED").map_or(SEED, |text| text.parse().expect("GIMBAL_SEED is a number"));
    println!("to replay: GIMBAL_SEED={seed} cargo test --test suite compat:: -- --nocapture");
    let pairs: Arc<Vec<Pair>> = Arc::new((0..PAIRS).map(|at| pair(seed << 32 | at)).collect());
    let (readers, registered) = (fastavro(&pairs, seed), registry(&pairs, seed));
    assert_eq!((readers.len(), registered.len()), (pairs.len(), pairs.len()));

    let (mut compatible, mut complaints) = (0, Vec::new());
    let mut stricter = BTreeMap::<(&str, &str), usize>::new();
    let mut changes = BTreeMap::<&str, [usize; 2]>::new();
    for (at, pair) in pairs.iter().enumerate() {
        let (ours, apache, registry, reader) = (ours(pair), apache(pair), registered[at], readers[at].as_str());
        changes.entry(pair.change).or_default()[usize::from(ours.is_empty())] += 1;
        let shown = format!(
            "pair {at} ({}): gimbal {ours:?}, apache-avro {apache:?}, registry {registry}, fastavro {reader}\n  {}\n  {}",
            pair.change, pair.older, pair.newer
        );
        if ours.is_empty() {
            compatible += 1;
            if apache == Some(false) || !registry || reader != "same" {
                complaints.push(shown);
            }
            continue;
        }
        for (corner, accepts) in [("apache-avro", apache == Some(true)), ("registry", registry)] {
            for reason in ours.iter().filter(|_| accepts) {
                *stricter.entry((corner, reason)).or_default() += 1;
            }
            // One named reason is enough: the others may follow from it.
            if accepts && !ours.iter().any(|reason| STRICTER.contains(&(corner, reason))) {
                complaints.push(format!("{corner} accepts {shown}"));
            }
        }
    }
    println!("{compatible} of {PAIRS} compatible; stricter: {stricter:?}; by change: {changes:?}");
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
    let both = PAIRS as usize / 5..PAIRS as usize * 4 / 5;
    assert!(both.contains(&compatible), "only {compatible} of {PAIRS} are compatible: the pairs prove little");
    let page = std::fs::read_to_string(lab::root().join("docs/contracts.md")).expect("docs/contracts.md is there");
    for class in STRICTER {
        assert!(page.contains(&format!("| {} | ", class.1)), "docs/contracts.md does not name {class:?}");
        assert!(stricter.contains_key(class), "gimbal was never stricter in {class:?}: {stricter:?}");
    }
}

/// Where gimbal refuses what others take. docs/contracts.md says why, under "Compatible minors".
const STRICTER: &[(&str, &str)] = &[
    ("apache-avro", "form"),
    ("apache-avro", "meaning"),
    ("apache-avro", "name"),
    ("registry", "form"),
    ("registry", "meaning"),
    ("registry", "name"),
    ("registry", "decimal"),
];
