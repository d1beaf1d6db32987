//! One request from its whole head to the last byte of its answer: decide, find a connection, attempt, relay, record.
//!
//! A request is sent a second time only where that is proven safe: to the next endpoint if no connection came about,
//! and once more, on a new connection, if a reused one ended before the first byte of an answer and either nothing was
//! sent or the method is idempotent and all of the request is at hand (`policy::retry`).

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use kernel::{ErrorCode, Moment};
use policy::balance::{self, Fleet};
use policy::{keepalive, retry};

use crate::access::Entry;
use crate::attempt::{Attempt, Fault};
use crate::buf::Buf;
use crate::conn::{self, Client, Next};
use crate::core::{Core, Held, Scratch};
use crate::decide::{self, Act};
use crate::facts::{Facts, View};
use crate::forward::{self, Answer, Outgoing};
use crate::h1::Framing;
use crate::pace::{Pace, Verdict};
use crate::plan::{EndpointPlan, RoutePlan, ServicePlan};
use crate::pool::{AcquireError, Reuse, UpConn};
use crate::problem::{self, Frame};
use crate::relay::{Relay, RelayParts, Relayed};
use crate::state::{EndpointState, NO_ANSWER, class_of};
use crate::tunnel;
use crate::upload::{Upload, UploadFault};

/// Interim answers (1xx) to one request, at most.
const INTERIM_MAX: u32 = 32;

/// A request that is being served.
struct Serving<'a> {
    core: &'a Rc<Core>,
    client: &'a mut Client,
    buf: &'a mut Buf,
    scratch: &'a mut Scratch,
    held: &'a Held,
    facts: Facts,
    route: Option<usize>,
    service: Option<usize>,
    /// Cross-origin fields for the answer.
    extra: Vec<(&'static str, String)>,
    rewritten: bool,
    /// Bytes of this request (head and small body) that are still at the front of the buffer.
    unread: usize,
    /// For the record.
    endpoint: Option<Arc<EndpointState>>,
    attempts: u32,
    reused: bool,
    bytes_in: u64,
    bytes_out: u64,
}

/// How a request ended.
struct End {
    status: u16,
    code: Option<ErrorCode>,
    next: Next,
    /// Whether the client got an answer, and all of it.
    whole: bool,
    /// When it ended, if the clock was read then.
    at: Option<Moment>,
}

/// Why no answer came from a service.
struct Failure {
    code: ErrorCode,
    detail: String,
    next: Next,
}

/// Counts an attempt as long as it lasts.
struct InFlight<'a>(&'a EndpointState);

impl<'a> InFlight<'a> {
    fn new(endpoint: &'a EndpointState) -> InFlight<'a> {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(endpoint)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A service's endpoints as the balancer sees them.
struct Candidates<'a> {
    endpoints: &'a [Arc<EndpointState>],
    /// Bit per endpoint; those beyond 128 count as untried, and the number of attempts bounds the loop.
    tried: u128,
}

impl Fleet for Candidates<'_> {
    fn len(&self) -> usize {
        self.endpoints.len()
    }

    fn in_flight(&self, i: usize) -> u32 {
        self.endpoints[i].in_flight.load(Ordering::Relaxed)
    }

    fn usable(&self, i: usize) -> bool {
        self.endpoints[i].healthy.load(Ordering::Relaxed)
    }

    fn tried(&self, i: usize) -> bool {
        i < 128 && self.tried & (1 << i) != 0
    }
}

/// Serves the request whose head is whole at the front of `buf`.
pub(crate) async fn serve(core: &Rc<Core>, client: &mut Client, buf: &mut Buf, scratch: &mut Scratch) -> Next {
    let held = core.held();
    let plan = &held.snapshot.plan;
    client.requests += 1;
    scratch.out.clear();
    scratch.answer.clear();
    let facts = Facts::read(core, &held, client.peer.ip(), buf.filled(), scratch);
    let Scratch { request, path, .. } = scratch;
    let view = View { buf: buf.filled(), head: request.head() };
    let decision = decide::decide(core, plan, &facts, view, path);
    if let Some(route) = decision.route {
        held.snapshot.routes[route].traffic.shard(core.index).started.inc();
    }
    let unread = facts.head_length;
    let mut serving = Serving {
        core,
        client,
        buf,
        scratch,
        held: &held,
        facts,
        route: decision.route,
        service: None,
        extra: Vec::new(),
        rewritten: false,
        unread,
        endpoint: None,
        attempts: 0,
        reused: false,
        bytes_in: 0,
        bytes_out: 0,
    };
    let end = match decision.act {
        Act::Forward { service, extra, rewritten } => {
            serving.service = Some(service);
            (serving.extra, serving.rewritten) = (extra, rewritten);
            held.snapshot.services[service].traffic.shard(core.index).started.inc();
            match serving.forward(&plan.services[service]).await {
                Ok(end) => end,
                Err(failure) => serving.fail(failure).await,
            }
        }
        Act::Refuse(code, detail) => {
            let next = serving.discard();
            serving.fail(Failure { code, detail, next }).await
        }
        Act::Answer(status, fields) => serving.answer_empty(status, &fields).await,
    };
    serving.record(&end);
    end.next
}

impl Serving<'_> {
    fn route_plan(&self) -> Option<&RoutePlan> {
        self.route.map(|r| &self.held.snapshot.plan.routes[r])
    }

