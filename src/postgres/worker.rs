//! Answers the engine's requests with ordinary SQL, beside the stream; [`super::desk`] says in which order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use futures_util::{StreamExt, pin_mut};
use tokio::sync::Mutex;
use tokio_postgres::Client;

use crate::engine::{ChunkOutcome, Input, JobId, LookupOutcome, Request, Reread, Sample};
use crate::error::{Code, Error, Result};
use crate::lsn::{Lsn, Snapshot, Xid};
use crate::postgres::catalog::{Fingerprints, quote_identifier};
use crate::postgres::copy_text::CopyReader;
use crate::postgres::lookup::{self, Looked, Wanted};
use crate::postgres::publication::{self, Member};
use crate::postgres::reread::{self, WantedRows};
use crate::postgres::sampling;
use crate::postgres::sql::{self, Source, failed};
use crate::postgres::statements;
use crate::sink::key_desk::{KeyDesk, WantedKeys};
use crate::state::{Leaf, Tid};
use crate::table::{QualifiedName, RelationId, TableImage};

/// How often a fence is looked at again.
const FENCE_POLL: Duration = Duration::from_millis(50);

/// After this long a waiting fence names who is in the way.
const FENCE_WARN: Duration = Duration::from_secs(60);

/// How long a sample may take to see a transaction that the stream has delivered. Its commit is written; only a
/// synchronous standby that does not answer can hold it up longer.
const SAMPLE_WAIT: Duration = Duration::from_secs(60);

/// How often the catalog is probed for changes.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How often a heartbeat is written.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// An answer, or why there is none.
pub type Answer = Result<Input<'static>>;

/// Runs requests. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    source: Source,
    shared: Arc<Mutex<Arc<Client>>>,
    chunks: Arc<Mutex<HashMap<JobId, Arc<Mutex<Client>>>>>,
    answers: Sender<Answer>,
    keys: KeyDesk,
    /// Copies whose keys are compared as text, because one did not parse as the column's type.
    as_text: Arc<Mutex<HashSet<JobId>>>,
    /// A connection of its own for re-reads, once there was one.
    rereads: Arc<Mutex<Option<Client>>>,
}

impl Worker {
    /// A worker on an open connection.
    pub fn new(source: Source, client: Client, answers: Sender<Answer>, keys: KeyDesk) -> Worker {
        let shared = Arc::new(Mutex::new(Arc::new(client)));
        Worker {
            source,
            shared,
            chunks: Arc::default(),
            answers,
            keys,
            as_text: Arc::default(),
            rereads: Arc::default(),
        }
    }

    async fn client(&self) -> Arc<Client> {
        self.shared.lock().await.clone()
    }

    fn answer(&self, answer: Answer) {
        // The daemon has ended if nobody listens; then the answer does not matter.
        let _ = self.answers.send(answer);
    }

    /// Runs a request to its end and sends the answer.
    pub async fn run(self, request: Request) {
        let answer = match request {
            Request::Sample { relations, sees } => {
                self.sample_seeing(&relations, sees).await.map(|s| Some(Input::Sample(s)))
            }
            Request::Reread { relation, key, keys, attnums, sees, bytes_max } => {
                let wanted = WantedRows { relation, key, keys, attnums, sees, bytes_max };
                self.reread(&wanted).await.map(|reread| Some(Input::Reread(Box::new(reread))))
            }
            Request::Fence { job, fence } => self.fence_passed(job, fence).await.map(Some),
            Request::Leaves { job, relation } => self.leaves(job, relation).await.map(Some),
            Request::OpenChunk { job, fence } => self.open_chunk(job, fence).await.map(Some),
            Request::ReadChunk { job, relation, leaf, attnums, from, to_block, rows_max, bytes_max } => {
                let range = Range { leaf, attnums, from, to_block, rows_max, bytes_max };
                self.read_chunk(job, relation, range).await.map(|outcome| Some(Input::ChunkRead { job, outcome }))
            }
            Request::CloseChunk { job } => self.close_chunk(job).await.map(|()| None),
            Request::Keys { job, pass, topic, key_id, after, keys_max, bytes_max } => {
                self.read_keys(WantedKeys { job, pass, topic, key_id, after, keys_max, bytes_max }).await.map(Some)
            }
            Request::LookUp { job, relation, key, keys, attnums } => {
                let wanted = Wanted { relation, key, keys, attnums };
                self.look_up(job, wanted).await.map(|outcome| Some(Input::LookedUp { job, outcome }))
            }
            Request::EndCopy { job } => {
                self.chunks.lock().await.remove(&job);
                self.as_text.lock().await.remove(&job);
                self.keys.end(job);
                Ok(None)
            }
            Request::Heartbeat => heartbeat(&*self.client().await).await.map(|()| None),
        };
        match answer {
            Ok(Some(input)) => self.answer(Ok(input)),
            Ok(None) => {}
            Err(error) => self.answer(Err(error)),
        }
    }

