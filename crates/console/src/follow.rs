//! Following the journal: `GET /v1/journal/follow`, an event stream (HTML standard, 9.2) of one `record` event for each
//! record, whose id is its cursor. A follower that comes back with `Last-Event-ID` goes on where it was, so nothing is
//! missed and nothing comes twice. Records of another process, at a hand-over, come as well: the journal is read by
//! cursor at least each [`Pace::look`], whether or not this process told something.
//!
//! ```text
//! following => ended     the node has stopped, the next process serves, the server is stopped, the follower left, or a
//!                        connection's life is over
//! following => dropped   the follower took nothing for [`Pace::patience`]; a comment says so
//! following => following the journal cannot be read: a comment says so once, and it is tried again
//! ```
//! Limits: [`MAX_FOLLOWERS`]; [`AHEAD`] events and [`PAGE`] records of each in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use hyper::body::{Bytes, Frame};
use kernel::journal::{JournalQuery, Order, Record};
use kernel::{Drain, DrainPhase};
use tokio::sync::mpsc::{self, OwnedPermit, Sender};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::MissedTickBehavior;

use crate::admin::Shared;
use crate::journal_api::now_unix_ms;
use crate::problem::{Problem, ProblemCode};
use crate::query::{self, wrong};
use crate::view::Node;

/// Followers at a time: each has a task and reads the disk.
pub(crate) const MAX_FOLLOWERS: usize = 64;

/// Events that wait for a follower.
const AHEAD: usize = 64;

/// Records that are read at a time.
const PAGE: usize = 256;

/// What a follower does after its connection broke: it waits so many milliseconds.
const RETRY: &str = "retry: 1000\n\n";

/// How long things take.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two looks, if nothing was told.
    look: Duration,
    /// Between two signs of life.
    alive: Duration,
    /// What a follower may take to take one event.
    patience: Duration,
    /// The whole stream.
    life: Duration,
}

/// One who follows.
struct Follower {
    node: Arc<dyn Node>,
    wanted: JournalQuery,
    /// When it came.
    from_unix_ms: u64,
    changes: watch::Receiver<u64>,
    drain: Drain,
    stop: watch::Receiver<bool>,
    pace: Pace,
    events: Sender<Bytes>,
    /// Room for the last word to a follower that takes nothing.
    last: Option<OwnedPermit<Bytes>>,
    /// What it was told that is wrong with the journal.
    trouble: String,
    slot: Option<OwnedSemaphorePermit>,
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The follower left.
    Gone,
    /// It takes nothing.
    Slow,
}

/// What a follower's turn is.
enum Next {
    Look,
    Alive,
    LastLook,
    End,
}