    /// Whether the client's connection is kept behind a whole answer to a wholly read request.
    fn keeps(&self) -> bool {
        self.facts.keep_alive && !self.core.is_closing()
    }

    /// Drops what was read of the request; what comes next depends on whether all of it was.
    fn discard(&mut self) -> Next {
        let arrived = self.buf.len();
        let length = match self.facts.framing {
            Framing::None => Some(self.facts.head_length as u64),
            Framing::Length(n) => Some(n.saturating_add(self.facts.head_length as u64)),
            Framing::Chunked => None,
        };
        let whole = length.filter(|n| *n <= arrived as u64);
        self.buf.consume(whole.map_or(arrived, |n| n as usize));
        self.unread = 0;
        match whole {
            Some(_) if self.keeps() => Next::Keep,
            Some(_) => Next::Close,
            None => Next::Linger,
        }
    }

    /// Sends the request to the service until there is an answer, or none to be had.
    async fn forward(&mut self, service: &ServicePlan) -> Result<End, Failure> {
        let plan = &self.held.snapshot.plan;
        let timeout = self.route_plan().and_then(|r| r.timeout).unwrap_or(service.timeout);
        let max_body = self.route_plan().and_then(|r| r.max_body).unwrap_or(plan.edge.max_body);
        let streamed = match self.facts.framing {
            Framing::None => false,
            Framing::Length(n) if !self.facts.expects_continue && self.fits(n) => {
                self.read_small_body(n as usize).await?;
                false
            }
            _ => true,
        };
        let framing = if streamed { self.facts.framing } else { Framing::None };
        let now = if self.facts.framing == Framing::None { self.facts.started } else { self.core.clock().now() };
        let mut upload = Upload::new(framing, max_body, &plan.edge, now);
        let until = now + timeout;
        let repeatable = self.facts.idempotent && !streamed;
        let mut reuse = if repeatable { Reuse::Any } else { Reuse::Sure };
        let index = self.service.unwrap_or_default();
        let endpoints = &self.held.snapshot.endpoints[index];
        let mut candidates = Candidates { endpoints, tried: 0 };
        // One turn for each request: were a failed attempt another, two endpoints would take turns at failing.
        let turn = self.held.turn(index);
        let mut chosen = None;
        let mut refusals: Option<Failure> = None;
        loop {
            let exhausted = self.attempts as usize > endpoints.len().max(1);
            let at = match chosen.take() {
                Some(at) => Some(at),
                None if exhausted => None,
                None => balance::choose(service.balance, &candidates, turn),
            };
            let Some(at) = at else {
                return Err(refusals.unwrap_or_else(|| self.unreachable("no endpoint is known yet")));
            };
            let endpoint = &endpoints[at];
            let _in_flight = InFlight::new(endpoint);
            self.endpoint = Some(endpoint.clone());
            self.attempts += 1;
            endpoint.traffic.shard(self.core.index).started.inc();
            let mut conn = match self.acquire(endpoint, service, reuse, until).await {
                Ok(conn) => conn,
                Err(error) => {
                    self.end_attempt(endpoint, NO_ANSWER);
                    match error {
                        AcquireError::ClientGone => return Err(self.fault(Fault::ClientGone, false)),
                        AcquireError::Deadline => return Err(self.failed(ErrorCode::UpstreamTimeout, &error)),
                        AcquireError::Saturated => return Err(self.failed(ErrorCode::UpstreamSaturated, &error)),
                        AcquireError::Connect(_) | AcquireError::ConnectTimeout(_) => {
                            tracing::debug!(endpoint = endpoint.plan.name, %error, "connect failed");
                            refusals = Some(self.unreachable(&error.to_string()));
                            candidates.tried |= 1u128.checked_shl(at as u32).unwrap_or(0);
                            continue;
                        }
                    }
                }
            };
            self.reused = conn.reused;
            if self.scratch.out.is_empty() {
                self.write_out(service, &endpoint.plan, streamed);
            }
            match self.attempt(&mut conn, &mut upload, until, timeout).await {
                Ok(()) => return Ok(self.answer(service, endpoint, conn, upload).await),
                Err((fault, sent)) => {
                    self.end_attempt(endpoint, NO_ANSWER);
                    let silent = matches!(fault, Fault::Closed { silent: true });
                    let again = reuse == Reuse::Never;
                    let (method, _, _) = self.facts.seen(&self.scratch.seen);
                    if silent && retry::stale_connection(method, conn.reused, sent, 0, !streamed, again) {
                        self.core.commons_links(endpoint).stale_retries.inc();
                        reuse = Reuse::Never;
                        chosen = Some(at);
                        continue;
                    }
                    return Err(self.fault(fault, upload.is_done()));
                }
            }
        }
    }