    async fn sample_seeing(&self, relations: &[RelationId], sees: u32) -> Result<Sample> {
        let client = self.client().await;
        let end = tokio::time::Instant::now() + SAMPLE_WAIT;
        loop {
            let sample = sampling::sample(&client, relations).await?;
            if sample.snapshot.sees_short(sees) {
                return Ok(sample);
            }
            wait_for(sees, end).await?;
        }
    }

    async fn reread(&self, wanted: &WantedRows) -> Result<Reread> {
        let shared = self.client().await;
        let mut own = self.rereads.lock().await;
        let client = match own.take() {
            Some(client) => client,
            None => sql::connect(&self.source).await?,
        };
        let client = own.insert(client);
        let end = tokio::time::Instant::now() + SAMPLE_WAIT;
        loop {
            if let Some(reread) = reread::reread(client, &shared, wanted).await? {
                return Ok(reread);
            }
            wait_for(wanted.sees, end).await?;
        }
    }

    /// Waits until no transaction below the fence runs.
    async fn fence(&self, client: &Client, fence: Xid) -> Result<()> {
        let begin = tokio::time::Instant::now();
        let mut warned = false;
        while snapshot(client).await?.xmin < fence {
            if !warned && begin.elapsed() >= FENCE_WARN {
                warned = true;
                let row = client
                    .query_opt(statements::BLOCKER, &[])
                    .await
                    .map_err(|e| failed("looking for a blocker", &e))?;
                let pid: Option<i32> = row.and_then(|row| row.get(0));
                tracing::warn!(pid, seconds = FENCE_WARN.as_secs(), "a snapshot waits for an old transaction to end");
            }
            tokio::time::sleep(FENCE_POLL).await;
        }
        Ok(())
    }

    async fn fence_passed(&self, job: JobId, fence: Xid) -> Result<Input<'static>> {
        let client = self.client().await;
        self.fence(&client, fence).await?;
        let row = client.query_one(statements::CHUNK_FENCE, &[]).await.map_err(|e| failed("the log's position", &e))?;
        Ok(Input::FencePassed { job, insert_lsn: parse(row.get(1))? })
    }

    async fn leaves(&self, job: JobId, relation: RelationId) -> Result<Input<'static>> {
        let client = self.chunk_client(job).await?;
        let leaves = sampling::leaves(&*client.lock().await, relation).await?;
        Ok(Input::Leaves { job, leaves })
    }

    async fn chunk_client(&self, job: JobId) -> Result<Arc<Mutex<Client>>> {
        if let Some(client) = self.chunks.lock().await.get(&job) {
            return Ok(client.clone());
        }
        let client = Arc::new(Mutex::new(sql::connect(&self.source).await?));
        self.chunks.lock().await.insert(job, client.clone());
        Ok(client)
    }

    async fn open_chunk(&self, job: JobId, fence: Xid) -> Result<Input<'static>> {
        self.fence(&*self.client().await, fence).await?;
        let client = self.chunk_client(job).await?;
        let client = client.lock().await;
        let doing = |e| failed("a chunk's fence", &e);
        client.batch_execute(statements::CHUNK_BEGIN).await.map_err(doing)?;
        let row = client.query_one(statements::CHUNK_FENCE, &[]).await.map_err(doing)?;
        let (snapshot, insert_lsn) = (parse(row.get(0))?, parse(row.get(1))?);
        let timestamp = crate::postgres::unix_micros();
        Ok(Input::ChunkOpened { job, snapshot, insert_lsn, timestamp })
    }

    async fn close_chunk(&self, job: JobId) -> Result<()> {
        let client = self.chunk_client(job).await?;
        let client = client.lock().await;
        client.batch_execute(statements::CHUNK_END).await.map_err(|e| failed("ending a chunk", &e))
    }

    async fn read_chunk(&self, job: JobId, relation: RelationId, range: Range) -> Result<ChunkOutcome> {
        let client = self.chunk_client(job).await?;
        let client = client.lock().await;
        let shared = self.client().await;
        let begin = std::time::Instant::now();
        let outcome = read_range(&client, &shared, relation, &range).await;
        let end = client.batch_execute(statements::CHUNK_END).await;
        let mut outcome = outcome?;
        end.map_err(|e| failed("ending a chunk", &e))?;
        if let ChunkOutcome::Read(chunk) = &mut outcome {
            chunk.micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        }
        Ok(outcome)
    }

    async fn read_keys(&self, wanted: WantedKeys) -> Result<Input<'static>> {
        let (keys, job) = (self.keys.clone(), wanted.job);
        let page = tokio::task::spawn_blocking(move || keys.page(&wanted)).await;
        let page = page.map_err(|_| Error::definite(Code::Internal, "the reading of a topic's keys died"))??;
        Ok(Input::KeysRead { job, page })
    }

    async fn look_up(&self, job: JobId, wanted: Wanted) -> Result<LookupOutcome> {
        let client = self.chunk_client(job).await?;
        let client = client.lock().await;
        let shared = self.client().await;
        let as_text = self.as_text.lock().await.contains(&job);
        let looked = lookup::look_up(&client, &shared, &wanted, as_text).await;
        let end = client.batch_execute(statements::CHUNK_END).await;
        let looked = looked?;
        end.map_err(|e| failed("ending a lookup", &e))?;
        Ok(match looked {
            Looked::Read(lookup) => LookupOutcome::Read(Box::new(lookup)),
            Looked::Moved => LookupOutcome::Retry,
            Looked::Unparsable => {
                self.as_text.lock().await.insert(job);
                LookupOutcome::Retry
            }
        })
    }

    /// Probes the catalog every second, samples what changed, and writes a heartbeat every ten seconds; for good.
    pub async fn watch(self, watched: Watched) {
        let mut watch = Watch { probe: None, last_heartbeat: tokio::time::Instant::now(), watched };
        let mut interval = tokio::time::interval(PROBE_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = watch.once(&self).await {
                self.answer(Err(error));
                return;
            }
        }
    }
}