/// `GET /v1/journal/follow`.
pub(crate) async fn follow(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let from_unix_ms = now_unix_ms(&shared);
    let mut wanted = query::follow(query.as_deref(), from_unix_ms)?;
    wanted.limit = PAGE;
    if let Some(id) = headers.get("last-event-id") {
        let place = id.to_str().ok().and_then(|text| text.trim().parse().ok());
        wanted.after =
            Some(place.ok_or_else(|| wrong("Last-Event-ID", "it is the cursor of a record, a whole number"))?);
    }
    let Ok(slot) = shared.followers().try_acquire_owned() else {
        let detail =
            format!("{MAX_FOLLOWERS} follow it already; read GET /v1/journal?after=CURSOR, or end one of them");
        return Err(Problem::new(ProblemCode::FollowersFull, detail));
    };
    let limits = shared.limits();
    let pace = Pace {
        look: Duration::from_secs(1),
        alive: Duration::from_secs(15),
        patience: limits.request,
        life: limits.lifetime,
    };
    let (events, stream) = mpsc::channel(AHEAD + 1);
    let last = events.clone().try_reserve_owned().ok();
    let follower = Follower {
        node: Arc::clone(shared.node()),
        changes: shared.node().journal_changes(),
        drain: shared.drain(),
        stop: shared.stop(),
        wanted,
        from_unix_ms,
        pace,
        events,
        last,
        trouble: String::new(),
        slot: Some(slot),
    };
    tokio::spawn(follower.run());
    let mut response = Body::new(Stream(stream)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

/// The events as they come: the body of an answer.
struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Follower {
    async fn run(mut self) {
        if self.stream().await == Err(End::Slow)
            && let Some(last) = self.last.take()
        {
            last.send(Bytes::from_static(b": nothing was taken for too long; come back with Last-Event-ID\n\n"));
        }
        drop(self.slot.take());
    }

    async fn stream(&mut self) -> Result<(), End> {
        let life = tokio::time::sleep(self.pace.life);
        tokio::pin!(life);
        let mut alive = tokio::time::interval(self.pace.alive);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        alive.reset();
        let gone = self.events.clone();
        // The next process has the same journal, and what this one still tells: whoever comes back goes on there.
        let mut handed_over = self.drain.clone();
        self.begin().await?;
        loop {
            // What is told while it is read is looked for again.
            self.changes.borrow_and_update();
            self.catch_up().await?;
            let next = tokio::select! {
                () = self.drain.reached(DrainPhase::Closed) => Next::LastLook,
                () = handed_over.handed_over() => Next::LastLook,
                _ = self.stop.wait_for(|told| *told) => Next::End,
                () = &mut life => Next::End,
                () = gone.closed() => return Err(End::Gone),
                _ = alive.tick() => Next::Alive,
                () = told(&mut self.changes, self.pace.look) => Next::Look,
            };
            match next {
                Next::Look => {}
                Next::Alive => self.send(": alive\n\n".to_owned()).await?,
                Next::LastLook => return self.catch_up().await,
                Next::End => return Ok(()),
            }
        }
    }

    /// Finds the place to begin at: the end of what is kept, unless the follower names one. A place beyond the end is one
    /// in a journal that is no more: the end counts then. Where the end cannot be known now, what happens from now on is
    /// told once it is kept.
    async fn begin(&mut self) -> Result<(), End> {
        let place = self.wanted.after;
        match (place, self.end().await?) {
            (None, Some(end)) => self.wanted.after = Some(end),
            (None, None) => {
                self.wanted.after = Some(0);
                self.wanted.since_unix_ms = self.wanted.since_unix_ms.max(Some(self.from_unix_ms));
            }
            (Some(place), Some(end)) if place > end => {
                self.wanted.after = Some(end);
                self.send(format!(": {place} is beyond the end of the journal, which is {end}\n\n")).await?;
            }
            (Some(_), _) => {}
        }
        // From here on it is known what will come. Whoever has to come back before anything has happened knows its place.
        let place = self.wanted.after.filter(|place| *place > 0).map(|place| format!("id: {place}\n"));
        self.send(format!("{}{RETRY}", place.unwrap_or_default())).await
    }

    /// The cursor of the newest record; `None` if it cannot be known now.
    async fn end(&mut self) -> Result<Option<u64>, End> {
        // Who asks for cursors is not shown what has none yet.
        let kept = JournalQuery { after: Some(0), limit: 1, ..JournalQuery::default() };
        let Some(kept) = self.read(kept).await? else { return Ok(None) };
        if let Some(newest) = kept.first() {
            return Ok(Some(newest.cursor));
        }
        // Nothing is kept because nothing has happened, or because the file is away and memory answers.
        let all = self.read(JournalQuery { limit: 1, ..JournalQuery::default() }).await?;
        Ok(all.filter(Vec::is_empty).map(|_| 0))
    }

    /// Tells everything that has come.
    async fn catch_up(&mut self) -> Result<(), End> {
        loop {
            let Some(records) = self.read(self.wanted.clone()).await? else { return Ok(()) };
            let is_all = records.len() < PAGE;
            for record in &records {
                self.send(event(record)).await?;
                self.wanted.after = Some(record.cursor);
            }
            if is_all {
                return Ok(());
            }
        }
    }

    /// A page of the journal; `None` if it cannot be read, of which the follower is told once.
    async fn read(&mut self, query: JournalQuery) -> Result<Option<Vec<Record>>, End> {
        debug_assert!(query.limit == 1 || query.order == Order::OldestFirst);
        let node = Arc::clone(&self.node);
        let trouble = match tokio::task::spawn_blocking(move || node.journal().read(&query)).await {
            Ok(Ok(page)) => {
                self.trouble.clear();
                return Ok(Some(page.records));
            }
            Ok(Err(error)) => crate::words::tame(&error.to_string()),
            Err(error) => {
                tracing::error!(%error, "reading the journal for a follower did not end");
                "reading it broke off".to_owned()
            }
        };
        if trouble != self.trouble {
            self.send(format!(": the journal cannot be read now: {trouble}\n\n")).await?;
            self.trouble = trouble;
        }
        Ok(None)
    }

    async fn send(&self, event: String) -> Result<(), End> {
        match tokio::time::timeout(self.pace.patience, self.events.send(event.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow),
        }
    }
}

/// Ends when this process has told something, and after `most` in any case.
async fn told(changes: &mut watch::Receiver<u64>, most: Duration) {
    // Nothing more is told by a process whose journal is closed; another one may go on.
    if let Ok(Err(_closed)) = tokio::time::timeout(most, changes.changed()).await {
        tokio::time::sleep(most).await;
    }
}

fn event(record: &Record) -> String {
    // A record is plain data, which JSON always has a form for; it has no line break of its own.
    let data = serde_json::to_string(record).unwrap_or_default();
    format!("id: {}\nevent: record\ndata: {data}\n\n", record.cursor)
}