    /// A connection to `endpoint`, for as long as the client is there to want it.
    async fn acquire(
        &mut self,
        endpoint: &Arc<EndpointState>,
        service: &ServicePlan,
        reuse: Reuse,
        until: Moment,
    ) -> Result<UpConn, AcquireError> {
        let Client { io, deadline, .. } = &mut *self.client;
        let buf = &mut *self.buf;
        let mut acquiring = std::pin::pin!(self.core.acquire(endpoint, service, reuse, deadline, until));
        std::future::poll_fn(|cx| match acquiring.as_mut().poll(cx) {
            Poll::Pending if conn::poll_gone(cx, io, buf) => Poll::Ready(Err(AcquireError::ClientGone)),
            polled => polled,
        })
        .await
    }

    /// Whether a body of `n` bytes fits into the buffer behind its head.
    fn fits(&self, n: u64) -> bool {
        n <= self.buf.capacity().saturating_sub(self.facts.head_length) as u64
    }

    /// Waits for a small body before an endpoint is asked: a slow client then costs a buffer and nothing else.
    async fn read_small_body(&mut self, n: usize) -> Result<(), Failure> {
        let want = self.facts.head_length + n;
        self.unread = want;
        self.bytes_in = n as u64;
        if self.buf.len() >= want {
            return Ok(());
        }
        let edge = &self.held.snapshot.plan.edge;
        let clock = self.core.clock();
        let mut pace = Pace::new(edge, edge.body_idle_timeout, clock.now());
        let (client, buf) = (&mut *self.client, &mut *self.buf);
        client.deadline.set(pace.next_look());
        let code = std::future::poll_fn(|cx| {
            while buf.len() < want {
                buf.make_room(buf.capacity());
                match buf.poll_fill(cx, &mut client.io) {
                    Poll::Ready(Ok(n)) if n > 0 => pace.add(n),
                    Poll::Ready(_) => return Poll::Ready(Some(ErrorCode::ClientGone)),
                    Poll::Pending => {
                        if client.deadline.poll(cx).is_pending() {
                            return Poll::Pending;
                        }
                        if pace.look(edge, edge.body_idle_timeout, true, clock.now()) != Verdict::Fine {
                            return Poll::Ready(Some(ErrorCode::RequestTimeout));
                        }
                        client.deadline.set(pace.next_look());
                    }
                }
            }
            Poll::Ready(None)
        })
        .await;
        match code {
            None => Ok(()),
            Some(code) => Err(Failure { code, detail: "the body of the request".to_owned(), next: Next::Linger }),
        }
    }

    /// Writes what goes to the endpoint, and drops it from the buffer.
    fn write_out(&mut self, service: &ServicePlan, endpoint: &EndpointPlan, streamed: bool) {
        const NO_EDITS: &crate::plan::HeaderEdits = &crate::plan::HeaderEdits { remove: Vec::new(), set: Vec::new() };
        let Scratch { request, out, path, id, .. } = &mut *self.scratch;
        let edits = self.route.map_or(NO_EDITS, |r| &self.held.snapshot.plan.routes[r].request_headers);
        Outgoing {
            buf: self.buf.filled(),
            head: request.head(),
            trusted: self.facts.trusted,
            peer: self.client.peer.ip(),
            request_id: self.facts.request_id(id),
            traceparent: self.facts.traceparent(id),
            path: self.rewritten.then_some(path.as_slice()),
            host: service.host.as_deref(),
            edits,
        }
        .write(endpoint, out);
        if !streamed {
            out.extend_from_slice(&self.buf.filled()[self.facts.head_length..self.unread]);
        }
        self.buf.consume(self.unread);
        self.unread = 0;
    }

