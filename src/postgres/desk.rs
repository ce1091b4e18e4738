//! Hands requests to the worker: those of one copy run in their order, all others side by side.
//!
//! A chunk's end and the next one's begin use one connection; if they overtook each other, the next read would show
//! another snapshot than its fence. Dropping the desk ends every request that is under way, and with it the connections.

use std::collections::HashMap;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::engine::{JobId, Request};
use crate::error::{Code, Error, Result};
use crate::postgres::worker::Worker;

/// Where a session leaves its requests.
pub struct Desk {
    worker: Worker,
    runtime: Handle,
    queues: HashMap<JobId, UnboundedSender<Request>>,
    tasks: JoinSet<()>,
}

impl Desk {
    /// A desk in front of a worker.
    pub fn new(worker: Worker, runtime: Handle) -> Desk {
        Desk { worker, runtime, queues: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Takes a request; its answer comes on the worker's channel.
    ///
    /// Errors: an earlier request died without an answer.
    pub fn submit(&mut self, request: Request) -> Result<()> {
        while let Some(ended) = self.tasks.try_join_next() {
            ended.map_err(|_| Error::definite(Code::Internal, "a request to the source died without an answer"))?;
        }
        let Some(job) = request.job() else {
            self.tasks.spawn_on(self.worker.clone().run(request), &self.runtime);
            return Ok(());
        };
        let last = matches!(request, Request::EndCopy { .. });
        let (tasks, worker, runtime) = (&mut self.tasks, &self.worker, &self.runtime);
        let queue = self.queues.entry(job).or_insert_with(|| {
            let (queue, requests) = unbounded_channel();
            tasks.spawn_on(run_in_order(worker.clone(), requests), runtime);
            queue
        });
        // A queue ends after the last request of its copy, and only then.
        let sent = queue.send(request);
        if last {
            self.queues.remove(&job);
        }
        sent.map_err(|_| Error::definite(Code::Internal, "the queue of a copy has ended"))
    }
}

async fn run_in_order(worker: Worker, mut requests: UnboundedReceiver<Request>) {
    while let Some(request) = requests.recv().await {
        worker.clone().run(request).await;
    }
}