/// A pause before the next look for a transaction, unless it took too long.
async fn wait_for(sees: u32, end: tokio::time::Instant) -> Result<()> {
    if tokio::time::Instant::now() >= end {
        let seconds = SAMPLE_WAIT.as_secs();
        let message =
            format!("transaction {sees} was delivered, and after {seconds} s it is invisible or its table locked");
        return Err(Error::transient(Code::SourceStatement, message).hint(
            "a synchronous standby does not confirm (see `synchronous_standby_names`), or somebody holds a lock on the table",
        ));
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(())
}

/// What is watched.
pub struct Watched {
    /// Contracted tables.
    pub relations: Vec<RelationId>,
    /// Their names in the contracts.
    pub names: Vec<QualifiedName>,
    /// Tables that must stay in their publications.
    pub members: Vec<Member>,
    /// The slot.
    pub slot: String,
    /// Takes what the server says of the slot.
    pub retention: Box<dyn Fn(Retention) + Send>,
}

/// What the server says of the slot, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Log behind the flush position that is not acknowledged.
    pub lag: i64,
    /// Log kept for the slot.
    pub retained: i64,
    /// Room before the slot loses log; absent without a limit.
    pub safe: Option<i64>,
}

struct Watch {
    watched: Watched,
    probe: Option<Fingerprints>,
    last_heartbeat: tokio::time::Instant,
}

impl Watch {
    async fn once(&mut self, worker: &Worker) -> Result<()> {
        let client = worker.client().await;
        publication::check(&client, &self.watched.members).await?;
        let now = sampling::probe(&client, &self.watched.relations).await?;
        let due = self.last_heartbeat.elapsed() >= HEARTBEAT_EVERY;
        if due || self.probe.as_ref().is_none_or(|before| before.tables != now.tables) {
            let mut sample = sampling::sample(&client, &self.watched.relations).await?;
            for name in &self.watched.names {
                sample.names.push((name.clone(), table_by_name(&client, name).await?));
            }
            // Names were looked up a little later than the images; so the position is taken again.
            let row =
                client.query_one(statements::CHUNK_FENCE, &[]).await.map_err(|e| failed("the log's position", &e))?;
            sample.insert_lsn = parse(row.get(1))?;
            worker.answer(Ok(Input::Sample(sample)));
            self.probe = Some(now);
        }
        if due {
            self.last_heartbeat = tokio::time::Instant::now();
            heartbeat(&client).await?;
        }
        let row = client
            .query_opt(statements::RETENTION, &[&self.watched.slot])
            .await
            .map_err(|e| failed("looking at the slot", &e))?;
        if let Some(row) = row {
            (self.watched.retention)(Retention { lag: row.get(2), retained: row.get(0), safe: row.get(1) });
        }
        Ok(())
    }
}

/// The snapshot of this moment.
pub async fn snapshot(client: &Client) -> Result<Snapshot> {
    let row = client.query_one(statements::SNAPSHOT, &[]).await.map_err(|e| failed("reading the snapshot", &e))?;
    parse(row.get(0))
}

/// A transaction id above all that were given out so far.
///
/// The snapshot's `xmax` alone can lie below a transaction that is in the stream already: one whose commit is written and
/// waits for a synchronous standby counts as running, and only the end of a later one moves `xmax` past it. So a
/// transaction of our own comes first.
pub async fn fence(client: &Client) -> Result<Xid> {
    heartbeat(client).await?;
    Ok(snapshot(client).await?.xmax)
}