    /// One attempt, interim answers included. An error tells how many bytes had been sent.
    async fn attempt(
        &mut self,
        conn: &mut UpConn,
        upload: &mut Upload,
        until: Moment,
        timeout: Duration,
    ) -> Result<(), (Fault, u64)> {
        self.scratch.response.reset();
        let mut attempt = Attempt {
            core: self.core,
            client: &mut *self.client,
            buf: &mut *self.buf,
            conn,
            edge: &self.held.snapshot.plan.edge,
            out: &self.scratch.out,
            sent: 0,
            upload,
            response: &mut self.scratch.response,
            to_head: self.facts.to_head,
            until,
            timeout,
            starves_at: Moment::MAX,
            awaits_continue: self.facts.expects_continue,
            starving: None,
            refused: false,
        };
        if !attempt.upload.is_over() {
            // The client was not asked for its body while the request waited for a connection.
            attempt.upload.restart_pace(attempt.edge, self.core.clock().now());
        } else if !attempt.conn.reused {
            attempt.watch_for_starving(self.core.clock().now());
        }
        for _ in 0..INTERIM_MAX {
            if let Err(fault) = attempt.head().await {
                return Err((fault, attempt.sent as u64));
            }
            let head = attempt.response.head();
            if head.status >= 200 || (head.status == 101 && self.facts.upgrade) {
                return Ok(());
            }
            if head.status == 101 {
                break;
            }
            // RFC 9110, 15.2: interim answers are passed on, but not 100 to who did not ask, nor any to HTTP/1.0.
            let buf = attempt.conn.buf.as_mut();
            let Some(buf) = buf else { break };
            let wanted = self.facts.http11 && (head.status != 100 || self.facts.expects_continue);
            if wanted {
                let interim = Answer {
                    buf: buf.filled(),
                    head,
                    request_id: b"",
                    chunked: false,
                    close: false,
                    http10: false,
                    edits: &crate::plan::HeaderEdits::default(),
                    extra: &[],
                };
                self.scratch.answer.clear();
                interim.write(&mut self.scratch.answer);
                if !attempt.client.send(&self.scratch.answer, attempt.until).await {
                    return Err((Fault::ClientGone, attempt.sent as u64));
                }
                self.scratch.answer.clear();
            }
            let (length, status) = (head.length, head.status);
            buf.consume(length);
            attempt.response.reset();
            if status == 100 {
                attempt.continued();
            }
        }
        Err((Fault::Malformed(crate::h1::HeadError::Status), attempt.sent as u64))
    }

