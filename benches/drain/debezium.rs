//! The peer: Debezium's PostgreSQL connector in a Kafka Connect worker, tuned as its users tune it.
//!
//! At least once, JSON without schemas: the cheapest that it offers. The start of its Java is not charged: wall time
//! and CPU count from the moment when its walsender runs to the moment when the topic holds every row.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::backlog::Backlog;
use crate::contender::Lab;
use crate::process::{self, Cost};
use crate::support::lab;
use crate::topic;

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Between two looks at the topic.
const PAUSE: Duration = Duration::from_millis(20);

/// Partitions of its topic, as gimbal's drafts have.
const PARTITIONS: i32 = 6;

/// Debezium to Kafka.
pub fn run(lab: &Lab, backlog: &Backlog) -> Cost {
    let slot = lab.name("debezium");
    let folder = lab.folder().join(&slot);
    std::fs::create_dir_all(&folder).expect("the folder is ours");
    backlog.copy_slot(lab, &slot);
    let topic = format!("{slot}.public.orders");
    topic::create(lab.bootstrap(), &topic, PARTITIONS);
    write_settings(lab, &folder, &slot);
    let mut worker = Worker(start(&folder));
    let sender = lab::eventually("Debezium streams", Duration::from_secs(90), || lab.walsender(&slot));
    let (begin, own, before) = (Instant::now(), worker.cpu(), lab.broker_cpu());
    let mut cost = Cost::default();
    while topic::length(lab.bootstrap(), &topic) < backlog.rows {
        assert!(begin.elapsed() < LIMIT, "Debezium does not reach the end; its log is {}", log(&folder).display());
        let ended = worker.0.try_wait().expect("the worker is ours");
        assert!(ended.is_none(), "Debezium ended; its log is {}", log(&folder).display());
        std::thread::sleep(PAUSE);
    }
    cost.wall = begin.elapsed().as_secs_f64();
    cost.own_cpu = worker.cpu() - own;
    cost.walsender_cpu = process::cpu_seconds(sender).unwrap_or_default();
    cost.broker_cpu = lab.broker_cpu() - before;
    cost.peak_mib = process::peak_mib(worker.0.id()).unwrap_or_default();
    assert_eq!(topic::length(lab.bootstrap(), &topic), backlog.rows, "records of Debezium");
    drop(worker);
    lab.drop_slot(&slot);
    topic::remove(lab.bootstrap(), &[&topic]);
    cost
}

/// A worker that ends with its run.
struct Worker(Child);

impl Worker {
    fn cpu(&self) -> f64 {
        process::cpu_seconds(self.0.id()).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn log(folder: &Path) -> std::path::PathBuf {
    folder.join("connect.log")
}

fn start(folder: &Path) -> Child {
    let output = std::fs::File::create(log(folder)).expect("the folder is ours");
    let errors = output.try_clone().expect("a second handle");
    let mut command: Command = lab::tied("java");
    command.args(["-Xms1g", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(lab::lab_folder().join("debezium/worker/*"));
    command.arg("org.apache.kafka.connect.cli.ConnectStandalone");
    command.arg(folder.join("worker.properties")).arg(folder.join("connector.properties"));
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    command.spawn().expect("java starts")
}

fn write_settings(lab: &Lab, folder: &Path, slot: &str) {
    let plugins = lab::lab_folder().join("debezium/plugins");
    let worker = format!(
        "bootstrap.servers={}\nplugin.path={}\noffset.storage.file.filename={}\noffset.flush.interval.ms=10000\n\
         key.converter=org.apache.kafka.connect.json.JsonConverter\nkey.converter.schemas.enable=false\n\
         value.converter=org.apache.kafka.connect.json.JsonConverter\nvalue.converter.schemas.enable=false\n\
         listeners=http://127.0.0.1:{}\n\
         producer.acks=all\nproducer.compression.type=lz4\nproducer.linger.ms=10\nproducer.batch.size=524288\n\
         producer.buffer.memory=134217728\n",
        lab.bootstrap(),
        plugins.display(),
        folder.join("offsets").display(),
        lab::free_port(),
    );
    let connector = format!(
        "name={slot}\nconnector.class=io.debezium.connector.postgresql.PostgresConnector\ntasks.max=1\n\
         database.hostname=127.0.0.1\ndatabase.port={}\ndatabase.user=postgres\ndatabase.password=\n\
         database.dbname={}\ntopic.prefix={slot}\nplugin.name=pgoutput\nslot.name={slot}\npublication.name={}\n\
         publication.autocreate.mode=disabled\nsnapshot.mode=no_data\ntable.include.list=public.orders\n\
         poll.interval.ms=10\nmax.batch.size=20480\nmax.queue.size=131072\n",
        lab.port(),
        lab.database_name(),
        crate::support::PUBLICATIONS[0],
    );
    std::fs::write(folder.join("worker.properties"), worker).expect("the file is ours");
    std::fs::write(folder.join("connector.properties"), connector).expect("the file is ours");
}