/// Writes a heartbeat: a small transaction that ends at once.
async fn heartbeat(client: &Client) -> Result<()> {
    let nonce = crate::postgres::nonce();
    client.query(statements::HEARTBEAT, &[&nonce]).await.map_err(|e| failed("a heartbeat", &e))?;
    Ok(())
}

/// Which table a name means.
pub async fn table_by_name(client: &Client, name: &QualifiedName) -> Result<Option<RelationId>> {
    let row = client
        .query_opt(statements::TABLE_BY_NAME, &[&name.namespace, &name.name])
        .await
        .map_err(|e| failed("looking for a table", &e))?;
    Ok(row.map(|row| RelationId(row.get(0))))
}

/// Where the log is flushed to.
pub async fn flush_lsn(client: &Client) -> Result<Lsn> {
    let row = client.query_one(statements::FLUSH_LSN, &[]).await.map_err(|e| failed("reading the log's end", &e))?;
    parse(row.get(0))
}

pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| {
        Error::definite(Code::SourceProtocol, "the server printed a snapshot or log position that does not parse")
    })
}

struct Range {
    leaf: Leaf,
    attnums: Vec<i16>,
    from: Tid,
    to_block: u32,
    rows_max: usize,
    bytes_max: usize,
}

/// The names that the attribute numbers have in this image, unless one is not an ordinary column any more.
pub(super) fn names<'a>(image: &'a TableImage, attnums: &[i16]) -> Option<Vec<&'a str>> {
    let column = |attnum: &i16| image.attnum(*attnum).filter(|c| c.kind == crate::table::ColumnKind::Ordinary);
    attnums.iter().map(|attnum| column(attnum).map(|column| column.name.as_str())).collect()
}

/// Reads one range under the open snapshot. Names are resolved when the statement runs, not under its snapshot: so the
/// table's image is read on another connection before and again after, while the read still holds its lock.
async fn read_range(client: &Client, shared: &Client, relation: RelationId, range: &Range) -> Result<ChunkOutcome> {
    // A table or column that is gone is for the stream to tell, at its place in the log; until then there is nothing to read.
    let Some(before) = sampling::sample(shared, &[relation]).await?.images.pop() else {
        return Ok(ChunkOutcome::Retry);
    };
    let Some(columns) = names(&before, &range.attnums) else { return Ok(ChunkOutcome::Retry) };
    let Some(leaf) = sampling::leaf_name(shared, range.leaf.relation).await? else { return Ok(ChunkOutcome::Restart) };
    let to = Tid { block: range.to_block, offset: 0 };
    let statement = statements::CHUNK_COPY
        .replace("{columns}", &columns.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>().join(", "))
        .replace("{leaf}", &format!("{}.{}", quote_identifier(&leaf.namespace), quote_identifier(&leaf.name)))
        .replace("{from}", &range.from.to_string())
        .replace("{to}", &to.to_string())
        // One more, which tells where the next range begins.
        .replace("{limit}", &range.rows_max.saturating_add(1).to_string());
    let mut reader = CopyReader::new(range.attnums.clone(), range.from, range.rows_max, range.bytes_max);
    let rows = match client.copy_out(statement.as_str()).await {
        Ok(rows) => rows,
        Err(error) => return retry_or(error),
    };
    pin_mut!(rows);
    while let Some(line) = rows.next().await {
        match line {
            Ok(line) => {
                reader.line(&line)?;
            }
            Err(error) => return retry_or(error),
        }
    }
    let row = client
        .query_one(statements::FILENODE, &[&range.leaf.relation.0])
        .await
        .map_err(|e| failed("asking for a leaf's file", &e))?;
    let Some(filenode) = row.get::<_, Option<u32>>(0) else { return Ok(ChunkOutcome::Restart) };
    let Some(after) = sampling::sample(shared, &[relation]).await?.images.pop() else { return Ok(ChunkOutcome::Retry) };
    if names(&after, &range.attnums).as_ref() != Some(&columns) {
        return Ok(ChunkOutcome::Retry);
    }
    let mut chunk = reader.finish(to);
    chunk.filenode = filenode;
    chunk.image = Some(after);
    Ok(ChunkOutcome::Read(Box::new(chunk)))
}

/// A table or column that is gone under its name, or a lost race for a lock: read again. Anything else is an error.
fn retry_or(error: tokio_postgres::Error) -> Result<ChunkOutcome> {
    use tokio_postgres::error::SqlState;
    match error.code() {
        Some(code) if *code == SqlState::UNDEFINED_COLUMN => Ok(ChunkOutcome::Retry),
        Some(code) if *code == SqlState::UNDEFINED_TABLE => Ok(ChunkOutcome::Restart),
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED => {
            Ok(ChunkOutcome::Retry)
        }
        _ => Err(failed("reading a snapshot chunk", &error)),
    }
}