    /// Sends the answer whose head has been parsed.
    async fn answer(
        &mut self,
        service: &ServicePlan,
        endpoint: &EndpointState,
        mut conn: UpConn,
        mut upload: Upload,
    ) -> End {
        let now = self.core.clock().now();
        let Some(mut upstream) = conn.buf.take() else {
            return End { status: 0, code: Some(ErrorCode::Internal), next: Next::Close, whole: false, at: None };
        };
        let head = self.scratch.response.head();
        let (status, framing) = (head.status, head.framing);
        if conn.reused && !conn.waited && self.attempts == 1 && self.facts.framing == Framing::None {
            endpoint.saw_first_byte(now.since(self.facts.started).as_micros() as u64);
        }
        if let Some(value) = head.keep_alive_value {
            conn.announced = keepalive::parse_keep_alive(value.of(upstream.filled()));
        }
        let keep_upstream = head.keep_alive && status != 101;
        let chunked = forward::is_chunked_for(framing, self.facts.http11);
        let delimited =
            chunked || matches!(framing, crate::h1::AnswerFraming::None | crate::h1::AnswerFraming::Length(_));
        let keep = self.keeps() && upload.is_done() && delimited;
        let edits = self.route.map(|r| &self.held.snapshot.plan.routes[r].response_headers);
        Answer {
            buf: upstream.filled(),
            head,
            request_id: self.facts.request_id(&self.scratch.id),
            chunked,
            close: !keep,
            http10: !self.facts.http11,
            edits: edits.unwrap_or(&crate::plan::HeaderEdits::default()),
            extra: &self.extra,
        }
        .write(&mut self.scratch.answer);
        upstream.consume(head.length);
        if status == 101 {
            return self.tunnel(endpoint, conn, upstream).await;
        }
        let mut relay = Relay::new(RelayParts {
            core: self.core,
            client: &mut *self.client,
            request: &mut *self.buf,
            edge: &self.held.snapshot.plan.edge,
            service,
            upload: &mut upload,
            conn,
            buf: upstream,
            answer: &mut self.scratch.answer,
            framing,
            chunked,
            keep: keep_upstream,
            now,
        });
        if relay.is_broken() {
            self.core.buffers.give(relay.buf);
            self.end_attempt(endpoint, NO_ANSWER);
            let next = if upload.is_done() { Next::Keep } else { Next::Linger };
            let detail = "the chunked coding of its body is broken".to_owned();
            return self.fail(Failure { code: ErrorCode::UpstreamMalformed, detail, next }).await;
        }
        let relayed = relay.run().await;
        self.bytes_out = relay.sent;
        self.core.buffers.give(relay.buf);
        self.bytes_in = self.bytes_in.max(upload.total());
        let code = match relayed {
            Relayed::Complete => None,
            Relayed::ClientGone => Some(ErrorCode::ClientGone),
            Relayed::ClientSlow => Some(ErrorCode::RequestTimeout),
            Relayed::Truncated => Some(ErrorCode::UpstreamTruncated),
            Relayed::Stalled => Some(ErrorCode::UpstreamTimeout),
        };
        if code.is_some() && !delimited {
            // The client would take a plain close for the end of the body.
            let _reset = socket2::SockRef::from(&self.client.io).set_linger(Some(Duration::ZERO));
        }
        self.end_attempt(endpoint, if relayed == Relayed::Truncated { NO_ANSWER } else { class_of(status) });
        let next = match relayed {
            Relayed::Complete if keep => Next::Keep,
            Relayed::Complete if !upload.is_done() => Next::Linger,
            _ => Next::Close,
        };
        End { status, code, next, whole: relayed == Relayed::Complete, at: None }
    }

    /// Answers 101 and passes bytes both ways until the tunnel ends.
    async fn tunnel(&mut self, endpoint: &EndpointState, mut conn: UpConn, down: Buf) -> End {
        let edge = &self.held.snapshot.plan.edge;
        let until = self.core.clock().now() + edge.body_idle_timeout;
        let sent = self.client.send(&self.scratch.answer, until).await;
        self.core.edge().tunnels.inc();
        self.end_attempt(endpoint, class_of(101));
        if !sent {
            return End { status: 101, code: Some(ErrorCode::ClientGone), next: Next::Close, whole: false, at: None };
        }
        let up = std::mem::replace(self.buf, self.core.buffers.take());
        let idle = edge.tunnel_idle_timeout;
        let at = self.core.clock().now();
        let bytes = tunnel::run(self.core, self.client, &mut conn.io, up, down, idle).await;
        (self.bytes_in, self.bytes_out) = bytes;
        End { status: 101, code: None, next: Next::Close, whole: true, at: Some(at) }
    }

    fn end_attempt(&self, endpoint: &EndpointState, class: usize) {
        let us = self.core.clock().now().since(self.facts.started).as_micros() as u64;
        endpoint.traffic.shard(self.core.index).ended(class, us);
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure { code: ErrorCode::UpstreamUnreachable, detail: why.to_owned(), next: Next::Keep }
    }

    fn failed(&self, code: ErrorCode, error: &AcquireError) -> Failure {
        Failure { code, detail: error.to_string(), next: Next::Keep }
    }

    /// What a fault means for the client.
    fn fault(&self, fault: Fault, read_whole: bool) -> Failure {
        let next = if read_whole { Next::Keep } else { Next::Linger };
        let (code, detail, next) = match fault {
            Fault::Closed { silent: true } => (ErrorCode::UpstreamClosed, "before the first byte".to_owned(), next),
            Fault::Closed { silent: false } => (ErrorCode::UpstreamClosed, "within the head".to_owned(), next),
            Fault::Malformed(error) => (ErrorCode::UpstreamMalformed, error.to_string(), next),
            Fault::Timeout => (ErrorCode::UpstreamTimeout, "the request's time is up".to_owned(), next),
            Fault::ClientGone => (ErrorCode::ClientGone, String::new(), Next::Close),
            Fault::ClientSlow => (ErrorCode::RequestTimeout, "the body of the request".to_owned(), Next::Linger),
            Fault::Body(UploadFault::TooLarge) => {
                (ErrorCode::BodyTooLarge, "the body grew beyond the limit".to_owned(), Next::Linger)
            }
            Fault::Body(UploadFault::Malformed(e)) => (ErrorCode::MalformedRequest, e.to_string(), Next::Linger),
            Fault::Body(UploadFault::ClientGone) => (ErrorCode::ClientGone, String::new(), Next::Close),
            Fault::Body(UploadFault::Upstream(e)) => (ErrorCode::UpstreamClosed, e.to_string(), next),
        };
        Failure { code, detail, next }
    }

    /// Answers with an error that the gateway makes.
    async fn fail(&mut self, failure: Failure) -> End {
        let Failure { code, detail, mut next } = failure;
        if self.unread > 0 && next == Next::Keep {
            next = self.discard();
        }
        if next == Next::Keep && !self.keeps() {
            next = Next::Close;
        }
        if code == ErrorCode::ClientGone {
            return End { status: code.status(), code: Some(code), next: Next::Close, whole: false, at: None };
        }
        let frame = Frame {
            request_id: self.facts.request_id(&self.scratch.id),
            close: next != Next::Keep,
            to_head: self.facts.to_head,
            http10: !self.facts.http11,
        };
        let answer = &mut self.scratch.answer;
        answer.clear();
        let route = self.route.map(|r| &self.held.snapshot.plan.routes[r]);
        let paged = self.facts.wants_html && route.is_some_and(|r| problem::write_page(answer, frame, code, r));
        if !paged {
            problem::write(answer, frame, code, &detail);
        }
        self.bytes_out = answer.len() as u64;
        let until = self.core.clock().now() + self.held.snapshot.plan.edge.body_idle_timeout;
        let sent = self.client.send(&self.scratch.answer, until).await;
        if !sent {
            next = Next::Close;
        }
        End { status: code.status(), code: Some(code), next, whole: sent, at: None }
    }

    /// Answers without a body: a redirect or a preflight answer.
    async fn answer_empty(&mut self, status: u16, fields: &[(&'static str, String)]) -> End {
        let mut next = self.discard();
        let frame = Frame {
            request_id: self.facts.request_id(&self.scratch.id),
            close: next != Next::Keep,
            to_head: self.facts.to_head,
            http10: !self.facts.http11,
        };
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        problem::write_empty(&mut self.scratch.answer, frame, status, &fields);
        let until = self.core.clock().now() + self.held.snapshot.plan.edge.body_idle_timeout;
        let sent = self.client.send(&self.scratch.answer, until).await;
        if !sent {
            next = Next::Close;
        }
        End { status, code: None, next, whole: sent, at: None }
    }

    /// Counts the request and writes its line.
    fn record(&self, end: &End) {
        let core = self.core;
        let at = end.at.unwrap_or_else(|| core.clock().now());
        let took = at.since(self.facts.started);
        let us = took.as_micros() as u64;
        // An answer that broke off is no answer, whatever its status said.
        let class = if end.whole { class_of(end.status) } else { NO_ANSWER };
        let snapshot = &self.held.snapshot;
        if let Some(route) = self.route {
            snapshot.routes[route].traffic.shard(core.index).ended(class, us);
        }
        if let Some(service) = self.service {
            snapshot.services[service].traffic.shard(core.index).ended(class, us);
        }
        let edge = core.edge();
        edge.bytes_out.add(self.bytes_out);
        if let Some(code) = end.code {
            edge.errors[code.index()].inc();
        }
        let Some(log) = &snapshot.plan.access_log else { return };
        let noteworthy = end.status >= 500 || end.code.is_some();
        if !noteworthy && log.sample < 1.0 && core.entropy.borrow_mut().unit() >= log.sample {
            return;
        }
        let (method, target, host) = self.facts.seen(&self.scratch.seen);
        core.commons.access.log(
            log,
            &Entry {
                at: core.clock().wall_at(at),
                client: self.facts.client,
                method,
                target,
                host,
                status: end.status,
                code: end.code,
                took,
                bytes_in: self.bytes_in,
                bytes_out: self.bytes_out,
                route: self.route_plan().map(|r| r.name.as_str()),
                service: self.service.map(|s| snapshot.plan.services[s].name.as_str()),
                endpoint: self.endpoint.as_ref().map(|e| e.plan.name.as_str()),
                attempts: self.attempts,
                reused: self.reused,
                request_id: self.facts.request_id(&self.scratch.id),
            },
        );
    }
}
